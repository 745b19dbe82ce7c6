"""A proxy's access log: whoever writes to it by misbehaving is held to a share of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from watertight.runtime import accesslog
from watertight.runtime.accesslog import AccessLog


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.access.log"


def _line(client: str, status: int, **more: Any) -> bytes:
    return json.dumps({"client": client, "status": status, "flags": "-", **more}).encode() + b"\n"


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_good_requests_are_all_kept(path: Path, clock: _Clock) -> None:
    log = AccessLog(path, now=clock)
    for _ in range(5_000):
        log.write(_line("10.0.0.1", 200))
    log.close()
    assert len(_read(path)) == 5_000


def test_a_flood_is_counted_and_others_are_still_heard(path: Path, clock: _Clock) -> None:
    """One client's refusals beyond its share are a number; another client's stand in full."""
    log = AccessLog(path, now=clock)
    for _ in range(10_000):
        log.write(_line("10.6.6.6", 404))
    log.write(_line("10.0.0.1", 403, path="/honest"))
    assert [e["client"] for e in _read(path)].count("10.6.6.6") == accesslog.BURST_OF_ONE
    assert _read(path)[-1]["path"] == "/honest"
    clock.now += accesslog.TOLD_EVERY_SECONDS
    log.settle(clock.now)
    assert _read(path)[-1]["dropped"] == 10_000 - accesslog.BURST_OF_ONE
    log.close()


def test_many_addresses_win_nothing(path: Path, clock: _Clock) -> None:
    """All clients together have a share too, and are not all remembered."""
    log = AccessLog(path, now=clock)
    for number in range(3 * accesslog.MOST_CLIENTS):
        log.write(_line(f"client {number}", 404))
    assert len(log._clients) <= accesslog.MOST_CLIENTS + 1
    log.close()
    *kept, told = _read(path)
    assert len(kept) == accesslog.BURST_OF_ALL
    assert told["dropped"] == 3 * accesslog.MOST_CLIENTS - accesslog.BURST_OF_ALL


def test_a_failed_answer_with_a_good_status_counts_as_failed(path: Path, clock: _Clock) -> None:
    log = AccessLog(path, now=clock)
    for _ in range(1_000):
        log.write(json.dumps({"client": "a", "status": 200, "flags": "DC"}).encode() + b"\n")
    log.close()
    assert len(_read(path)) == accesslog.BURST_OF_ONE + 1


@pytest.mark.parametrize(
    "chunk",
    [
        b'{"client": "a", "status": 404, "path": "' + b"x" * 20_000 + b'"}\n',
        b"\xff\xfe not json \x1b[31m" + b"y" * 20_000 + b"\n",
        b'{"status": 200, "deep": ' + b"[" * 10_000 + b"]" * 10_000 + b"}\n",
        b'["a list"]\n',
        b"z" * 1_000_000 + b"\n",
    ],
)
def test_no_line_is_long_or_breaks_the_log(path: Path, clock: _Clock, chunk: bytes) -> None:
    log = AccessLog(path, now=clock)
    for start in range(0, len(chunk), 65_536):
        log.write(chunk[start : start + 65_536])
    log.write(_line("b", 200, path="/after"))
    log.close()
    assert all(len(line) < 8_192 for line in path.read_bytes().splitlines())
    assert "/after" in {entry.get("path") for entry in _read(path)}


def test_the_files_have_a_bounded_size_in_all(path: Path, clock: _Clock) -> None:
    log = AccessLog(path, now=clock, limit_bytes=10_000)
    for number in range(2_000):
        log.write(_line("10.0.0.1", 200, number=number))
    log.close()
    files = sorted(path.parent.iterdir())
    assert [f.name for f in files] == [path.name, *(f"{path.name}.{n}" for n in (1, 2, 3))]
    assert all(f.stat().st_size <= 10_000 for f in files)
    newest = [json.loads(line)["number"] for f in reversed(files) for line in f.open()]
    assert newest == list(range(newest[0], 2_000))
