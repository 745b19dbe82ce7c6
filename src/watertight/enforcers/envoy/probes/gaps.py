"""What the probes of Envoy's channels leave out, by the declaration: told before what was tried."""

from collections.abc import Iterator

from watertight.enforcers.contract import Gap
from watertight.enforcers.envoy.probes.edge import CHANNEL
from watertight.enforcers.envoy.probes.make import ENFORCER
from watertight.enforcers.envoy.probes.ways import Way, ways
from watertight.model.system import Protocol, System

ONE_CALLER = "two identities at once: this app has one caller, which met itself instead"
GRPC = (
    "desync with two identities, and generated attacks: "
    "gRPC is attacked by method and identity only"
)
NO_GRANTS = "generated attacks: it grants all that HTTP can say, so that nothing could be judged"
STREAM = (
    "what is said in it, whose protocol is the app's own; and whether the end of a large answer "
    "arrives, which Envoy now and then loses behind a slow reader"
)
NOT_OURS = "its sandbox: the service has no `run`, so nothing could attack from inside it"
PUBLIC_CERTIFICATE = "the certificate's authority: the file was taken at its word"


def gaps(system: System) -> Iterator[Gap]:
    """One for each channel that something was left out of."""
    every = list(ways(system))
    for way in every:
        for reason in _left_out(way, every):
            yield Gap(ENFORCER, way.channel, reason)
    for name, service in system.services.items():
        if not service.run:
            yield Gap(ENFORCER, f"{name} -> host", NOT_OURS)
    if system.gateway is not None and system.gateway.certificate is not None:
        yield Gap(ENFORCER, CHANNEL, PUBLIC_CERTIFICATE)


def _left_out(way: Way, every: list[Way]) -> Iterator[str]:
    if way.listens.protocol is Protocol.TCP:
        yield STREAM
    elif way.listens.protocol is Protocol.GRPC:
        yield GRPC
    elif way.from_service:
        if len({other.caller for other in every if other.callee == way.callee}) == 1:
            yield ONE_CALLER
        if not way.grants:
            yield NO_GRANTS
