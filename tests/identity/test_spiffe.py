"""SPIFFE IDs: rules I1 to I6, each with what it takes and what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watertight.identity.errors import MalformedSPIFFEID
from watertight.identity.spiffe import SPIFFEID

GOOD = [
    "spiffe://shop.internal",
    "spiffe://shop.internal/orders",
    "spiffe://shop.internal/ns/prod/sa/orders",
    "spiffe://shop_1.internal-2/Or.d_e-rs9",
    "spiffe://10.0.0.1/orders",  # I6: a name like any other
    "spiffe://shop.internal/...",  # three dots are a segment like any other
    "spiffe://" + "a" * 255 + "/x",
    "spiffe://td/" + "a" * (2048 - len("spiffe://td/")),  # I4: exactly at the limit
]

BAD = [
    ("I1", ""),
    ("I1", "orders"),
    ("I1", "https://shop.internal/orders"),
    ("I1", "spiffe:/shop.internal/orders"),
    ("I1", "spiffe://shop.internal/orders?x=1"),
    ("I1", "spiffe://shop.internal/orders#x"),
    ("I1", " spiffe://shop.internal/orders"),
    ("I2", "spiffe://"),
    ("I2", "spiffe:///orders"),
    ("I2", "spiffe://user@shop.internal/orders"),
    ("I2", "spiffe://shop.internal:8443/orders"),
    ("I2", "spiffe://shop%2einternal/orders"),
    ("I2", "spiffe://shöp.internal/orders"),
    ("I2", "spiffe://\u212aelvin.internal/orders"),  # KELVIN SIGN lower-cases to k
    ("I2", "spiffe://shop.internal\0/orders"),
    ("I2", "spiffe://" + "a" * 256 + "/x"),
    ("I3", "spiffe://shop.internal/"),
    ("I3", "spiffe://shop.internal/orders/"),
    ("I3", "spiffe://shop.internal//orders"),
    ("I3", "spiffe://shop.internal/./orders"),
    ("I3", "spiffe://shop.internal/../orders"),
    ("I3", "spiffe://shop.internal/or%64ers"),
    ("I3", "spiffe://shop.internal/or ders"),
    ("I3", "spiffe://shop.internal/orders\n"),
    ("I3", "spiffe://shop.internal/orders\0"),
    ("I3", "spiffe://shop.internal/örders"),
    ("I4", "spiffe://td/" + "a" * 2048),
]


@pytest.mark.parametrize("text", GOOD)
def test_i1_to_i6_accepts(text: str) -> None:
    assert str(SPIFFEID.parse(text)) == text


@pytest.mark.parametrize(("rule", "text"), BAD)
def test_refuses_by_rule(rule: str, text: str) -> None:
    with pytest.raises(MalformedSPIFFEID) as refusal:
        SPIFFEID.parse(text)
    assert refusal.value.rule == rule


def test_i5_scheme_and_trust_domain_have_no_case_and_the_path_has() -> None:
    same = SPIFFEID.parse("SPIFFE://Shop.Internal/Orders")
    assert same == SPIFFEID("shop.internal", "/Orders")
    assert same != SPIFFEID("shop.internal", "/orders")


def test_cannot_be_made_wrong_without_parsing() -> None:
    for domain, path in [("Shop", "/x"), ("shop", "x"), ("shop", "/"), ("shop/a", "/x")]:
        with pytest.raises(MalformedSPIFFEID):
            SPIFFEID(domain, path)


def test_names_a_workload_or_a_trust_domain() -> None:
    assert SPIFFEID("shop.internal").is_trust_domain
    assert SPIFFEID.workload("shop.internal", "orders").name == "orders"


@given(st.text(max_size=60).map(lambda tail: "spiffe://td" + tail) | st.text(max_size=60))
def test_whatever_parses_is_its_own_spelling_or_differs_only_in_case(text: str) -> None:
    try:
        parsed = SPIFFEID.parse(text)
    except MalformedSPIFFEID:
        return
    assert SPIFFEID.parse(str(parsed)) == parsed
    assert str(parsed).lower() == text.lower()
    assert parsed.path == text.partition("://")[2].removeprefix(
        text.partition("://")[2].split("/")[0]
    )
