"""The xDS server: what a proxy is sent, in which order, and what it said to that.

``encode`` turns plain JSON into protobuf, ``events`` are the words of an exchange, ``session`` is
the protocol without any I/O, ``ledger`` remembers who holds what, ``stream`` and ``unix`` are the
wire, ``server`` joins them, ``verdicts`` are what its caller is told.
"""

from watertight.dataplane.xds.encode import Unencodable
from watertight.dataplane.xds.events import Refused
from watertight.dataplane.xds.ledger import Entry, Ledger, State
from watertight.dataplane.xds.server import XDSServer
from watertight.dataplane.xds.verdicts import CannotListen, ProxySilent, ResourceRefused

__all__ = [
    "CannotListen",
    "Entry",
    "Ledger",
    "ProxySilent",
    "Refused",
    "ResourceRefused",
    "State",
    "Unencodable",
    "XDSServer",
]
