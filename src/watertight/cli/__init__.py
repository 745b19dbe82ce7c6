"""The command ``watertight``: a thin face on the rooms below."""

from watertight.cli.app import main

__all__ = ["main"]
