"""Which key-encryption key the operator's shell asks for."""

from pathlib import Path

import pytest

from watertight.control.keys import COMMAND, FILE, PASSPHRASE, KEKInSight, kek_for
from watertight.identity.errors import KeyUnavailable


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (COMMAND, FILE, PASSPHRASE):
        monkeypatch.delenv(name, raising=False)


def test_a_key_file_by_default(tmp_path: Path) -> None:
    sealed = kek_for(tmp_path).seal(b"secret", context="test")
    assert (tmp_path / "kek.json").stat().st_mode & 0o777 == 0o600
    assert kek_for(tmp_path).unseal(sealed, context="test") == b"secret"


def test_a_key_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE, str(tmp_path / "elsewhere.json"))
    state = tmp_path / "project" / ".watertight"
    state.mkdir(parents=True)
    kek_for(state).seal(b"secret", context="test")
    assert (tmp_path / "elsewhere.json").exists()
    assert not (state / "kek.json").exists()


def test_a_key_file_that_services_could_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every app sees the project, read-only."""
    monkeypatch.setenv(FILE, str(tmp_path / "project" / "kek.json"))
    with pytest.raises(KEKInSight, match="which every service may read"):
        kek_for(tmp_path / "project" / ".watertight")


def test_a_passphrase_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "correct horse battery staple")
    sealed = kek_for(tmp_path).seal(b"secret", context="test")
    assert kek_for(tmp_path).unseal(sealed, context="test") == b"secret"
    monkeypatch.setenv(PASSPHRASE, "incorrect horse battery staple")
    with pytest.raises(KeyUnavailable):
        kek_for(tmp_path).unseal(sealed, context="test")


def test_a_passphrase_from_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, "printf 'correct horse battery staple'")
    sealed = kek_for(tmp_path).seal(b"secret", context="test")
    monkeypatch.delenv(COMMAND)
    monkeypatch.setenv(PASSPHRASE, "correct horse battery staple")
    assert kek_for(tmp_path).unseal(sealed, context="test") == b"secret"
