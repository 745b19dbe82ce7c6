"""What tests of a kind of server need: real servers, and what every kind must do.

:mod:`.rig` runs one server with its SVIDs, its doors and an attacker's arena over it.
:class:`Conformance` is the suite that a kind's test file subclasses. It needs what
``watertight-channels[testing]`` installs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watertight.testing.conformance import Conformance
    from watertight.testing.weakening import Weakening

__all__ = ["Conformance", "Weakening"]


def __getattr__(name: str) -> Any:
    """The suite, only when it is asked for: processes of the rig import this package too."""
    if name not in __all__:
        raise AttributeError(name)
    from importlib import import_module  # noqa: PLC0415

    import pytest  # noqa: PLC0415

    pytest.register_assert_rewrite("watertight.testing.conformance")
    return getattr(import_module(f"{__name__}.{name.lower()}"), name)
