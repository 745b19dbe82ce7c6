"""The command that attacks: verify."""

import asyncio
import contextlib
import datetime as dt
import json
import secrets
import sys
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from watertight.attack.probe import Deep, Verdict
from watertight.cli.checking import load_checked
from watertight.cli.output import print_json, say, speaks_plainly, stderr, stdout
from watertight.cli.project import (
    DEFAULT_FILE,
    FileArgument,
    admin_client,
    find_declaration,
    takes_file,
)
from watertight.cli.proof import Audience, Proof, attack
from watertight.control.store import ROOTS
from watertight.errors import ExitCode, WatertightError
from watertight.gateway.fetching import fetch
from watertight.gateway.keysets import JWKSRefused
from watertight.model.document import quoted
from watertight.model.dump import dump
from watertight.model.nearest import did_you_mean
from watertight.model.system import Issuer, System
from watertight.runtime.files import STATE_DIRECTORY
from watertight.verify.evidence import check_evidence
from watertight.verify.reports.json import to_json
from watertight.verify.reports.junit import to_junit
from watertight.verify.reports.sarif import to_sarif
from watertight.verify.reports.table import to_table
from watertight.verify.results import Result
from watertight.verify.sampling import Sample
from watertight.verify.tokens import UnusableKey, is_of

MOST_SEED = 1_000_000


class Report(StrEnum):
    """The forms of a proof."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    JUNIT = "junit"


class BadTokenKey(WatertightError):
    """A ``--token-key`` that cannot be used."""

    exit_code = ExitCode.MISUSE


@speaks_plainly
@takes_file
def verify(  # noqa: PLR0913 - each is an option of the command
    file: FileArgument = DEFAULT_FILE,
    *,
    output: Annotated[Report, typer.Option("--output", "-o", help="Form of the result.")] = (
        Report.TEXT
    ),
    every: Annotated[bool, typer.Option("--all", help="List every probe, also what held.")] = False,
    only: Annotated[
        str, typer.Option(help="Only probes whose id matches: `tls.*`.", metavar="PATTERN")
    ] = "*",
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Search for attacks that nobody listed, too: they are generated."
        ),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="CHANNELS",
            help="Try costly attacks on so many channels only, drawn anew each time. The report "
            "lists what was left out.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="With --deep or --sample: the same attacks as in the run that printed it."
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.01, max=1_440, help="With --deep: how long to search.")
    ] = 1.0,
    token_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ISSUER=FILE",
            help="The private JWK of an issuer, so that permitted uses of the gateway's routes "
            "and forged claims can be tried too. It never leaves this process.",
        ),
    ] = None,
    without_tokens: Annotated[
        bool,
        typer.Option(
            "--without-tokens",
            help="Leave out what takes a token of an issuer whose key is not given. The report "
            "lists it as not attacked, and says that it is a part.",
        ),
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option("--check-evidence", help="Attack nothing: check signed evidence instead."),
    ] = None,
    roots: Annotated[
        Path | None, typer.Option(help="Trust these roots (PEM) when checking evidence.")
    ] = None,
) -> None:
    """Attack every channel of the running system, and prove that only what is declared works."""
    system, _ = load_checked(file)
    declaration = find_declaration(file).resolve()
    if check is not None:
        _check(system, declaration, check, roots)
        return
    _warn_if_not_in_force(system, declaration)
    keys = dict(_token_key(text, system, declaration.parent) for text in token_key or [])
    chosen = secrets.randbelow(MOST_SEED) if seed is None else seed
    search = Deep(chosen, minutes * 60) if deep else None
    some = Sample(sample, chosen) if sample is not None else None
    if search is not None:
        say(f"Generating attacks for {minutes:g} min; the same again: --deep --seed {chosen}")
    proof = _attack_with_progress(
        system, declaration, keys, only, search, some, without_tokens=without_tokens
    )
    _print(proof, output, every=every)
    say(f"Evidence: {proof.file}\nTo read:  {proof.page}")
    raise typer.Exit(proof.evidence.exit_code)


def _attack_with_progress(  # noqa: PLR0913 - each is an option of the command
    system: System,
    declaration: Path,
    keys: dict[str, dict[str, Any]],
    only: str,
    deep: Deep | None,
    sample: Sample | None,
    *,
    without_tokens: bool,
) -> Proof:
    columns = (TextColumn("Attacking"), BarColumn(), MofNCompleteColumn())
    with (
        # Where there is no terminal it would only leave an empty line.
        Progress(
            *columns, console=stderr, transient=True, disable=not stderr.is_terminal
        ) as progress,
        _told_in_lines(progress),
    ):
        task = progress.add_task("attack", total=None)

        def on_result(result: Result) -> None:
            progress.advance(task)
            if result.verdict is not Verdict.HELD:
                progress.console.print(
                    f"{result.verdict}: {result.id}: {result.channel}: {result.observed}",
                    markup=False,
                )

        return asyncio.run(
            attack(
                system,
                declaration,
                admin_client(declaration),
                token_keys=keys,
                selection=only,
                deep=deep,
                sample=sample,
                without_tokens=without_tokens,
                audience=Audience(lambda total: progress.update(task, total=total), on_result),
            )
        )


@contextlib.contextmanager
def _told_in_lines(progress: Progress) -> Iterator[None]:
    """Where stderr is no terminal, and so shows no bar: how far it is, every ten seconds."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(PROGRESS_EVERY_SECONDS):
            for task in progress.tasks:
                of = f" of {task.total:.0f}" if task.total else ""
                say(f"Attacking: {task.completed:.0f}{of} done.")

    teller = threading.Thread(target=tell, daemon=True)
    if not stderr.is_terminal:
        teller.start()
    try:
        yield
    finally:
        done.set()


