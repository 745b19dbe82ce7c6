"""What is said of the issuers' key sets: why one is missing, and which keys are left out."""

from collections.abc import Iterator
from typing import Any

from watertight.gateway.fetching import KeySets
from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.findings import Finding, MachineLacks
from watertight.model.system import System


def require_keys(system: System, key_sets: KeySets) -> None:
    """Raises MachineLacks with all issuers that a route requires and whose keys cannot be had."""
    routes = system.gateway.routes if system.gateway else ()
    required = dict.fromkeys(route.require.issuer for route in routes if route.require)
    findings = [
        Finding(
            codes.KEY_SET_REFUSED,
            refusal.message,
            refusal.issuer.jwks_at,
            f"gateway.issuers.{name}.jwks",
            refusal.remedy,
        )
        for name, refusal in key_sets.refusals.items()
        if name in required and name not in key_sets.checked
    ]
    if findings:
        raise MachineLacks(findings)


def left_out(key_sets: KeySets) -> Iterator[str]:
    """One line for each issuer of whose keys not all are used."""
    for name, checked in key_sets.checked.items():
        if checked.skipped:
            yield f"Of the keys of the issuer {quoted(name)}, {'; '.join(checked.skipped)}."


def withdrawals(before: KeySets, now: KeySets) -> Iterator[str]:
    """One line for each issuer of which no token is good any more, or one is again."""
    for name in now.closed:
        if name not in before.closed:
            refusal = now.refusals[name]
            yield (
                f"{refusal.message} From now on every token of this issuer is refused (401), "
                "until there is a key again."
            )
    for name in before.closed:
        if name in now.checked and name not in now.closed:
            yield f"The issuer {quoted(name)} has keys again: its tokens are accepted."


def facts(key_sets: KeySets) -> list[dict[str, Any]]:
    """The issuers as ``status`` shows them; ``closed``: no token of it is accepted."""
    return [
        {
            "name": name,
            "issuer": issuer.issuer,
            "jwks": issuer.jwks,
            "keys": key_sets.checked[name].count if name in key_sets.checked else 0,
            "skipped": key_sets.checked[name].skipped if name in key_sets.checked else (),
            "closed": name in key_sets.closed,
            "failure": str(key_sets.refusals[name]) if name in key_sets.refusals else None,
        }
        for name, issuer in key_sets.issuers.items()
    ]
