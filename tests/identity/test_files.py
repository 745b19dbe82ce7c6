"""Files are whole, private, and on the disk before their name is."""

import os
from pathlib import Path

import pytest

from watertight.identity.files import write_atomically


def test_the_bytes_reach_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill shows no missing fsync, since the kernel keeps the pages; the order of calls does."""
    target, calls = tmp_path / "state", []
    fsync, rename = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append("fsync directory" if path == tmp_path else "fsync file")
        assert path == tmp_path or path.read_bytes() == b"new", "flushed before the fsync"
        fsync(descriptor)

    def note_rename(source: Path, destination: Path) -> None:
        calls.append("rename")
        rename(source, destination)

    monkeypatch.setattr("watertight.identity.files.os.fsync", note_fsync)
    monkeypatch.setattr("watertight.identity.files.os.replace", note_rename)
    write_atomically(target, b"new")
    assert calls == ["fsync file", "rename", "fsync directory"]
    assert target.read_bytes() == b"new"


def test_the_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_atomically(tmp_path / "key", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "state"
    write_atomically(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("watertight.identity.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
