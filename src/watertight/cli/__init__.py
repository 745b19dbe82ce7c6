"""The command ``watertight``: a thin face on the rooms below."""

import gc

# All that is imported lives until the command ends. Looking again and again for what of it is
# garbage, and once more at the end, took a third of the time of a short command.
gc.disable()

from watertight.cli.app import main  # noqa: E402

gc.freeze()
gc.enable()

__all__ = ["main"]
