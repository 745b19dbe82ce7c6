"""Attacks the running system and gathers signed evidence: what ``watertight verify`` does."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from watertight.attack.probe import Deep, Gap, Probe
from watertight.control.client import AdminClient
from watertight.control.keys import kek_for
from watertight.dataplane.binary import envoy_binary
from watertight.enforcers.registry import enforcers, resource_enforcers
from watertight.enforcers.resource import KnowsWeaknesses
from watertight.errors import ExitCode, WatertightError
from watertight.identity.hazmat import open_issuer
from watertight.identity.svid import X509SVID
from watertight.model.findings import Finding, Severity
from watertight.model.nearest import did_you_mean
from watertight.model.system import Position, System
from watertight.runtime.capabilities import detect
from watertight.runtime.layout import Layout, look
from watertight.runtime.pods import Machine, pod_specs
from watertight.runtime.supervisor import Supervisor
from watertight.verify.arena import LiveArena
from watertight.verify.evidence import sign_evidence, write_evidence
from watertight.verify.forge import Forger, Signer
from watertight.verify.prover import prove
from watertight.verify.reports.html import to_html
from watertight.verify.results import Evidence, Result
from watertight.verify.sampling import Sample, sampled

NO_ISOLATION = "WT-W2001"
NO_MEMORY_BUDGET = "WT-W2002"
"""The findings' pages: docs/findings/WT-W2001.md and WT-W2002.md."""


EXTERNAL = "the server itself: somebody else runs it; only what its clients can reach was tried"
NOT_DEEP = "attacks that nobody listed: they are generated with --deep"
NO_GENERATOR = "attacks that nobody listed: there is no generator for this server yet"
NO_WITNESS = "what reaches the apps: packet sockets are not allowed here, so answers were judged"


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is told how the proof goes."""

    on_start: Callable[[int], None]
    """Called with the number of probes."""
    on_result: Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found, and where the signed evidence lies."""

    evidence: Evidence
    file: Path
    page: Path


class NoSuchProbe(WatertightError):
    """A selection that selects nothing."""

    exit_code = ExitCode.MISUSE


def gather_probes(system: System, selection: str) -> tuple[Probe, ...]:
    """Every probe of every installed enforcer whose id matches (``fnmatch``)."""
    return tuple(
        probe
        for enforcer in enforcers().values()
        for probe in enforcer().probes(system)
        if fnmatch(probe.id, selection)
    )


def gather_deep(system: System, deep: Deep) -> Iterator[Probe]:
    """The searches of every enforcer that can generate attacks."""
    for enforcer in enforcers().values():
        search = getattr(enforcer(), "deep_probes", None)
        if search is not None:
            yield from search(system, deep)


def gather_gaps(system: System, deep: Deep | None) -> Iterator[Gap]:
    """What no enforcer's probes try, by the declaration."""
    used = {"envoy"} | {resource.kind for resource in system.resources.values()}
    for kind, enforcer in enforcers().items():
        generates = hasattr(enforcer(), "deep_probes")
        if kind in used and (deep is None or not generates):
            yield Gap(kind, "every channel", NOT_DEEP if generates else NO_GENERATOR)
    for enforcer in enforcers().values():
        unattacked = getattr(enforcer(), "unattacked", None)
        if unattacked is not None:
            yield from unattacked(system)
    for resource in system.resources.values():
        if resource.external:
            yield Gap(resource.kind, f"anyone -> {resource.name}", EXTERNAL)


