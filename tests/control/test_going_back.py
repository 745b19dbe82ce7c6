"""A declaration in which a program does not come up leaves things as they were."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planes import said_inside, sealed
from tests.ports import free_port
from watertight.control.plane import ControlPlane
from watertight.errors import WatertightError
from watertight.model.load import load_text


@pytest.fixture
def file() -> Iterator[Path]:
    """A declaration to be, where sockets' paths are short."""
    with tempfile.TemporaryDirectory(prefix="wt-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory).resolve() / "watertight.yaml"


def put(file: Path, text: str) -> None:
    file.write_text(text)


def declaration(port: int, *, other: str = "", run: str = "") -> str:
    run = run or f'[python, -m, http.server, --bind, 127.0.0.1, "{port}"]'
    return (
        "trust_domain: t.internal\nservices:\n"
        f"  web: {{run: {run}, listens: {{http: {port}}}}}\n"
        f"  caller: {{}}\n{other}"
        "channels:\n  - {from: caller, to: web, allow: [GET /]}\n"
    )


async def states(plane: ControlPlane) -> dict[str, str]:
    return {
        pod.name: process.state
        for pod in await plane.supervisor.status()
        for process in pod.processes
        if process.name == "app"
    }


async def test_a_program_that_crashes_leaves_the_one_before_running(file: Path) -> None:
    """With its grants, and without what the refused declaration added."""
    port = free_port()
    good = declaration(port)
    bad = declaration(port, run='[python, -c, "raise SystemExit(7)"]', other="  extra: {}\n")
    bad = bad.replace("GET /", "POST /")
    put(file, good)
    async with sealed(file) as plane:
        before = plane.declared
        with pytest.raises(WatertightError) as raised:
            await plane.apply(load_text(bad, str(file)))
        assert "7" in raised.value.message
        assert "The declaration before is in force again" in raised.value.message
        # Who refuses to start keeps what he would have lost: that is said.
        assert "still allowed:\n  - grant caller -> web: GET /" in raised.value.message
        assert "watertight revoke" in raised.value.remedy
        assert plane.declared == before
        assert set(plane.supervisor.pods) == {"web", "caller"}
        assert (await states(plane))["web"] == "running"
        look = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/').status)"
        assert "200" in await said_inside(plane, "web", sys.executable, "-c", look)


async def test_where_the_one_before_fails_too_that_is_said(file: Path) -> None:
    """Its program was replaced on the disk."""
    port = free_port()
    program = file.parent / "serve.py"
    put(
        program,
        "import http.server as h\n"
        f"h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()\n",
    )
    put(file, declaration(port, run="[python, serve.py]"))
    async with sealed(file) as plane:
        put(program, "raise SystemExit(9)\n")
        with pytest.raises(WatertightError) as raised:
            await plane.apply(load_text(declaration(port, run="[python, serve.py, x]"), str(file)))
        assert "Going back to the declaration before failed too" in raised.value.message
        assert "web" in raised.value.message
        assert "watertight status" in raised.value.remedy
