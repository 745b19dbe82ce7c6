"""A mode that somebody changed by hand is told, and put right."""

import asyncio
import stat
from pathlib import Path

import pytest

from tests.folders import public_folder
from tests.identity.serving.polling import eventually_async
from tests.planes import sealed
from watertight.control import modes, up
from watertight.control.client import ADMIN_SOCKET
from watertight.control.plane import ControlPlane
from watertight.control.status import snapshot

SHOP = """\
trust_domain: modes.internal
services:
  alice: {run: [sleep, "3600"]}
resources:
  events: {kind: nats, port: 4222}
channels:
  - {from: alice, to: events, publish: [orders.placed]}
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def secrets_of(plane: ControlPlane) -> list[tuple[Path, int]]:
    """What must not be in sight, and a mode that puts it there."""
    layout = plane.layout
    credentials = plane.placement.credentials("alice")
    return [
        (layout.state, 0o755),
        (layout.state / "authority", 0o755),
        (layout.state / "authority" / "state.json", 0o644),
        (layout.state / "kek.json", 0o640),
        (credentials.resolve() / "private_key.pem", 0o644),
        (credentials.resolve(), 0o777),
        (plane.placement.credentials("events").resolve() / "combined.pem", 0o644),
        (layout.run / ADMIN_SOCKET, 0o666),
        (plane.placement.xds_socket("alice"), 0o666),
        (layout.pods, 0o755),
        (plane.placement.proxy_directory("alice"), 0o755),
        (plane.placement.server_data("events"), 0o755),
    ]


@pytest.mark.timeout(180)
async def test_a_mode_that_was_changed_by_hand_is_told_and_put_right() -> None:
    with public_folder() as project:
        (project / "watertight.yaml").write_text(SHOP)
        async with sealed(project / "watertight.yaml") as plane:
            await _listen(plane.layout.run / ADMIN_SOCKET)
            assert "file modes" not in (await snapshot(plane))["drift"]
            changed = [(path, mode(path), wide) for path, wide in secrets_of(plane)]
            for path, _, wide in changed:
                path.chmod(wide)
            told = (await snapshot(plane))["drift"]["file modes"]
            assert len(told) == len(changed)
            for path, right, wide in changed:
                assert any(
                    line.startswith(f"{path} had mode {wide:o} and not {right:o}") for line in told
                )
            await plane.apply(plane.declared)
            assert {path: mode(path) for path, _, _ in changed} == {
                path: right for path, right, _ in changed
            }
            assert "file modes" not in (await snapshot(plane))["drift"]


async def _listen(path: Path) -> None:
    """The admin API, which stands beside the plane."""
    await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path)
    await asyncio.to_thread(path.chmod, 0o600)


def test_a_link_leads_to_nothing_that_is_changed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    victim.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        modes._set(link, 0o600)
    assert mode(victim) == 0o644


async def test_it_is_looked_at_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = asyncio.Event()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(modes, "mend", lambda _: loop.call_soon_threadsafe(looked.set))
    monkeypatch.setattr(up, "MODES_EVERY_SECONDS", 0.0)

    class Plane:
        layout = None

    class Background(up._Background):
        def __init__(self) -> None:
            self._plane = Plane()  # type: ignore[assignment]

    watching = asyncio.ensure_future(Background()._watch_modes())

    async def seen() -> bool:
        return looked.is_set()

    await eventually_async(seen)
    watching.cancel()
