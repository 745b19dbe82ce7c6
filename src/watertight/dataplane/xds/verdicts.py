"""Why what was wanted is not in force: what the caller of the xDS server is told."""

import re
from collections.abc import Sequence
from pathlib import Path

from watertight.dataplane.xds.events import Refused
from watertight.errors import WatertightError

_CANNOT_BIND = re.compile(r"cannot bind '(?P<address>[^']+)': (?P<reason>[^\n]+)")
"""Envoy 1.40, ``source/common/listener_manager/listener_impl.cc``."""


class CannotListen(WatertightError):
    """The Unix socket of a proxy's configuration cannot be served."""

    def __init__(self, socket: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{socket} cannot be served: {reason}.", remedy=remedy)


class ResourceRefused(WatertightError):
    """A proxy refused a resource (a NACK); it keeps what it had before.

    ``at`` is where the declaration asks for that resource, ``detail`` Envoy's own words.
    """

    def __init__(self, workload: str, refusals: Sequence[Refused]) -> None:
        first, *others = refusals
        kind = first.type.rpartition(".")[2]
        more = f" (and {len(others)} more)" if others else ""
        message = f"refuses the {kind} {first.name!r}{more}: {first.detail.strip()}"
        remedy = "What was in force before stays in force."
        if (bind := _CANNOT_BIND.search(first.detail)) is not None:
            message = f"cannot listen on {bind['address']}: {bind['reason'].strip()}."
            remedy = f"End what listens there, or declare another port. {remedy}"
        super().__init__(f"{first.at}: The proxy of {workload} {message}", remedy=remedy)
        self.workload = workload
        self.resource = first.name
        self.detail = first.detail
        self.at = first.at
        self.refusals = tuple(refusals)


class ProxySilent(WatertightError):
    """A proxy did not confirm its configuration in time."""

    def __init__(
        self, workload: str, deadline_seconds: float, *, connected: bool, pending: Sequence[str]
    ) -> None:
        if connected:
            state = f"it is connected, but {'; '.join(pending)}"
            remedy = f"Look at the log of the proxy of {workload}."
        else:
            state = "it is not connected"
            remedy = f"Is the proxy of {workload} running? Its log says why it cannot connect."
        super().__init__(
            f"The proxy of {workload} did not confirm its configuration within "
            f"{deadline_seconds:g} s: {state}.",
            remedy=remedy,
        )
        self.workload = workload
        self.connected = connected
        self.pending = tuple(pending)
