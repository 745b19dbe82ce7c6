"""The xDS server: what a proxy is sent, in which order, and what it said to that.

``encode`` turns plain JSON into protobuf, ``events`` are the words of an exchange, ``session`` is
the protocol without any I/O, ``ledger`` remembers who holds what, ``stream`` and ``unix`` are the
wire, ``server`` joins them, ``verdicts`` are what its caller is told.
"""

from watertight.enforcers.envoy.xds.encode import Unencodable
from watertight.enforcers.envoy.xds.events import Refused
from watertight.enforcers.envoy.xds.ledger import Entry, Ledger, State
from watertight.enforcers.envoy.xds.server import XDSServer
from watertight.enforcers.envoy.xds.verdicts import DoorNotOpened, ProxySilent, ResourceRefused

__all__ = [
    "DoorNotOpened",
    "Entry",
    "Ledger",
    "ProxySilent",
    "Refused",
    "ResourceRefused",
    "State",
    "Unencodable",
    "XDSServer",
]
