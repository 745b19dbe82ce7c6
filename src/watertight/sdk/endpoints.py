"""Where a service's channels lead: the file that ``WATERTIGHT_CHANNELS`` names.

The file is swapped whole when the channels change, so it is read anew for each channel that is
opened. Keys that this version does not know are left alone.
"""

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from watertight.sdk.errors import (
    ChannelsUnreadable,
    NoSuchChannel,
    NotLoopback,
    NotUnderWatertight,
    WrongKind,
)

VARIABLE = "WATERTIGHT_CHANNELS"
_REMEDY = "`watertight apply` writes it anew."


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The far end of one channel, and who may be there."""

    name: str
    """The resource."""
    kind: str
    service: str
    """Who we are."""
    trust_domain: str
    host: str
    """The DNS name in the server's certificate."""
    address: str
    """What to connect to; ``host`` is what to verify."""
    port: int
    originate: bool
    """The service's own proxy speaks mTLS: we speak in the clear, to loopback."""
    credentials: Path
    """The directory of our SVID: a link, swapped at each rotation."""
    parameters: Mapping[str, str]

    @property
    def spiffe_id(self) -> str:
        """Whom the server's certificate must name."""
        return f"spiffe://{self.trust_domain}/{self.name}"

    def parameter(self, name: str) -> str:
        """One of ``parameters``. Raises :class:`ChannelsUnreadable` if it is not there."""
        try:
            return self.parameters[name]
        except KeyError as error:
            raise ChannelsUnreadable(
                f"The description of the channel {self.name} lacks the parameter {name}.",
                remedy=_REMEDY,
            ) from error


def find(name: str, kind: str | None = None) -> Endpoint:
    """The channel of this service to ``name``, as it is declared now.

    Raises :class:`NotUnderWatertight`, :class:`ChannelsUnreadable`, :class:`NoSuchChannel`,
    :class:`WrongKind` if it is not of that kind, and :class:`NotLoopback`.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        raise NotUnderWatertight(
            f"The channel {name} cannot be opened: this process has no {VARIABLE}.",
            remedy="Start it as a service of watertight.yaml, with `watertight up`.",
        )
    document = _read(Path(path))
    service, channels = document["service"], document["channels"]
    if name not in channels:
        raise _unknown(name, service, channels)
    endpoint = _endpoint(name, document, Path(path))
    if kind is not None and endpoint.kind != kind:
        raise WrongKind(
            f"The channel {name} leads to a server of kind {endpoint.kind}, not {kind}.",
            remedy=f'`watertight.channel("{name}")` opens a channel of any kind.',
        )
    if endpoint.originate and not _is_loopback(endpoint.address):
        raise NotLoopback(
            f"The channel {name} is in the clear, but {endpoint.address} is not on this host.",
            remedy="Nothing is sent. Take `originate` from the channel in watertight.yaml.",
        )
    return endpoint


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("channels"), dict)
        or not isinstance(document.get("service"), str)
    ):
        raise _unreadable(path, "it lacks `service` or `channels`")
    return document


def _endpoint(name: str, document: Mapping[str, Any], path: Path) -> Endpoint:
    try:
        described = document["channels"][name]
        return Endpoint(
            name=name,
            kind=str(described["kind"]),
            service=document["service"],
            trust_domain=str(document["trust_domain"]),
            host=str(described["host"]),
            address=str(described["address"]),
            port=int(described["port"]),
            originate=described.get("originate") is True,
            credentials=Path(document["credentials"]),
            parameters={k: str(v) for k, v in described.get("parameters", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, f"of {name}: {error!r}") from error


def _unreadable(path: Path, reason: str) -> ChannelsUnreadable:
    return ChannelsUnreadable(
        f"The description of the channels, {path}, cannot be read: {reason}.",
        remedy=_REMEDY,
    )


def _unknown(name: str, service: str, channels: Mapping[str, Any]) -> NoSuchChannel:
    near = difflib.get_close_matches(name, channels, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    known = ", ".join(sorted(channels)) or "none"
    return NoSuchChannel(
        f"There is no channel from {service} to {name}{meant}. Declared: {known}.",
        remedy=f"Declare it in watertight.yaml, as {{from: {service}, to: {name}}} and what it "
        "grants, and run `watertight apply`.",
    )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
