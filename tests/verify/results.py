"""Evidence to render and to sign, with everything awkward in it that an attacker could answer."""

from watertight.attack.probe import Gap, Verdict
from watertight.model.findings import Finding, Severity
from watertight.model.system import Position
from watertight.verify.results import Evidence, Result

NASTY = '<script>alert("x")</script> & [red]bold[/red] \x1b[31m\x00 ]]>'
AT = Position("watertight.yaml", 12, 5)


def result(
    identifier: str = "tls.plaintext",
    channel: str = "storefront -> orders",
    verdict: Verdict = Verdict.HELD,
    observed: str = "alert certificate_required",
    expected: str = "refused",
) -> Result:
    return Result(
        id=identifier,
        enforcer="envoy",
        channel=channel,
        kind="use" if expected == "served" else "attack",
        attempt=f"{identifier} is tried",
        expected=expected,
        observed=observed,
        verdict=verdict,
        seconds=0.004,
        at=AT,
    )


ALL_HELD = Evidence(
    "shop.internal",
    4.2,
    1,
    (result(), result("use.grant", expected="served", observed="answered 200")),
)
MIXED = Evidence(
    "shop.internal",
    4.2,
    2,
    (
        result(),
        result("grants.path", verdict=Verdict.BROKEN, observed=NASTY),
        result("reach.name", "orders -> mailer", Verdict.NOT_RUN, "no answer within 20 s"),
    ),
    (Finding("WT-V1", f"No namespaces. {NASTY}", AT, severity=Severity.WARNING),),
    (
        *(Gap("envoy", f"a -> {callee}", f"two identities at once {NASTY}") for callee in "bcdef"),
        Gap("nats", "anyone -> bus", "the server itself"),
    ),
)
EMPTY = Evidence("shop.internal", 0.0, 0, ())
