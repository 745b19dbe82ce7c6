"""Watertight: every channel between services encrypted, authenticated, least-privilege, proven."""

__version__ = "0.1.0"

TYPE_CHECKING = False  # As type checkers know it, without the import of typing.
if TYPE_CHECKING:
    from watertight.sdk import channel as channel
else:

    def __getattr__(name: str) -> object:
        """``watertight.channel``, imported when a service first asks for it (PEP 562)."""
        if name == "channel":
            from watertight.sdk import channel  # noqa: PLC0415

            return channel
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
