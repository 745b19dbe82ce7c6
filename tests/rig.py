"""One real server under test, without pods: see :mod:`watertight.testing.rig`."""

from watertight.testing.processes import family_of
from watertight.testing.rig import SANDBOXED, Rig, not_held, running_server, with_channels

__all__ = ["SANDBOXED", "Rig", "family_of", "not_held", "running_server", "with_channels"]
