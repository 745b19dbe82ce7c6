"""The page on writing a kind of server is one: built from it, held to what any kind must do, and
run in pods."""

import asyncio
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.planes import probes_of, proven, sealed
from tests.rig import not_held
from watertight.attack.probe import Verdict
from watertight.control.plane import ControlPlane
from watertight.control.requests import What
from watertight.control.revocation import restore, revoke
from watertight.control.rotation import rotate
from watertight.control.servers import want
from watertight.enforcers.registry import enforcers, resource_enforcers, resource_flaws
from watertight.model.addresses import loopback_addresses
from watertight.model.kinds import also_called
from watertight.model.load import load_text

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-server.md"
_BLOCK = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
METADATA = "Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n"
ENTRY = "[watertight.enforcers]\nshelf = shelf_kind:Shelf\n"
MODULES = ("shelf_kind", "shelf_attacks")
SERVE = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
sys.stdin.read()
"""


def _forget() -> None:
    enforcers.cache_clear()
    resource_enforcers.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """The page's files, with its module installed as another distribution would be."""
    directory = Path(tempfile.mkdtemp(prefix="wt-shelf-"))
    directory.chmod(0o755)  # its server is another user's
    files: dict[str, str] = {}
    for name, code in _BLOCK.findall(PAGE.read_text()):
        files[name] = files.get(name, "") + code
    for name, text in files.items():
        (directory / name).write_text(text)
    about = directory / "shelf-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    (about / "entry_points.txt").write_text(ENTRY)
    sys.path.insert(0, str(directory))
    _forget()
    with pytest.MonkeyPatch.context() as patch:
        # The machine's own Python, which its server's user can run; ours may be in a home.
        patch.setenv("PATH", f"{os.defpath}:{os.environ['PATH']}")
        yield directory
    sys.path.remove(str(directory))
    for module in MODULES:
        sys.modules.pop(module, None)
    _forget()
    shutil.rmtree(directory)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def library(project: Path) -> AsyncIterator[ControlPlane]:
    async with sealed(project / "watertight.yaml") as plane:
        yield plane


async def attacked(plane: ControlPlane, *ids: str) -> dict[str, str]:
    """Which probes of the shelf did not hold; all of them, or those with these ids."""
    probes = [p for p in probes_of(plane, ["shelf"]) if not ids or p.id in ids]
    assert probes
    return not_held(await proven(plane, probes))


async def test_its_declaration_is_checked(project: Path) -> None:
    text = (project / "watertight.yaml").read_text().replace("read: [ledger]}", "read: [atlas]}")
    system = load_text(text)
    assert system.resources["books"].port == 7000
    assert also_called("bookshelf") == "shelf"
    [flaw] = resource_flaws(system)
    assert flaw.path == ("channels", 1, "read", 0)
    wrong = text.replace("books: [ledger, diary]", "book: [ledger]")
    assert {f.path for f in resource_flaws(load_text(wrong))} == {
        ("resources", "books", "book"),
        ("resources", "books"),
    }


async def test_it_does_what_every_kind_must(project: Path) -> None:
    """The suite that ships, run as whoever wrote the package runs it."""
    suite = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("--rootdir", str(project), "-c", os.devnull, "-o", "junit_family=legacy"),
        *("--junitxml", str(project / "report.xml")),
        str(project / "test_shelf.py"),
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await suite.communicate())[0].decode()
    assert suite.returncode == 0, said
    assert 'name="revoked_seconds"' in (project / "report.xml").read_text()


async def test_it_holds(library: ControlPlane) -> None:
    assert await attacked(library) == {}


async def test_a_turn_is_to_be_had_between_applies_and_while_its_plan_is_in_force(
    library: ControlPlane,
) -> None:
    """Else what a revocation takes away could be granted again behind it."""
    servers = library.servers
    [server] = servers.in_force.values()
    async with servers._turn(server) as ours:
        assert ours
        async with servers._turn(server) as twice:
            assert not twice
        applying = asyncio.ensure_future(servers.apply(want(library.declared, library.placement)))
        await asyncio.sleep(0.5)
        assert servers.in_force["books"] is server  # it waits
    await applying
    async with servers._turn(server) as late:
        assert not late


@pytest.mark.parametrize("what", list(What))
async def test_it_rotates(library: ControlPlane, what: What) -> None:
    await rotate(library, what)
    assert await attacked(library, "use.read", "identity.foreign-authority") == {}


async def test_who_is_revoked_is_out_until_restored(library: ControlPlane) -> None:
    await revoke(library, "writer")
    assert await attacked(library) == {}  # derived from what is in force: no channel of writer's
    await restore(library, "writer")
    assert await attacked(library) == {}


async def test_a_door_for_a_stranger_is_found(library: ControlPlane) -> None:
    """Sabotages of what no server can hold itself: names, addresses and doors."""
    address = loopback_addresses(["books"])["books"]
    library.supervisor.update_hosts("lonely", {"books": address})
    reader, writer = await library.supervisor.run_inside(
        "lonely", [sys.executable, "-c", SERVE, address, "7000"]
    )
    await reader.readline()
    stray = await asyncio.start_unix_server(
        lambda _, writer: writer.close(), library.placement.door("books", "lonely")
    )
    probes = [p for p in probes_of(library, ["shelf"]) if p.id.startswith("reach.")]
    broken = {r.id for r in await proven(library, probes) if r.verdict is Verdict.BROKEN}
    writer.close()
    stray.close()
    library.supervisor.update_hosts("lonely", {})
    assert broken == {"reach.name", "reach.address", "reach.doors"}


async def test_a_server_that_is_killed_comes_back(library: ControlPlane) -> None:
    await library.supervisor.signal_process("books", "server", signal.SIGKILL)
    async with asyncio.timeout(20):
        while await attacked(library, "use.read"):  # noqa: ASYNC110  another process starts
            await asyncio.sleep(0.05)
