"""Which key-encryption key protects the authority's keys at rest, as the operator's shell says."""

import os
import shlex
from pathlib import Path

from watertight.errors import WatertightError
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


class KEKInSight(WatertightError):
    """The operator put the key-encryption key where services could read it."""


def kek_for(state: Path) -> KEK:
    """The KEK of the system whose ``.watertight`` directory this is.

    A passphrase from the environment, or from a command's output; else a key file, by default in
    the same directory (0600), which protects backups and not a stolen disk. Raises KEKInSight.
    """
    parameters = state / "kek-parameters.json"
    if COMMAND in os.environ:
        argv = shlex.split(os.environ[COMMAND])
        return PassphraseKEK(passphrase_from_command(argv), parameters)
    if PASSPHRASE in os.environ:
        return PassphraseKEK(passphrase_from_environment(PASSPHRASE), parameters)
    file = Path(os.environ.get(FILE, state / "kek.json")).resolve()
    if file.is_relative_to(state.parent.resolve()) and not file.is_relative_to(state.resolve()):
        raise KEKInSight(
            f"The key file {file} lies in the project, which every service may read.",
            remedy=f"Let {FILE} name a file outside {state.parent}.",
        )
    return FileKEK(file)
