"""Keys at rest: everything private is sealed with a key-encryption key (KEK).

A sealed artefact is one JSON object whose ``format`` names its version and algorithm, so that a
later release can read this one's. The algorithm is AES-256-GCM-SIV (RFC 8452): a nonce that comes
twice (a virtual machine restored from a snapshot) costs nothing but the knowledge that two
plaintexts are equal. What a seal is for (``context``) is authenticated with it, so that a sealed
key cannot be moved to another place.

Seam: an HSM (PKCS#11) is one more class with ``seal`` and ``unseal``.
"""

import base64
import binascii
import json
import os
import secrets
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from watertight.identity.errors import KeyUnavailable
from watertight.identity.files import make_private_directory, write_atomically

SEALED_FORMAT = "watertight.sealed/1+aes-256-gcm-siv"
KEK_FILE_FORMAT = "watertight.kek/1"
SCRYPT_FORMAT = "watertight.kek-passphrase/1+scrypt"

KEY_BYTES = 32
NONCE_BYTES = 12
SALT_BYTES = 16

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**17, 8, 1
"""OWASP's first choice for scrypt (128 MiB, about 0.3 s): an offline guess costs as much."""

MIN_PASSPHRASE_BYTES = 12
COMMAND_TIMEOUT_SECONDS = 30


class KEK(Protocol):
    """Seals and unseals small secrets. Implementations hold or reach one key."""

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """The sealed artefact. ``context`` says what it is; the same is needed to unseal."""
        ...

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """The plaintext. Raises ``KeyUnavailable`` for a wrong key, context or damaged bytes."""
        ...


def _seal(key: bytes, plaintext: bytes, context: str) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    data = f"{SEALED_FORMAT}\0{context}".encode()
    ciphertext = AESGCMSIV(key).encrypt(nonce, plaintext, data)
    artefact = {
        "format": SEALED_FORMAT,
        "nonce": base64.b64encode(nonce).decode(),
        "ciphertext": base64.b64encode(ciphertext).decode(),
    }
    return json.dumps(artefact).encode()


def _unseal(key: bytes, sealed: bytes, context: str) -> bytes:
    try:
        artefact = json.loads(sealed)
        if artefact["format"] != SEALED_FORMAT:
            raise KeyUnavailable(
                f"The sealed key of {context} has an unknown format.",
                remedy="It was written by another version of Watertight; use that one.",
            )
        nonce = base64.b64decode(artefact["nonce"], validate=True)
        ciphertext = base64.b64decode(artefact["ciphertext"], validate=True)
        data = f"{SEALED_FORMAT}\0{context}".encode()
        return AESGCMSIV(key).decrypt(nonce, ciphertext, data)
    except InvalidTag:
        raise KeyUnavailable(
            f"The sealed key of {context} does not open with this key-encryption key.",
            remedy="Give the KEK file or passphrase with which it was made.",
        ) from None
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise KeyUnavailable(
            f"The sealed key of {context} is damaged.", remedy="Restore it from a backup."
        ) from None


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        make_private_directory(path.parent)
        write_atomically(path, json.dumps(document).encode())
    except OSError as error:
        raise KeyUnavailable(
            f"The key-encryption key {path} cannot be written: {error.strerror}.",
            remedy="Make room, or choose another place for it.",
        ) from None


