"""Of a service's requests from outside, what anybody may hold, and what is kept for bearers.

Who needs no token may leave requests open without end: bodies that never come, WebSockets. A
service's door takes so many from the gateway (:mod:`.inbound`). Where some of its routes demand a
token and some do not, these get a share of their own, so that nobody outside keeps bearers out
(docs/explanation/bounds.md). Envoy counts by the route's priority, each in a pool of its own.
"""

from typing import Any

from watertight.dataplane.compile.blocks import Json
from watertight.model.system import Protocol

BEARERS = "HIGH"
"""The priority of routes that demand a token; the others have the default one."""
OPEN_REQUESTS = 2_000
OPEN_UPGRADES = 1_000
"""At once on all open routes of one service; of the 4,000 of its door a quarter is left."""
OPEN_CALLS = 3_000
"""Of gRPC, where the others have as many as one caller (http.MOST_STREAMS)."""


def divide(cluster: Json, speaks: Protocol) -> None:
    """Bounds what a cluster takes at once of open routes. Changes it."""
    (every,) = cluster["circuit_breakers"]["thresholds"]
    if speaks is Protocol.GRPC:
        most = OPEN_CALLS
    else:
        most = OPEN_UPGRADES if cluster["name"].endswith("|upgrades") else OPEN_REQUESTS
    cluster["circuit_breakers"]["thresholds"] = [
        {**every, "max_requests": most},
        {**every, "priority": BEARERS},
    ]


def priority(demands_token: bool) -> dict[str, Any]:
    """Of a route, beside its cluster."""
    return {"priority": BEARERS} if demands_token else {}
