"""Gets the issuers' key sets, from files and over https.

We fetch them centrally and push them into Envoy, so that an issuer's outage stops nothing and a
withdrawn key stops being accepted at once. What an issuer says counts, also that no key is good;
that nothing is heard of it does not, for a day.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from watertight.gateway.keysets import Checked, JWKSRefused, KeysWithdrawn, check, no_key
from watertight.model.system import Issuer, System

MAX_BYTES = 262_144
STEP_SECONDS = 5.0
"""For each step: to connect, to be sent something."""
FETCH_SECONDS = 15.0
"""For the whole: who sends a byte now and then holds nobody up."""
OUTAGE_SECONDS = 86_400.0
"""How long the last good set stays in force while it cannot be had. Whoever keeps us from an issuer
would else keep a withdrawn key good for ever; in a day every token that it signed has expired."""

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
    """Why a set could not be had the last time; an older one, or ``no_key``, may stand in
    ``checked``."""
    good_at: Mapping[str, float] = field(default_factory=dict)
    """When a set was had last: seconds since the host has started."""

    @property
    def keys(self) -> dict[str, str]:
        """The JWK Sets for Envoy."""
        return {name: checked.keys for name, checked in self.checked.items()}

    @property
    def closed(self) -> tuple[str, ...]:
        """The issuers of which no token is good."""
        return tuple(name for name, checked in self.checked.items() if not checked.count)

    def in_force(self, issuer: Issuer) -> bool:
        """Whether tokens of that issuer have been accepted, the same one at the same place."""
        never_had = issuer.name in self.refusals and issuer.name not in self.checked
        return self._same(issuer) and not never_had

    def _same(self, issuer: Issuer) -> bool:
        known = self.issuers.get(issuer.name)
        return known is not None and (known.issuer, known.jwks) == (issuer.issuer, issuer.jwks)

    def last_good(self, issuer: Issuer) -> Checked | None:
        """What is in force of an issuer that cannot be heard now."""
        last = self.checked.get(issuer.name) if self._same(issuer) else None
        if last is None or _now() - self.good_at[issuer.name] <= OUTAGE_SECONDS:
            return last
        return no_key()


def _now() -> float:
    """Also the time counts in which the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


NONE = KeySets({}, {}, {})


def unknown(system: System) -> KeySets:
    """What is known of the issuers of a system that somebody else put in force."""
    return KeySets(dict(system.gateway.issuers) if system.gateway else {}, {}, {})


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

    An issuer that cannot be fetched now keeps its last good set for a day (its outage is not ours);
    one whose set holds no key has none from now on. One that is new and has no good set has none,
    and routes that need it must be refused.
    """
    issuers = system.gateway.issuers if system.gateway else {}
    checked: dict[str, Checked] = {}
    refusals: dict[str, JWKSRefused] = {}
    good_at = {name: known.good_at.get(name, _now()) for name in issuers}

    async def one(name: str, issuer: Issuer) -> None:
        try:
            checked[name] = await fetch(issuer, project_directory)
            good_at[name] = _now()
        except KeysWithdrawn as refusal:
            refusals[name] = refusal
            if known.in_force(issuer):
                checked[name] = no_key()
        except JWKSRefused as refusal:
            refusals[name] = refusal
            if (last := known.last_good(issuer)) is not None:
                checked[name] = last

    await asyncio.gather(*(one(name, issuer) for name, issuer in issuers.items()))
    return KeySets(dict(issuers), checked, refusals, good_at)


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
