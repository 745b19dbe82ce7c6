"""Programs that nobody here wrote, brought up by the command and proven, with root and without."""

import json
import os
import shutil
from collections.abc import Iterator

import pytest

from tests.examples.plain import declaration
from tests.folders import public_folder
from tests.ports import free_port
from tests.system.running import NOBODY, RunningSystem

WHERE_ROOT_IS_NOT = [pytest.mark.slow] if os.geteuid() == 0 else []
"""The shop is proven both ways."""


@pytest.fixture(params=["root", pytest.param("nobody", marks=WHERE_ROOT_IS_NOT)])
def unmodified(request: pytest.FixtureRequest) -> Iterator[RunningSystem]:
    as_root = request.param == "root"
    if as_root and os.geteuid() != 0:
        pytest.skip("needs root")
    with public_folder() as folder:
        project = folder / "unmodified"
        source = declaration("unmodified")
        shutil.copytree(source.parent, project, ignore=shutil.ignore_patterns(".watertight"))
        text = source.read_text().replace("127.0.0.1:8444", f"127.0.0.1:{free_port()}")
        (project / "watertight.yaml").write_text(text)
        if os.geteuid() == 0 and not as_root:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        system = RunningSystem(project, as_root=as_root)
        try:
            yield system
        finally:
            system.end()


@pytest.mark.timeout(300)
def test_every_probe_holds(unmodified: RunningSystem) -> None:
    unmodified.start()
    done = unmodified.watertight("verify", str(unmodified.project), "-o", "json")
    summary = json.loads(done.stdout)["summary"]
    assert summary["probes"] >= 150
    assert (summary["held"], summary["broken"], summary["not_run"]) == (summary["probes"], 0, 0)
    assert unmodified.stop() == 0