PROGRESS_EVERY_SECONDS = 10.0


def _print(proof: Proof, output: Report, *, every: bool) -> None:
    match output:
        case Report.TEXT:
            stdout.print(to_table(proof.evidence, every=every))
        case Report.JSON:
            sys.stdout.write(to_json(proof.evidence))
        case Report.SARIF:
            sys.stdout.write(to_sarif(proof.evidence))
        case Report.JUNIT:
            sys.stdout.write(to_junit(proof.evidence))


def _warn_if_not_in_force(system: System, declaration: Path) -> None:
    """A file that was edited and not applied makes probes fail for a reason worth knowing."""
    current = declaration.parent / STATE_DIRECTORY / "current.yaml"
    if not current.exists() or admin_client(declaration).pid() is None:
        return  # what does not run is told of soon
    if current.read_text().rstrip("\n") != dump(system).rstrip("\n"):  # it is filled up
        say(f"{declaration.name} differs from what is in force; see `watertight plan`.")


PRIVATE = "Give a private JWK."


def _token_key(text: str, system: System, project: Path) -> tuple[str, dict[str, Any]]:
    issuer, separator, path = text.partition("=")
    if not separator:
        raise BadTokenKey(f"{text!r} is not ISSUER=FILE.")
    issuers = system.gateway.issuers if system.gateway else {}
    if issuer not in issuers:
        raise BadTokenKey(
            f"There is no issuer {quoted(issuer)}.",
            remedy=did_you_mean(issuer, issuers)
            or f"Declared are: {', '.join(issuers) or 'none'}.",
        )
    try:
        key = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadTokenKey(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError:  # its text may be a secret: not quoted, not chained
        raise BadTokenKey(f"{path} is not JSON.", remedy=PRIVATE) from None
    if not isinstance(key, dict):
        raise BadTokenKey(f"{path} is no JWK (RFC 7517).", remedy=PRIVATE)
    _refuse_a_stranger(issuers[issuer], project, key)
    return issuer, key


def _refuse_a_stranger(issuer: Issuer, project: Path, key: dict[str, Any]) -> None:
    """A key that the gateway does not know would have every right token refused."""
    try:
        known = asyncio.run(fetch(issuer, project)).keys
    except JWKSRefused:  # `status` tells of it; the gateway may have an older one
        return
    try:
        is_known = is_of(key, issuer.name, known)
    except UnusableKey as error:
        raise BadTokenKey(error.message, remedy=error.remedy) from None
    if not is_known:
        raise BadTokenKey(
            f"The token key lent for issuer {quoted(issuer.name)} is none of the keys in "
            f"{issuer.jwks}.",
            remedy="Give the private half of one of them. Where nobody has it: "
            "docs/how-to/prove-with-tokens.md.",
        )


def _check(system: System, declaration: Path, envelope: Path, roots: Path | None) -> None:
    trusted = roots or declaration.parent / STATE_DIRECTORY / ROOTS
    try:
        certificates = x509.load_pem_x509_certificates(trusted.read_bytes())
        content = envelope.read_bytes()
    except OSError as error:
        raise WatertightError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise WatertightError(f"{trusted} holds no PEM certificates.") from error
    checked = check_evidence(
        content,
        certificates,
        trust_domain=system.trust_domain,
        declaration=declaration.read_bytes(),
        now=dt.datetime.now(dt.UTC),
    )
    print_json(
        {
            "signer": checked.signer,
            "finished_at": checked.finished_at,
            "declaration": checked.declaration_name,
            "declaration_sha256": checked.declaration_sha256,
            "summary": checked.result["summary"],
        }
    )
    summary = checked.result["summary"]
    if summary["held"] != summary["probes"]:
        raise typer.Exit(ExitCode.FOUND_WRONG)
    if "selection" in checked.result:
        raise WatertightError(
            f"The evidence is of a part only: the probes `{checked.result['selection']}`.",
            remedy="Run watertight verify without --only, --sample and --without-tokens.",
        )
