"""One SVID and its trust bundle as a set of files: written beside, checked, swapped in at once.

What software is told to read stands under ``<directory>/current/``:

=================== =====================================================================
``combined.pem``    private key, then the certificate chain (leaf first)
``certificate.pem`` the chain alone
``private_key.pem`` the key alone (PKCS#8)
``bundle.pem``      the roots to trust
``keystore.p12``    key and chain as PKCS#12, for Java and .NET (``keystores`` has the password)
``truststore.p12``  the roots as PKCS#12
``private_key.der`` the key as PKCS#8 DER
=================== =====================================================================

Who opens ``combined.pem`` once never sees the key of one SVID with the certificate of another.
Who opens two files, or one file twice (OpenSSL does, once for each half), can meet a change in
between: OpenSSL then refuses the pair (KEY_VALUES_MISMATCH), and loads it when it tries again. It
meets none if it resolves the link ``current`` first, or reads only when its reload hook tells it.
"""

import os
import shutil
import ssl
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from watertight.identity.errors import IdentityError
from watertight.identity.files import sync_directory, write_atomically
from watertight.identity.keystores import (
    KEYSTORE,
    PRIVATE_KEY_DER,
    TRUSTSTORE,
    KeystoreMismatch,
    check_stores,
    keystore,
    truststore,
)
from watertight.identity.svid import X509SVID, TrustBundle

CURRENT = "current"
_SETS = "sets"
_NEW_LINK = ".current.new"


class DeliveryError(IdentityError):
    """A set of files was not put in place; what stood there before still does."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may read the files, by number. Only root can give files away."""

    uid: int
    gid: int


class CredentialFiles:
    """The files of one workload below ``directory``, which is made if need be.

    The directory is and stays ours, and only ours to write: who else could write there could
    have us write anywhere. Files are 0600, and ``owner``'s if one is given.
    """

    def __init__(self, directory: Path, owner: Owner | None = None) -> None:
        self._directory = directory
        self._owner = owner
        # Another owner must pass through to its files, but need not list the directory.
        self._mode = 0o700 if owner is None else 0o711

    def put(self, svid: X509SVID, bundle: TrustBundle) -> bool:
        """Makes this the current set; False if it is already.

        Raises :class:`DeliveryError` if the parts do not match one another, or the files cannot
        be written. A reader that has the old set open keeps it until the next change.
        """
        contents = _contents(svid, bundle)
        try:
            self._prepare()
            if self._stands(contents):
                return False
            before = (self._directory / CURRENT).resolve()
            staged = Path(tempfile.mkdtemp(prefix="", dir=self._directory / _SETS))
            try:
                self._write(staged, contents)
                _check_pem(staged)
                # Only now: of parts that do not match, no store can be made.
                self._write(staged, {KEYSTORE: keystore(svid), TRUSTSTORE: truststore(bundle)})
                _check_stores(staged)
                self._link(staged)
            except BaseException:
                shutil.rmtree(staged, ignore_errors=True)
                raise
            sync_directory(self._directory)
            self._keep_only(before, staged)
        except OSError as error:
            raise DeliveryError(
                f"The files in {self._directory} cannot be written: {error.strerror}.",
                remedy="The directory must be ours to write, with room for a few kilobytes.",
            ) from error
        return True

    def remove(self) -> None:
        """Takes the files away: the workload has no identity any more."""
        try:
            (self._directory / CURRENT).unlink(missing_ok=True)
            shutil.rmtree(self._directory / _SETS, ignore_errors=False)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DeliveryError(
                f"The files in {self._directory} cannot be removed: {error.strerror}.",
                remedy="Remove them by hand: the identity they hold is revoked.",
            ) from error

    def _prepare(self) -> None:
        for directory in (self._directory, self._directory / _SETS):
            directory.mkdir(parents=directory == self._directory, exist_ok=True, mode=self._mode)
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise DeliveryError(
                    f"{directory} is not a directory of ours.",
                    remedy="Name a directory that does not exist yet.",
                )
            directory.chmod(self._mode)

    def _stands(self, contents: Mapping[str, bytes]) -> bool:
        current = self._directory / CURRENT
        try:
            # A store is never the same bytes twice: it was made with the files that are compared.
            return all((current / store).exists() for store in (KEYSTORE, TRUSTSTORE)) and all(
                (current / name).read_bytes() == data for name, data in contents.items()
            )
        except FileNotFoundError:
            return False

    def _write(self, staged: Path, contents: Mapping[str, bytes]) -> None:
        for name, data in contents.items():
            write_atomically(staged / name, data)
            if self._owner is not None:
                os.chown(staged / name, self._owner.uid, self._owner.gid, follow_symlinks=False)
        staged.chmod(self._mode)

    def _link(self, staged: Path) -> None:
        new = self._directory / _NEW_LINK
        new.unlink(missing_ok=True)  # A crash may have left it.
        new.symlink_to(Path(_SETS) / staged.name)
        new.replace(self._directory / CURRENT)

    def _keep_only(self, *kept: Path) -> None:
        for old in (self._directory / _SETS).iterdir():
            if old.name not in {path.name for path in kept}:
                shutil.rmtree(old)


def _contents(svid: X509SVID, bundle: TrustBundle) -> dict[str, bytes]:
    chain, key = svid.chain_pem(), svid.private_key_pem()
    return {
        "combined.pem": key + chain,
        "certificate.pem": chain,
        "private_key.pem": key,
        "bundle.pem": bundle.pem(),
        PRIVATE_KEY_DER: svid.private_key_der,
    }


def check(directory: Path) -> None:
    """Reads a set of files as its readers will; raises :class:`DeliveryError` if it is no match.

    OpenSSL loads the files and compares key and certificate; then each certificate must be
    signed by the next one, and the last by a root of the bundle. The stores must hold the same.
    """
    _check_pem(directory)
    _check_stores(directory)


def _check_pem(directory: Path) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The password is never asked for on a terminal: an encrypted key is an error.
        context.load_cert_chain(directory / "combined.pem", password="")
        context.load_cert_chain(
            directory / "certificate.pem", directory / "private_key.pem", password=""
        )
        context.load_verify_locations(directory / "bundle.pem")
    except ssl.SSLError as error:
        raise DeliveryError(f"The new files do not match ({error.reason}).") from error
    chain = x509.load_pem_x509_certificates((directory / "certificate.pem").read_bytes())
    roots = x509.load_pem_x509_certificates((directory / "bundle.pem").read_bytes())
    in_order = all(_signed_by(child, parent) for child, parent in pairwise(chain))
    if not in_order or not any(_signed_by(chain[-1], root) for root in roots):
        raise DeliveryError("The new certificate chain does not lead to a root of the new bundle.")


def _check_stores(directory: Path) -> None:
    try:
        check_stores(directory)
    except KeystoreMismatch as error:
        raise DeliveryError(error.message) from error


def _signed_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
