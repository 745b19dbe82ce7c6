"""The command ``watertight``: a thin face on the rooms below."""

from watertight.cli.interrupt import told_plainly


def main() -> None:
    """The entry point."""
    with told_plainly():  # importing takes a while, too
        from watertight.cli.app import main as run  # noqa: PLC0415

        run()


__all__ = ["main"]
