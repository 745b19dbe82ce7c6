"""Which key-encryption key protects the authority's keys at rest, as the operator's shell says."""

import os
import shlex
from pathlib import Path

from watertight.identity.kek import (
    KEK,
    FileKEK,
    PassphraseKEK,
    passphrase_from_command,
    passphrase_from_environment,
)

PASSPHRASE = "WATERTIGHT_PASSPHRASE"  # noqa: S105 - the name of a variable
COMMAND = "WATERTIGHT_PASSPHRASE_COMMAND"
FILE = "WATERTIGHT_KEK_FILE"


def kek_for(state: Path) -> KEK:
    """The KEK of the system whose ``.watertight`` directory this is.

    A passphrase from the environment, or from a command's output; else a key file, by default in
    the same directory (0600), which protects backups and not a stolen disk.
    """
    parameters = state / "kek-parameters.json"
    if COMMAND in os.environ:
        argv = shlex.split(os.environ[COMMAND])
        return PassphraseKEK(passphrase_from_command(argv), parameters)
    if PASSPHRASE in os.environ:
        return PassphraseKEK(passphrase_from_environment(PASSPHRASE), parameters)
    return FileKEK(Path(os.environ.get(FILE, state / "kek.json")))
