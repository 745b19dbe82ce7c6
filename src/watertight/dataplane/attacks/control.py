"""The control: a refusal counts only while the right caller is served at the same door.

A connection that just closes may be a refusal or a broken target. TLS alerts and Envoy's own
words leave no doubt; whatever else looks like a refusal is believed only after a control.
"""

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Outcome, not_run
from watertight.dataplane.attacks.arrival import permitted_at_door, permitted_inside
from watertight.dataplane.attacks.replies import Nothing, Seen, attacked, refusal, used
from watertight.dataplane.attacks.requests import Request
from watertight.dataplane.attacks.ways import SEGMENT, Way, fill, may_go_on
from watertight.model.system import Protocol


def permitted(way: Way) -> Request:
    """A request that the way grants; one that changes nothing, if there is one."""
    return all_permitted(way)[0]


def all_permitted(way: Way) -> tuple[Request, ...]:
    """One request for each grant, those that change nothing first."""
    if not way.grants and way.listens.protocol is Protocol.GRPC:
        # No gRPC server knows it, and each says so: UNIMPLEMENTED. GET is no request to them.
        return (Request("POST", f"/{SEGMENT}.Probe/Probe"),)
    if not way.grants:
        return (Request("GET", "/"),)
    grants = sorted(
        way.http_grants, key=lambda g: (g.method not in {"GET", "HEAD"}, may_go_on(g.path))
    )
    return tuple(dict.fromkeys(Request(grant.method, fill(grant.path)) for grant in grants))


async def judged_at_door(arena: Arena, way: Way, seen: Seen) -> Observation:
    """What an attack at a door came to, with a control where there is doubt."""
    observation = attacked(seen)
    if observation.outcome is not Outcome.REFUSED or _beyond_doubt(seen):
        return observation
    control = await permitted_at_door(arena, way, permitted(way))
    return _with_control(observation, control)


async def judged_inside(arena: Arena, way: Way, seen: Seen) -> Observation:
    """What an attack from inside came to, with a control where there is doubt."""
    observation = attacked(seen)
    if observation.outcome is not Outcome.REFUSED or _beyond_doubt(seen):
        return observation
    return _with_control(observation, await permitted_inside(arena, way, permitted(way)))


def _beyond_doubt(seen: Seen) -> bool:
    if isinstance(seen, Nothing):
        return seen.detail.startswith("alert ")
    return refusal(seen) is not None and not 500 <= seen.status < 600


def _with_control(observation: Observation, control: Seen) -> Observation:
    if used(control).outcome is Outcome.SERVED:
        return observation
    said = control.detail if isinstance(control, Nothing) else f"answered {control.status}"
    return not_run(f"{observation.detail}; but the right caller is turned away too: {said}")
