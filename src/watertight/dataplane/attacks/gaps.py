"""What the probes of Envoy's channels leave out, by the declaration: told before what was tried."""

from collections.abc import Iterator

from watertight.attack.probe import Gap
from watertight.dataplane.attacks.desync.shapes import PAUSE_SECONDS
from watertight.dataplane.attacks.edge import CHANNEL
from watertight.dataplane.attacks.exhaust.host import budgets
from watertight.dataplane.attacks.make import ENFORCER
from watertight.dataplane.attacks.ways import Way, ways
from watertight.model.system import Protocol, System

ONE_CALLER = "two identities at once: this app has one caller, which met itself instead"
GRPC = "generated attacks: gRPC is attacked by listed ones only"
NO_GRANTS = "generated attacks: it grants all that HTTP can say, so that nothing could be judged"
STREAM = (
    "what is said in it, whose protocol is the app's own; more connections of one caller than a "
    "proof holds; and whether the end of a large answer arrives, which Envoy now and then loses "
    "behind a slow reader"
)
ONE_CALLER_STREAM = f"two identities at once: this app has one caller, which met itself; {STREAM}"
PAUSE = (
    f"a pause of more than {PAUSE_SECONDS:g} s between a request's head and its body, unless the "
    "app answers before: servers that give a body up wait for 15 s to a minute (with --deep)"
)
EARLY = (
    "the answer of an app that closes in the middle of a large upload, unread: if it closes at "
    "once, Envoy now and then says 503 in its place"
)
NOT_OURS = "its sandbox: the service has no `run`, so nothing could attack from inside it"
PUBLIC_CERTIFICATE = "the certificate's authority: the file was taken at its word"


def gaps(system: System) -> Iterator[Gap]:
    """One for each channel and what was left out of it."""
    every = list(ways(system))
    for way in every:
        for reason in _left_out(way, every):
            yield Gap(ENFORCER, way.channel, reason)
    if any(way.listens.protocol is Protocol.HTTP for way in every):
        yield Gap(ENFORCER, "every channel", PAUSE)
        yield Gap(ENFORCER, "every channel", EARLY)
    for name, service in system.services.items():
        if not service.run:
            yield Gap(ENFORCER, f"{name} -> host", NOT_OURS)
            continue
        for budget in budgets(service.limits):
            if not budget.is_tried:
                limit, most = budget.text(budget.limit), budget.text(budget.most)
                what = f"its limit of {limit} of {budget.what}: a proof uses up {most} at most"
                yield Gap(ENFORCER, f"{name} -> host", what)
    if system.gateway is not None and system.gateway.certificate is not None:
        yield Gap(ENFORCER, CHANNEL, PUBLIC_CERTIFICATE)


def _left_out(way: Way, every: list[Way]) -> Iterator[str]:
    callers = {other.caller for other in every if other.callee == way.callee}
    alone = way.from_service and len(callers) == 1
    if way.listens.protocol is Protocol.TCP:
        yield ONE_CALLER_STREAM if alone else STREAM
        return
    if alone:
        yield ONE_CALLER
    if way.listens.protocol is Protocol.GRPC:
        yield GRPC
    elif way.from_service and not way.grants:
        yield NO_GRANTS
