"""Every permitted use, tried for real, and so that no application notices."""

from collections.abc import Iterator
from functools import partial

from watertight.attack.probe import Observation, Outcome, Probe, served
from watertight.attack.wire import Wire
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.declared import Caller, callers, example
from watertight.servers.nats.attacks.dialect import (
    NATSDialect,
    inbox_of,
    publish,
    request,
    subscribe,
)


def probes(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Probe]:
    """A use for each grant of each channel."""
    for caller in callers(dialect, system, resource):
        yield caller.use(
            "use.login",
            f"{caller.service}'s own SVID, and its inbox {inbox_of(caller.service)}.>",
            _in,
        )
        for subject in caller.granted.publish:
            yield caller.use(
                "use.publish",
                f"permission to publish to {subject} (asked as {example(subject)}, not delivered)",
                partial(publish, subject=example(subject)),
            )
        for pattern in caller.granted.subscribe:
            yield caller.use(
                "use.subscribe",
                f"a subscription to {pattern}, ended at once",
                partial(subscribe, subject=pattern),
            )
        for stream in caller.granted.consume:
            yield caller.use(
                "use.consume",
                f"the consumer of {stream}: what it is; permission to fetch and acknowledge",
                partial(_consume, caller=caller, stream=stream),
            )


async def _in(_wire: Wire) -> Observation:
    return served("logged in")


async def _consume(wire: Wire, caller: Caller, stream: str) -> Observation:
    """The consumer is there, and is ours; no message is fetched, for it would count as ours."""
    name = f"{stream}.{caller.service}"
    for subject in (f"$JS.API.CONSUMER.MSG.NEXT.{name}", f"$JS.ACK.{name}.1.1.1.1.0"):
        seen = await publish(wire, subject)
        if seen.outcome is not Outcome.SERVED:
            return seen
    return await request(wire, caller.login, f"$JS.API.CONSUMER.INFO.{name}")
