"""What can go wrong with identities, each named after the fact (never after the layer)."""

from watertight.errors import ExitCode, WatertightError


class IdentityError(WatertightError):
    """Anything that the identity room refuses or cannot do."""


class MalformedSPIFFEID(IdentityError):
    """Text that is not a SPIFFE ID. ``rule`` is the number in SPIFFE-ID's list (I1 to I6)."""

    exit_code = ExitCode.FOUND_WRONG

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"Not a SPIFFE ID ({rule}): {message}")
        self.rule = rule


class KeyUnavailable(IdentityError):
    """A key-encryption key, or a key sealed with one, could not be had."""


class DamagedState(IdentityError):
    """The authority's journal is not what was written: nothing is issued from a guess."""


class AuthorityBusy(IdentityError):
    """Another process holds the authority."""


class NotWrittenDown(IdentityError):
    """Somebody is distrusted, but not all of that could be written down.

    ``forgotten``: by whoever reads it after a crash; else only the audit log lacks its line.
    """

    def __init__(self, why: OSError | IdentityError, *, forgotten: bool) -> None:
        reason = why.message if isinstance(why, IdentityError) else why.strerror or str(why)
        what = "the authority's state" if forgotten else "the audit log's line"
        self.forgotten = forgotten
        self.reason = reason.rstrip(".")
        super().__init__(
            f"A revocation is in force, but {what} cannot be written: {self.reason}.",
            remedy="Make room or mend the disk; it is tried again every few seconds.",
        )


class IssuanceRefused(IdentityError):
    """The authority does not issue. ``validator`` is the name of the check that said no."""

    exit_code = ExitCode.FOUND_WRONG

    def __init__(self, validator: str, reason: str) -> None:
        super().__init__(f"No SVID is issued ({validator}): {reason}")
        self.validator = validator
        self.reason = reason


class CredentialRejected(IdentityError):
    """A certificate breaks a rule of X.509-SVID. ``rule`` is its number, ``check`` its name."""

    exit_code = ExitCode.FOUND_WRONG

    def __init__(self, rule: str, check: str, reason: str) -> None:
        super().__init__(f"The certificate breaks {rule} ({check}): {reason}")
        self.rule = rule
        self.check = check
        self.reason = reason


class UntrustedChain(IdentityError):
    """No valid path leads from a certificate to a root of the bundle (RFC 5280 section 6)."""

    exit_code = ExitCode.FOUND_WRONG


class TokenRejected(IdentityError):
    """A JWT-SVID is not valid. ``rule`` is its number in JWT-SVID's list (J1 to J10) or JOSE."""

    exit_code = ExitCode.FOUND_WRONG

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"The JWT-SVID is refused ({rule}): {reason}")
        self.rule = rule
        self.reason = reason


class RotationRefused(IdentityError):
    """A step of a rotation would break live channels, or is out of order."""
