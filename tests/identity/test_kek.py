"""Keys at rest: sealed, bound to their place, and closed to every wrong KEK."""

import json
import sys
from pathlib import Path

import pytest

from watertight.identity import kek as module
from watertight.identity.errors import KeyUnavailable
from watertight.identity.kek import (
    KEK,
    FileKEK,
    PassphraseKEK,
    passphrase_from_command,
    passphrase_from_environment,
)

SECRET = b"a private key"
PASSPHRASE = b"correct horse battery"


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real cost takes a third of a second each; one test below pays it."""
    monkeypatch.setattr(module, "SCRYPT_N", 2**4)


def file_kek(directory: Path) -> KEK:
    return FileKEK(directory / "kek")


def passphrase_kek(directory: Path, passphrase: bytes = PASSPHRASE) -> KEK:
    return PassphraseKEK(lambda: passphrase, directory / "kek")


@pytest.fixture(params=[file_kek, passphrase_kek])
def kek(request: pytest.FixtureRequest, tmp_path: Path) -> KEK:
    made: KEK = request.param(tmp_path)
    return made


def test_what_is_sealed_unseals_also_after_a_restart(kek: KEK, tmp_path: Path) -> None:
    sealed = kek.seal(SECRET, context="root 1")
    assert SECRET not in sealed
    assert kek.unseal(sealed, context="root 1") == SECRET
    again = FileKEK if isinstance(kek, FileKEK) else lambda path: passphrase_kek(path.parent)
    assert again(tmp_path / "kek").unseal(sealed, context="root 1") == SECRET


def test_a_seal_says_its_format_and_never_repeats(kek: KEK) -> None:
    first, second = kek.seal(SECRET, context="x"), kek.seal(SECRET, context="x")
    assert first != second
    assert json.loads(first)["format"] == "watertight.sealed/1+aes-256-gcm-siv"


def test_a_sealed_key_cannot_be_moved_to_another_place(kek: KEK) -> None:
    sealed = kek.seal(SECRET, context="issuer 1")
    with pytest.raises(KeyUnavailable, match="does not open"):
        kek.unseal(sealed, context="root 1")


def test_damage_is_refused(kek: KEK) -> None:
    document = json.loads(kek.seal(SECRET, context="x"))
    for name, value in [
        ("ciphertext", "AAAA"), ("ciphertext", "?"), ("nonce", "AAAA"), ("nonce", None),
        ("format", "watertight.sealed/2"),
    ]:  # fmt: skip
        broken = json.dumps({**document, name: value}).encode()
        with pytest.raises(KeyUnavailable) as refusal:
            kek.unseal(broken, context="x")
        assert refusal.value.remedy
    for broken in (b"", b"[]", b"not json", b"null"):
        with pytest.raises(KeyUnavailable):
            kek.unseal(broken, context="x")


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    sealed = FileKEK(tmp_path / "one").seal(SECRET, context="x")
    other = FileKEK(tmp_path / "two")
    other.seal(b"", context="x")
    with pytest.raises(KeyUnavailable, match="does not open"):
        other.unseal(sealed, context="x")


def test_the_kek_file_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    FileKEK(path).seal(SECRET, context="x")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(KeyUnavailable, match="Others may read"):
        FileKEK(path).seal(SECRET, context="x")


def test_a_lost_or_damaged_kek_file_is_never_replaced_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    sealed = FileKEK(path).seal(SECRET, context="x")
    path.unlink()
    with pytest.raises(KeyUnavailable, match="cannot be read"):
        FileKEK(path).unseal(sealed, context="x")
    assert not path.exists()
    damaged = (b"{", b"[]", b'{"format": "watertight.kek/1", "key": "AAAA"}', b'{"format": "x"}')
    for data in damaged:
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(KeyUnavailable, match="damaged"):
            FileKEK(path).unseal(sealed, context="x")


def test_a_wrong_or_short_passphrase_opens_nothing(tmp_path: Path) -> None:
    sealed = passphrase_kek(tmp_path).seal(SECRET, context="x")
    with pytest.raises(KeyUnavailable, match="does not open"):
        passphrase_kek(tmp_path, b"incorrect horse battery").unseal(sealed, context="x")
    with pytest.raises(KeyUnavailable, match="fewer than 12"):
        passphrase_kek(tmp_path, b"short").unseal(sealed, context="x")


def test_the_cost_of_a_guess_cannot_be_lowered_in_the_file(tmp_path: Path) -> None:
    sealed = passphrase_kek(tmp_path).seal(SECRET, context="x")
    document = json.loads((tmp_path / "kek").read_text())
    for changed in ({"n": 2}, {"r": 1}, {"salt": ""}):
        (tmp_path / "kek").write_text(json.dumps({**document, **changed}))
        with pytest.raises(KeyUnavailable, match="were changed"):
            passphrase_kek(tmp_path).unseal(sealed, context="x")
    (tmp_path / "kek").unlink()
    with pytest.raises(KeyUnavailable, match="missing or damaged"):
        passphrase_kek(tmp_path).unseal(sealed, context="x")


def test_the_real_cost_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCRYPT_N", 2**17)
    sealed = passphrase_kek(tmp_path).seal(SECRET, context="x")
    assert passphrase_kek(tmp_path).unseal(sealed, context="x") == SECRET


def test_passphrases_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSPHRASE", PASSPHRASE.decode())
    assert passphrase_from_environment("SHOP_PASSPHRASE")() == PASSPHRASE
    monkeypatch.delenv("SHOP_PASSPHRASE")
    with pytest.raises(KeyUnavailable, match="SHOP_PASSPHRASE"):
        passphrase_from_environment("SHOP_PASSPHRASE")()


def test_passphrases_come_from_a_commands_output() -> None:
    print_it = f"print({PASSPHRASE.decode()!r})"
    assert passphrase_from_command([sys.executable, "-c", print_it])() == PASSPHRASE


def test_a_failing_command_is_named_and_its_output_is_not() -> None:
    shout = "import sys; print('hunter2hunter2'); sys.exit(1)"
    for argv in ([sys.executable, "-c", shout], ["/nonexistent/pass"]):
        with pytest.raises(KeyUnavailable) as refusal:
            passphrase_from_command(argv)()
        assert argv[0] in str(refusal.value)
        assert "hunter2" not in str(refusal.value)
        assert refusal.value.__cause__ is None
