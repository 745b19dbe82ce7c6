"""A control process is killed in the middle of a change; the next one's first apply is refused.

Then all is as it was before: what the pods run, what the doors let through, what is remembered.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.folders import public_folder
from watertight.control.ending import end_what_is_left
from watertight.control.requests import Options
from watertight.control.store import Store
from watertight.control.up import serve
from watertight.dataplane.binary import envoy_binary
from watertight.errors import WatertightError
from watertight.model.dump import dump
from watertight.model.load import load_file, load_text
from watertight.runtime.capabilities import detect
from watertight.runtime.files import STATE_DIRECTORY
from watertight.runtime.layout import Layout, lay_out
from watertight.runtime.pods import Machine, pod_specs
from watertight.runtime.runs import all_of, living, run_directory
from watertight.runtime.supervisor import Supervisor

REPOSITORY = Path(__file__).parents[2]
DECLARATION = """\
trust_domain: t.internal
services:
  web:
    run: [python3, serve.py, {version}]
    listens: {{http: 8000}}
    environment: {{GREETING: {version}}}
  caller: {{run: [python3, -c, "import time; time.sleep(3600)"]}}
  {version}-only: {{run: [python3, -c, "import time; time.sleep(3600)"]}}
channels:
  - {{from: caller, to: web, allow: [{method} /]}}
  - {{from: {version}-only, to: web, allow: [GET /]}}
"""
OLD = DECLARATION.format(version="old", method="GET")
NEW = DECLARATION.format(version="new", method="POST")
SERVE = """\
import http.server, os, sys
VERSION = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200); self.end_headers()
        self.wfile.write(f"{VERSION} {os.environ['GREETING']}".encode())
    do_POST = do_GET
http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
ASK = """\
import sys, urllib.error, urllib.request
request = urllib.request.Request("http://web:8000/", method=sys.argv[1])
try:
    with urllib.request.urlopen(request, timeout=20) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
"""
BROKEN = OLD.replace("serve.py, old", "serve.py").replace("GET", "PUT")
"""Its program ends at once: it lacks an argument."""
NOT_HERE = OLD.replace("python3, serve.py", "no-such-program").replace("GET", "PUT")
"""It is refused by looking, before anything is touched."""


class Project:
    """A folder, and what a next control process finds of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "watertight.yaml"
        (folder / "serve.py").write_text(SERVE)
        for name, text in (("old", OLD), ("new", NEW)):
            (folder / f"{name}.yaml").write_text(text)
        self.file.write_text(OLD)

    def dies(self, before: int, *, on_the_way_to: str) -> tuple[int, int] | None:
        """Applies that, and is killed before an effect; if none was its end: the number of the
        first that a user may notice, and how many there were."""
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "tests.control.dying", str(self.file)),
                *(str(self.folder / f"{on_the_way_to}.yaml"), str(before)),
            ],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            check=False,
            timeout=120,
        )
        assert ended.returncode == -9, ended
        numbers = ended.stdout.splitlines()[-1].split()  # the lines before are its log's
        if not all(number.isdigit() for number in numbers):
            return None
        seen_from, count = map(int, numbers)
        return seen_from, count

    def in_force(self) -> str:
        """What is remembered: ``old`` or ``new``."""
        current = Store(self.folder / STATE_DIRECTORY).current()
        assert current is not None
        texts = {name: dump(load_text(self.text(name), name)) for name in ("old", "new")}
        (found,) = [name for name, text in texts.items() if text == dump(current)]
        return found

    def text(self, name: str) -> str:
        return (self.folder / f"{name}.yaml").read_text()

    async def refuses(self, text: str, why: str) -> None:
        """The next control process takes over, and its first apply fails."""
        self.file.write_text(text)

        def sealed(_: Layout) -> None:
            pytest.fail("it was not refused")

        options = Options(self.file, lambda: load_file(self.file), lambda _words: None)
        with pytest.raises(WatertightError, match=why):
            await serve(options, sealed)

    async def is_as_declared(self, version: str) -> None:
        """What runs is that, to whoever looks: nobody controls it now."""
        self.file.write_text(self.text(version))
        system = load_file(self.file)
        assert set(living(run_directory(self.folder))) == set(system.services)
        layout = lay_out(self.file, system, detect())
        supervisor = Supervisor(layout)
        await supervisor.adopt(pod_specs(system, layout, Machine.here(envoy_binary())))
        try:
            for pod in await supervisor.status():
                assert {p.name: (p.state, p.outdated) for p in pod.processes} == {
                    "proxy": ("running", ()),
                    "app": ("running", ()),
                }
            right, wrong = ("GET", "POST") if version == "old" else ("POST", "GET")
            assert await self._asked(supervisor, right) == f"200 {version} {version}\n"
            assert await self._asked(supervisor, wrong) == "403\n"
        finally:
            supervisor.leave()

    async def _asked(self, supervisor: Supervisor, method: str) -> str:
        argv = (sys.executable, "-c", ASK, method)
        reader, writer = await supervisor.run_inside("caller", argv)
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()


@contextmanager
def a_project() -> Iterator[Project]:
    with public_folder() as folder:
        yield Project(folder.resolve())


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("times", [2, pytest.param(1000, marks=pytest.mark.slow)])
async def test_a_refused_apply_restores_all_that_a_dead_control_process_had_begun(
    times: int,
) -> None:
    """Killed before so many of the effects of a change that a user may notice (``slow``: of all),
    from one system to the other and back; each is followed by either kind of refusal."""
    with a_project() as project:
        try:
            found = project.dies(0, on_the_way_to="new")
            assert found is not None
            seen_from, effects = found
            assert 1 < seen_from < effects
            first = seen_from + 1 if times < effects else 1
            for number in range(first, effects + 1, max(1, (effects + 1 - first) // times)):
                for text, why in ((NOT_HERE, "no-such-program"), (BROKEN, "exit")):
                    before = project.in_force()
                    other = "old" if before == "new" else "new"
                    project.file.write_text(project.text(before))
                    project.dies(number, on_the_way_to=other)
                    before = project.in_force()
                    await project.refuses(text, why)
                    assert project.in_force() == before
                    await project.is_as_declared(before)
        finally:
            await end_what_is_left(project.folder, all_of(project.folder))
