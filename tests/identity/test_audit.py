"""The audit log stays within bounds, and still tells when somebody cut or changed it."""

import datetime as dt
import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from watertight.identity import audit
from watertight.identity.audit import AuditLog, broken_links
from watertight.identity.errors import IdentityError


def _now() -> dt.datetime:
    return dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "authority" / "audit.jsonl"


def _filled(path: Path, lines: int) -> None:
    log = AuditLog(path, _now, generation_bytes=4_000)
    for number in range(lines):
        log.record("svid_issued", number=float(number))
    log.close()


def _entries(path: Path) -> list[dict[str, object]]:
    """Of all generations, oldest first."""
    files = sorted(
        path.parent.glob("audit.jsonl*"), key=lambda f: -int(f.suffix[1:].replace("jsonl", "0"))
    )
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_generations_are_bounded_and_linked(path: Path) -> None:
    _filled(path, 1_000)
    files = list(path.parent.iterdir())
    assert len(files) == audit.GENERATIONS
    assert all(f.stat().st_size <= 4_000 and f.stat().st_mode & 0o777 == 0o600 for f in files)
    numbers = [e["number"] for e in _entries(path) if e["event"] == "svid_issued"]
    assert numbers == list(range(int(str(numbers[0]).partition(".")[0]), 1_000))
    assert broken_links(path) == ()


def test_nothing_is_lost_between_two_generations(path: Path) -> None:
    _filled(path, 150)
    assert len([e for e in _entries(path) if e["event"] == "svid_issued"]) == 150
    assert len(list(path.parent.iterdir())) > 2


@pytest.mark.parametrize("number", [1, 2])
def test_a_generation_that_was_changed_is_named(path: Path, number: int) -> None:
    _filled(path, 150)
    changed = path.with_name(f"audit.jsonl.{number}")
    changed.write_text(changed.read_text().replace('"number": ', '"number":  ', 1))
    # A changed one also breaks what it says of the one before only if its first line was touched.
    assert broken_links(path) == (changed,)


def test_a_generation_that_was_taken_away_is_missed(path: Path) -> None:
    _filled(path, 180)
    path.with_name("audit.jsonl.2").unlink()
    path.with_name("audit.jsonl.3").rename(path.with_name("audit.jsonl.2"))
    assert broken_links(path) == (path.with_name("audit.jsonl.2"),)


def test_a_crash_between_two_generations_leaves_no_gap(path: Path) -> None:
    """The file was renamed, and the next one never begun."""
    _filled(path, 10)
    path.rename(path.with_name("audit.jsonl.1"))
    _filled(path, 1)
    assert broken_links(path) == ()


def test_several_holders_write_one_log(path: Path) -> None:
    """As `verify` does beside the authority: whoever is held when it rotates follows."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: _filled(path, 40), range(4)))
    assert len([e for e in _entries(path) if e["event"] == "svid_issued"]) == 160
    assert broken_links(path) == ()


def test_who_begins_a_generation_that_another_has_filled_since_begins_the_next(path: Path) -> None:
    class Slow(AuditLog):
        late = False

        def _open(self) -> int:
            opened = super()._open()
            if self.late:
                self.late = False
                _filled(path, 60)
            return opened

    log = Slow(path, _now, generation_bytes=4_000)
    while path.stat().st_size < 3_900:
        log.record("svid_issued", number=0.0)
    log.late = True
    log.record("svid_issued", number=1.0)
    log.record("svid_issued", number=2.0)
    log.close()
    assert not log.late
    assert broken_links(path) == ()


def test_what_a_caller_wrote_is_cut(path: Path) -> None:
    log = AuditLog(path, _now)
    log.record("svid_refused", reason="x" * 1_000_000)
    log.record("jwt_svid_issued", **audit.audiences(["y" * 1_000] * 4))
    log.record("jwt_svid_issued", **audit.audiences(["orders", "payments"]))
    log.close()
    refused, long, short = _entries(path)
    assert len(json.dumps(refused)) < 8_000
    assert len(json.dumps(long)) < 1_000
    assert len(str(long["audiences_sha256"])) == 64
    assert short["audiences"] == ["orders", "payments"]


def test_a_full_disk_is_an_error_and_nothing_is_issued() -> None:
    log = AuditLog(Path("/dev/full"), _now)
    with pytest.raises(IdentityError, match="cannot be written"):
        log.record("svid_issued")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 1 MiB; the rest of it is filled by somebody else as soon as a log has been opened."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=True)  # noqa: S607
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)  # noqa: S607


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_others_fill_keeps_nobody_from_issuing(small_disk: Path) -> None:
    """First from what was set aside, then at the cost of the oldest generations."""
    path = small_disk / "authority" / "audit.jsonl"
    log = AuditLog(path, _now, generation_bytes=200_000)
    with (small_disk / "data").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(small_disk).f_bfree == 0
    for number in range(6_000):
        log.record("svid_issued", number=float(number))
    log.close()
    newest = json.loads(path.read_text().splitlines()[-1])
    assert newest["number"] == 5_999
    assert broken_links(path) == ()
