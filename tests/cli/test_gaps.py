"""What a proof says that it did not attack: each kind of enforcer that has no search of its own."""

import pytest

from tests.servers.rabbitmq.shop import SHOP
from watertight.attack.probe import Deep
from watertight.cli.proof import NO_GENERATOR, NOT_DEEP, gather_gaps
from watertight.model.load import load_text
from watertight.servers.rabbitmq.server import RabbitMQ

SYSTEM = load_text(SHOP.replace("{port}", "5671"))
GENERATED = {NO_GENERATOR, NOT_DEEP}


def generated(deep: Deep | None) -> set[tuple[str, str]]:
    return {(g.enforcer, g.what) for g in gather_gaps(SYSTEM, deep) if g.what in GENERATED}


def test_without_deep_each_kind_in_use_is_named_and_no_other() -> None:
    assert generated(None) == {("envoy", NOT_DEEP), ("rabbitmq", NOT_DEEP)}
    assert generated(Deep(1, 60)) == set()


def test_a_kind_without_a_generator_is_named_with_deep_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(RabbitMQ, "deep_probes")
    assert generated(Deep(1, 60)) == {("rabbitmq", NO_GENERATOR)}
    assert ("rabbitmq", NO_GENERATOR) in generated(None)
