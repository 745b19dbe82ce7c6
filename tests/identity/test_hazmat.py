"""The issuing key is handed out for a reason, on the record, while the authority is in use."""

from pathlib import Path

import pytest

from tests.identity.world import FakeClock, authority, kek, request
from watertight.identity.authority import Authority
from watertight.identity.errors import DamagedState, IdentityError
from watertight.identity.hazmat import open_issuer


def test_the_prover_gets_the_issuing_key_and_the_log_says_so(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now) as made:
        issuer = made.issue(request())[1]
        opened = open_issuer(tmp_path / "authority", kek=kek(tmp_path), reason="verify", now=now)
        assert opened.certificate == issuer
        assert opened.private_key.public_key() == issuer.public_key()
        assert "private" not in repr(opened).lower()
    log = (tmp_path / "authority" / "audit.jsonl").read_text()
    assert '"event": "issuing_key_handed_out", "reason": "verify"' in log
    with pytest.raises(IdentityError, match="reason"):
        open_issuer(tmp_path / "authority", kek=kek(tmp_path), reason="", now=now)


def test_follows_a_rotation_and_refuses_what_is_not_there(tmp_path: Path) -> None:
    now = FakeClock()
    with authority(tmp_path, now) as made:
        made.prepare_issuer()
        made.activate_issuer()
        issuer = made.issue(request())[1]
        opened = open_issuer(tmp_path / "authority", kek=kek(tmp_path), reason="verify", now=now)
        assert opened.chain == (issuer,)
        for key in (tmp_path / "authority" / "keys").iterdir():
            key.unlink()
        with pytest.raises(DamagedState):
            open_issuer(tmp_path / "authority", kek=kek(tmp_path), reason="verify", now=now)


def test_looking_for_an_authority_leaves_none_behind(tmp_path: Path) -> None:
    with pytest.raises(DamagedState, match="cannot be read: No such file"):
        open_issuer(tmp_path / "nowhere", kek=kek(tmp_path), reason="verify")
    assert not (tmp_path / "nowhere").exists()


def test_a_key_that_cannot_be_recorded_is_not_handed_out(tmp_path: Path) -> None:
    with authority(tmp_path, FakeClock()):
        pass
    log = tmp_path / "authority" / "audit.jsonl"
    log.unlink()
    log.mkdir()
    with pytest.raises(IdentityError, match="cannot be opened: Is a directory"):
        open_issuer(tmp_path / "authority", kek=kek(tmp_path), reason="verify")
    with pytest.raises(IdentityError, match="cannot be opened: Is a directory"):
        Authority.open(tmp_path / "authority", kek=kek(tmp_path))
    log.rmdir()
    Authority.open(tmp_path / "authority", kek=kek(tmp_path)).close()
