"""The authority's memory: one file that is always either the last state or the one before.

Order makes it crash-safe: a new sealed key reaches the disk first, then the state that names it
(one change of names is the commit; ``set_aside.py`` has the room for it), and only then are keys
that no state names removed. A crash between two steps leaves at worst a key that nothing names;
the next open sweeps it away.
"""

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from watertight.identity.errors import DamagedState
from watertight.identity.files import (
    make_private_directory,
    remove_leftovers,
    sync_directory,
)
from watertight.identity.kek import KEK
from watertight.identity.set_aside import Pool, SetAside
from watertight.identity.slots import AuthorityState

FORMAT = "watertight.authority/1"
STATE_FILE = "state.json"
KEYS_DIRECTORY = "keys"
ROOM_DIRECTORY = "room"
ROOM_KEYS = 4
"""A rotation of the root needs two, and gives two back."""

RESTORE = "Restore it from a backup, or remove the directory to found a new authority."
FOUNDER = "Run as the user who founded the authority."


class Journal:
    """The state and the sealed keys in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state_file = directory / STATE_FILE
        self._keys = directory / KEYS_DIRECTORY
        self._state = SetAside(self._state_file)
        self._room = Pool(directory / ROOM_DIRECTORY, ROOM_KEYS)

    def exists(self) -> bool:
        """Whether an authority was ever founded here."""
        return self._state_file.exists()

    def read(self) -> AuthorityState:
        """The last committed state. Raises ``DamagedState``."""
        try:
            document = json.loads(self._state_file.read_bytes())
            if document["format"] != FORMAT:
                raise DamagedState(
                    f"{self._state_file} has an unknown format.",
                    remedy="It was written by another version of Watertight; use that one.",
                )
            body = document["state"]
            if _digest(body) != document["sha256"]:
                raise ValueError
            return AuthorityState.model_validate_json(body)
        except OSError as error:
            raise DamagedState(
                f"The authority's state {self._state_file} cannot be read: {error.strerror}.",
                remedy=RESTORE if isinstance(error, FileNotFoundError) else FOUNDER,
            ) from None
        except (ValueError, KeyError, TypeError, ValidationError):
            raise DamagedState(
                f"The authority's state {self._state_file} is damaged.", remedy=RESTORE
            ) from None

    def commit(self, state: AuthorityState) -> None:
        """Makes ``state`` the last one, durably. Raises ``OSError``; then the old one stands."""
        body = state.model_dump_json()
        document = {"format": FORMAT, "sha256": _digest(body), "state": body}
        make_private_directory(self._directory)
        self._state.replace(json.dumps(document).encode())

    def set_aside(self) -> None:
        """Sets room for the next state and keys aside, if that is still to be done and can be."""
        self._state.prepare()
        self._room.prepare()

    def store_key(self, slot_id: str, pkcs8: bytes, kek: KEK, trust_domain: str) -> None:
        """Seals a private key and makes it durable, before any state names it."""
        make_private_directory(self._keys)
        sealed = kek.seal(pkcs8, context=_context(trust_domain, slot_id))
        self._room.write(self._key_file(slot_id), sealed)

    def load_key(self, slot_id: str, kek: KEK, trust_domain: str) -> bytes:
        """The PKCS#8 DER of a slot's key. Raises ``KeyUnavailable`` or ``DamagedState``."""
        try:
            sealed = self._key_file(slot_id).read_bytes()
        except OSError as error:
            raise DamagedState(
                f"The authority's key {self._key_file(slot_id)} cannot be read: {error.strerror}.",
                remedy=RESTORE if isinstance(error, FileNotFoundError) else FOUNDER,
            ) from None
        return kek.unseal(sealed, context=_context(trust_domain, slot_id))

    def sweep(self, wanted: frozenset[str]) -> None:
        """Removes every key that is not wanted any more, and what a crash left half written."""
        if not self._keys.exists():
            return
        remove_leftovers(self._directory)
        remove_leftovers(self._keys)
        stray = [f for f in self._keys.glob("*.key") if f.stem not in wanted]
        for file in stray:
            self._room.remove(file)
        if stray:
            sync_directory(self._keys)

    def _key_file(self, slot_id: str) -> Path:
        return self._keys / f"{slot_id}.key"


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _context(trust_domain: str, slot_id: str) -> str:
    return f"authority {slot_id} of {trust_domain}"