class FileKEK:
    """A random key in a file of its owner's only (0600); made on first use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: bytes | None = None

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """See :class:`KEK`."""
        if self._key is None:
            self._key = self._read() if self._path.exists() else self._make()
        return _seal(self._key, plaintext, context)

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """See :class:`KEK`."""
        if self._key is None:
            self._key = self._read()
        return _unseal(self._key, sealed, context)

    def _make(self) -> bytes:
        key = AESGCMSIV.generate_key(bit_length=KEY_BYTES * 8)
        document = {"format": KEK_FILE_FORMAT, "key": base64.b64encode(key).decode()}
        _write(self._path, document)
        return key

    def _read(self) -> bytes:
        try:
            mode = self._path.stat().st_mode & 0o777
            document = json.loads(self._path.read_bytes())
        except OSError as error:
            raise KeyUnavailable(
                f"The key-encryption key {self._path} cannot be read: {error.strerror}.",
                remedy="Restore the file; without it the authority's keys stay closed.",
            ) from None
        except ValueError:
            raise KeyUnavailable(f"The key-encryption key {self._path} is damaged.") from None
        if mode & 0o077:
            raise KeyUnavailable(
                f"Others may read the key-encryption key {self._path} (mode {mode:o}).",
                remedy=f"Run: chmod 600 {self._path}; and if others had access, start anew.",
            )
        return self._key_in(document)

    def _key_in(self, document: object) -> bytes:
        try:
            if not isinstance(document, dict) or document["format"] != KEK_FILE_FORMAT:
                raise ValueError
            key = base64.b64decode(document["key"], validate=True)
            if len(key) != KEY_BYTES:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise KeyUnavailable(f"The key-encryption key {self._path} is damaged.") from None
        return key


class PassphraseKEK:
    """A key derived from a passphrase by scrypt (RFC 7914).

    The salt and the cost stand in ``parameters_file``, beside the keys; the passphrase is asked
    for when it is first needed and is never stored.
    """

    def __init__(self, passphrase: Callable[[], bytes], parameters_file: Path) -> None:
        self._passphrase = passphrase
        self._path = parameters_file
        self._key: bytes | None = None

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """See :class:`KEK`."""
        if not self._path.exists():
            self._make_parameters()
        return _seal(self._derive(), plaintext, context)

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """See :class:`KEK`."""
        return _unseal(self._derive(), sealed, context)

    def _make_parameters(self) -> None:
        salt = base64.b64encode(secrets.token_bytes(SALT_BYTES)).decode()
        document = {
            "format": SCRYPT_FORMAT, "salt": salt, "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P
        }  # fmt: skip
        _write(self._path, document)

    def _derive(self) -> bytes:
        if self._key is None:
            try:
                document = json.loads(self._path.read_bytes())
                if document["format"] != SCRYPT_FORMAT:
                    raise ValueError
                cost = int(document["n"]), int(document["r"]), int(document["p"])
                salt = base64.b64decode(document["salt"], validate=True)
            except (OSError, ValueError, KeyError, TypeError):
                raise KeyUnavailable(
                    f"The passphrase parameters {self._path} are missing or damaged.",
                    remedy="Restore the file; the salt in it is part of the key.",
                ) from None
            # The file is not secret and could be swapped for one whose key is cheap to guess.
            if cost != (SCRYPT_N, SCRYPT_R, SCRYPT_P) or len(salt) != SALT_BYTES:
                raise KeyUnavailable(f"The passphrase parameters {self._path} were changed.")
            kdf = Scrypt(salt=salt, length=KEY_BYTES, n=cost[0], r=cost[1], p=cost[2])
            self._key = kdf.derive(self._checked_passphrase())
        return self._key

    def _checked_passphrase(self) -> bytes:
        passphrase = self._passphrase()
        if len(passphrase) < MIN_PASSPHRASE_BYTES:
            raise KeyUnavailable(
                f"The passphrase has fewer than {MIN_PASSPHRASE_BYTES} bytes.",
                remedy="Use a longer one: it is all that guards the authority's keys.",
            )
        return passphrase


def passphrase_from_environment(variable: str) -> Callable[[], bytes]:
    """A passphrase in an environment variable, read when it is first needed."""

    def read() -> bytes:
        value = os.environ.get(variable)
        if not value:
            raise KeyUnavailable(
                f"The environment variable {variable} holds no passphrase.",
                remedy="Set it to the passphrase of the authority's keys.",
            )
        return value.encode()

    return read


def passphrase_from_command(argv: Sequence[str]) -> Callable[[], bytes]:
    """A passphrase on a command's standard output (a password manager's), one line.

    Run without a shell. Neither the output nor standard error is ever shown or logged.
    """

    def read() -> bytes:
        try:
            done = subprocess.run(
                list(argv), check=True, capture_output=True, timeout=COMMAND_TIMEOUT_SECONDS
            )
        except (OSError, subprocess.SubprocessError):
            raise KeyUnavailable(
                f"The command {argv[0]!r} gave no passphrase.",
                remedy="Run it by hand: it must exit 0 and print the passphrase.",
            ) from None
        return done.stdout.rstrip(b"\r\n")

    return read
