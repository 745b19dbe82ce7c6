"""Whatever loads survives dump and load; whatever does not raises DeclarationError alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.systems import mutated, shapeless, systems
from watertight.model.decide import decide
from watertight.model.diff import compare
from watertight.model.dump import dump
from watertight.model.findings import DeclarationError
from watertight.model.lint import lint
from watertight.model.load import load_text
from watertight.model.starter import STARTER
from watertight.model.system import NOWHERE, Gateway, System

SHOP = (Path(__file__).parents[2] / "examples/shop/watertight.yaml").read_text(encoding="utf-8")
slow_enough = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def without_positions(system: System) -> System:
    def bare(gateway: Gateway) -> Gateway:
        return replace(
            gateway,
            at=NOWHERE,
            routes=tuple(replace(route, at=NOWHERE) for route in gateway.routes),
            issuers={n: replace(issuer, at=NOWHERE) for n, issuer in gateway.issuers.items()},
        )

    return replace(
        system,
        services={n: replace(service, at=NOWHERE) for n, service in system.services.items()},
        resources={n: replace(resource, at=NOWHERE) for n, resource in system.resources.items()},
        channels=tuple(replace(channel, at=NOWHERE) for channel in system.channels),
        gateway=bare(system.gateway) if system.gateway else None,
    )


@slow_enough
@given(system=systems())
def test_a_system_survives_dump_and_load(system: System) -> None:
    assert without_positions(load_text(dump(system))) == system


@slow_enough
@given(system=systems())
def test_nothing_changes_between_a_system_and_itself(system: System) -> None:
    assert compare(system, load_text(dump(system))) == ()


@slow_enough
@given(old=systems(), new=systems())
def test_two_systems_without_changes_are_equal(old: System, new: System) -> None:
    assert (compare(old, new) == ()) == (without_positions(old) == without_positions(new))


@slow_enough
@given(system=systems())
def test_a_pair_is_allowed_exactly_if_its_channel_is_declared(system: System) -> None:
    for source in system.services:
        for target in system.services:
            declared = system.channel(source, target) is not None
            assert decide(system, source, target).allowed == declared


def loads_or_refuses(text: bytes | str) -> None:
    """No third way; and what loads is fit for all that follows."""
    try:
        system = load_text(text)
    except DeclarationError as error:
        refusal = error
    else:
        lint(system)
        assert without_positions(load_text(dump(system))) == without_positions(system)
        return
    assert refusal.findings
    assert all(f.at.line >= 1 and f.at.column >= 1 and f.message for f in refusal.findings)


@slow_enough
@given(text=st.binary(max_size=200))
def test_any_bytes(text: bytes) -> None:
    loads_or_refuses(text)


@slow_enough
@given(
    text=st.text(st.sampled_from("trust_domain: a\n-[]{}&*!|>'\"%@`#,? \t\0\ud800"), max_size=60)
)
def test_any_text(text: str) -> None:
    loads_or_refuses(text)


@slow_enough
@given(document=shapeless)
def test_any_shape(document: object) -> None:
    loads_or_refuses(yaml.safe_dump(document))


@slow_enough
@given(text=mutated(SHOP))
def test_any_replaced_part(text: str) -> None:
    loads_or_refuses(text)


@slow_enough
@given(data=st.data())
def test_any_damaged_bytes(data: st.DataObject) -> None:
    text = bytearray(STARTER.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 8)))
        text[start:end] = data.draw(st.binary(max_size=4))
    loads_or_refuses(bytes(text))


@pytest.mark.parametrize("text", [STARTER, SHOP])
def test_the_texts_that_are_damaged_here_load(text: str) -> None:
    assert load_text(text).services