async def attack(  # noqa: PLR0913 - each is an option of the command
    declared: System,
    declaration: Path,
    client: AdminClient,
    *,
    token_keys: Mapping[str, Mapping[str, Any]],
    selection: str,
    audience: Audience,
    deep: Deep | None = None,
    sample: Sample | None = None,
    without_tokens: bool = False,
) -> Proof:
    """Runs the probes against the system that runs for ``declaration``, and signs the evidence.

    Raises NotRunning, or WatertightError where the proof itself cannot be made.
    """
    status = client.get("/status")
    revoked = frozenset(s["name"] for s in status["services"] if s["revoked"])
    system = declared.without_identities(revoked)
    layout = look(declaration, declared, detect())
    supervisor = Supervisor(layout)
    await supervisor.adopt(pod_specs(declared, layout, Machine.here(envoy_binary())))
    roots = client.get("/bundle")["roots"].encode()
    probes: Sequence[Probe] = gather_probes(system, selection)
    if deep is not None:
        searches = gather_deep(system, deep)
        probes = (*probes, *(p for p in searches if fnmatch(p.id, selection)))
    if not probes:
        raise NoSuchProbe(
            f"No probe matches `{selection}`.",
            remedy=did_you_mean(selection, {p.id for p in gather_probes(system, "*")})
            or "`watertight verify --all` lists them; a pattern is quoted: `--only 'tls.*'`.",
        )
    probes, left_out = sampled(probes, sample) if sample is not None else (probes, ())
    audience.on_start(len(probes))
    try:
        async with LiveArena(
            system,
            layout.placement,
            foothold=supervisor.run_inside,
            listening=supervisor.listening,
            forger=Forger(_signer(layout)),
            roots=lambda: roots,
            token_keys=token_keys,
            packet_socket=supervisor.packet_socket,
        ) as arena:
            evidence = await prove(
                arena,
                probes,
                on_result=audience.on_result,
                findings=(*_findings(layout, declaration), *_weaknesses(system)),
                gaps=(*gather_gaps(system, deep), *await _blind(supervisor, system), *left_out),
                selection=selection,
                sample=str(sample) if left_out else "",
                without_tokens=without_tokens,
            )
    finally:
        supervisor.leave()
    return _sign(evidence, declaration, layout, client)


async def _blind(supervisor: Supervisor, system: System) -> Sequence[Gap]:
    """Whether this host lets the prober see what reaches the apps."""
    listening = [name for name, service in system.services.items() if service.listens]
    tap = await supervisor.packet_socket(listening[0]) if listening else None
    if tap is not None:
        tap.close()
    return () if tap or not listening else (Gap("envoy", "every channel", NO_WITNESS),)


def _signer(layout: Layout) -> Signer:
    issuer = open_issuer(
        layout.state / "authority", kek=kek_for(layout.state), reason="watertight verify"
    )
    if not isinstance(issuer.private_key, ec.EllipticCurvePrivateKey):
        raise WatertightError("The prover forges with ECDSA authorities only.")
    return Signer(issuer.certificate, issuer.private_key, issuer.chain)


def _findings(layout: Layout, declaration: Path) -> tuple[Finding, ...]:
    """What makes the proof itself weaker, though every probe may hold."""
    at = Position(str(declaration), 1, 1)
    capabilities = layout.capabilities
    found = (
        (
            NO_ISOLATION,
            capabilities.finding,
            "Run on a kernel that allows user namespaces, or as root.",
        ),
        (
            NO_MEMORY_BUDGET,
            capabilities.budget_finding,
            "Run as root, or in a unit with Delegate=yes.",
        ),
    )
    return tuple(
        Finding(code, message, at, remedy=remedy, severity=Severity.WARNING)
        for code, message, remedy in found
        if message
    )


def _weaknesses(system: System) -> Iterator[Finding]:
    for enforcer in resource_enforcers().values():
        if isinstance(enforcer, KnowsWeaknesses):
            yield from enforcer.weaknesses(system)


def _sign(evidence: Evidence, declaration: Path, layout: Layout, client: AdminClient) -> Proof:
    now = dt.datetime.now(dt.UTC)
    verifier = _verifier_svid(client)
    envelope = sign_evidence(
        evidence, declaration.read_bytes(), verifier, name=declaration.name, now=now
    )
    page = to_html(evidence, made_at=f"{now:%Y-%m-%d %H:%M:%S} UTC")
    directory = layout.state / "evidence"
    file = write_evidence(directory, envelope, page, now=now)
    return Proof(evidence, file, directory / "latest.html")


def _verifier_svid(client: AdminClient) -> X509SVID:
    """An SVID for the verifier; its key is made here and forgotten with this process."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pem = csr.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    answer = client.post("/verifier", {"csr": pem})
    chain = tuple(x509.load_pem_x509_certificates(answer["chain"].encode()))
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return X509SVID(answer["spiffe_id"], chain, der)
