"""Which nats-server is run: one that can do what is declared; else a sentence says what to do."""

import os
from pathlib import Path

import pytest

from tests.servers.nats.shop import OLD_SHOP, SHOP
from tests.servers.nats.test_compile import ENFORCER, PLACEMENT, read
from watertight.enforcers.resource import ServerMissing
from watertight.servers.nats import locate


def fake(directory: Path, version: str) -> Path:
    program = directory / "nats-server"
    directory.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho nats-server: v{version}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "DEBIAN", "")
    monkeypatch.setattr(locate, "WHEEL", "no-such-wheel")


def found(text: str, *directories: Path) -> Path:
    plan = ENFORCER.compile(read(text), PLACEMENT)["events"]
    process = ENFORCER.locate(plan, PLACEMENT, os.pathsep.join(map(str, directories)))
    assert process.environment == {"GOMEMLIMIT": str(1 << 30)}  # of 2 GiB
    assert process.argv[1:] == ("--config", "/run/watertight/servers/events/nats.conf")
    return Path(process.argv[0])


@pytest.mark.usefixtures("nothing_else")
def test_the_first_that_is_new_enough_is_taken(tmp_path: Path) -> None:
    old, new = fake(tmp_path / "old", "2.9.10"), fake(tmp_path / "new", "2.11.0")
    assert found(SHOP, old.parent, new.parent) == new
    assert found(OLD_SHOP, old.parent, new.parent) == old


@pytest.mark.usefixtures("nothing_else")
def test_one_that_is_too_old_is_named_with_the_way_out(tmp_path: Path) -> None:
    old = fake(tmp_path / "old", "2.10.29")
    with pytest.raises(ServerMissing) as missing:
        found(SHOP, old.parent)
    assert f"needs nats-server 2.11 or newer; {old} is 2.10.29." in missing.value.message
    assert "declare `minimum_tls: 1.2`" in missing.value.remedy


@pytest.mark.usefixtures("nothing_else")
def test_where_there_is_none_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ServerMissing) as missing:
        found(OLD_SHOP, tmp_path)
    assert missing.value.message.endswith("and there is none.")
    assert "pip install" in missing.value.remedy


def test_the_wheel_is_found_where_the_path_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "DEBIAN", "")
    assert locate.server_version(found(SHOP, tmp_path)) >= (2, 15)  # type: ignore[operator]
