"""Gets the issuers' key sets, from files and over https.

We fetch them centrally and push them into Envoy, so that an issuer's outage stops nothing and a
withdrawn key stops being accepted at once.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from watertight.gateway.keysets import Checked, JWKSRefused, check
from watertight.model.system import Issuer, System

MAX_BYTES = 262_144
STEP_SECONDS = 5.0
"""For each step: to connect, to be sent something."""
FETCH_SECONDS = 15.0
"""For the whole: who sends a byte now and then holds nobody up."""

ANSWERS = "See that it can be reached from here, or write the set to a file and name that."
TRUST = (
    "If its CA is your own, start `watertight up` with SSL_CERT_FILE set to that CA's certificate "
    "(PEM); or write the set to a file and name that."
)
ADDRESS = "Correct the URL: it is the `jwks_uri` of the provider's configuration."


@dataclass(frozen=True, slots=True)
class KeySets:
    """What is known of the issuers' keys, each by the issuer's name."""

    issuers: Mapping[str, Issuer]
    checked: Mapping[str, Checked]
    refusals: Mapping[str, JWKSRefused]
    """Why a set could not be had the last time; an older one may stand in ``checked``."""

    @property
    def keys(self) -> dict[str, str]:
        """The JWK Sets for Envoy."""
        return {name: checked.keys for name, checked in self.checked.items()}

    def last_good(self, issuer: Issuer) -> Checked | None:
        """The set of that issuer, if it is the same one at the same place."""
        known = self.issuers.get(issuer.name)
        same = known is not None and (known.issuer, known.jwks) == (issuer.issuer, issuer.jwks)
        return self.checked.get(issuer.name) if same else None


NONE = KeySets({}, {}, {})


async def fetch(issuer: Issuer, project_directory: Path) -> Checked:
    """Reads the issuer's key set from its file or https URL, and checks it."""
    if issuer.jwks.startswith("https://"):
        return check(issuer, await _download(issuer))
    return await asyncio.to_thread(read, issuer, project_directory)


def read(issuer: Issuer, project_directory: Path) -> Checked:
    """The key set of an issuer that has it in a file, checked. Raises :class:`JWKSRefused`."""
    try:
        with (project_directory / issuer.jwks).open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise JWKSRefused(issuer, f"cannot be read: {error.strerror}") from error
    if len(body) > MAX_BYTES:
        raise JWKSRefused(issuer, f"is larger than {MAX_BYTES} bytes")
    return check(issuer, _text(issuer, body))


async def fetch_all(system: System, project_directory: Path, known: KeySets) -> KeySets:
    """Every issuer's key set.

    An issuer that cannot be fetched now keeps its last good set (its outage is not ours); one that
    never had a good set has none, and routes that need it must be refused.
    """
    issuers = system.gateway.issuers if system.gateway else {}
    checked: dict[str, Checked] = {}
    refusals: dict[str, JWKSRefused] = {}

    async def one(name: str, issuer: Issuer) -> None:
        try:
            checked[name] = await fetch(issuer, project_directory)
        except JWKSRefused as refusal:
            refusals[name] = refusal
            if (last := known.last_good(issuer)) is not None:
                checked[name] = last

    await asyncio.gather(*(one(name, issuer) for name, issuer in issuers.items()))
    return KeySets(dict(issuers), checked, refusals)


async def _download(issuer: Issuer) -> str:
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return _text(issuer, await _body(issuer))
    except TimeoutError as error:
        why = f"was not sent within {FETCH_SECONDS:.0f} s"
        raise JWKSRefused(issuer, why, ANSWERS) from error
    # A URL whose host is no name is met by the client only: InvalidURL, or idna's UnicodeError.
    except (httpx.InvalidURL, UnicodeError) as error:
        why = "cannot be fetched: the URL names no host"
        raise JWKSRefused(issuer, why, ADDRESS) from error
    except httpx.HTTPError as error:
        why, remedy = _reason(error)
        raise JWKSRefused(issuer, f"cannot be fetched: {why}", remedy) from error


async def _body(issuer: Issuer) -> bytes:
    body = bytearray()
    async with (
        httpx.AsyncClient(timeout=STEP_SECONDS, follow_redirects=False) as client,
        client.stream("GET", issuer.jwks, headers={"accept": "application/json"}) as answer,
    ):
        if answer.is_redirect:
            why = f"was answered with a redirect ({answer.status_code}), which is not followed"
            raise JWKSRefused(issuer, why, ADDRESS)
        if answer.status_code != httpx.codes.OK:
            why = f"was answered with status {answer.status_code} {answer.reason_phrase}".rstrip()
            raise JWKSRefused(issuer, why, ADDRESS)
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise JWKSRefused(issuer, f"is larger than {MAX_BYTES} bytes")
    return bytes(body)


def _text(issuer: Issuer, body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise JWKSRefused(issuer, "is not UTF-8, so not a JWK Set") from error


def _reason(error: httpx.HTTPError) -> tuple[str, str]:
    """Why nothing came, in the words of what lies beneath, and what to do."""
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted ({cause.verify_message})", TRUST
            case ssl.SSLError():
                reason = (cause.reason or "no reason given").lower().replace("_", " ")
                return f"TLS failed ({reason})", ANSWERS
            case socket.gaierror():
                return f"its host is not known ({cause.strerror})", ANSWERS
            case ConnectionRefusedError():
                return "connection refused", ANSWERS
            case OSError(strerror=str() as reason):
                return reason[:1].lower() + reason[1:], ANSWERS
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {STEP_SECONDS:.0f} s", ANSWERS
    # What a stranger's server said is not quoted.
    return f"the answer is not right HTTP ({type(error).__name__})", ANSWERS


def _causes(error: BaseException) -> Iterator[BaseException]:
    """All that led to an error, the one below before those above; a client wraps them."""
    beneath = error.__cause__ or error.__context__
    if beneath is not None:
        yield from _causes(beneath)
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    yield error
