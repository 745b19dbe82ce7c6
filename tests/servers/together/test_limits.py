"""Other limits of a managed server are in force after `apply`, and its clients go on."""

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.planes import probes_of, proven, said_inside, sealed
from tests.rig import family_of, not_held
from tests.servers.together.test_bad_input import DATABASE, EVENTS, Declared, broken_uses, project
from watertight.control.plane import ControlPlane
from watertight.model.system import RESOURCE_LIMITS
from watertight.runtime.states import ProcessState
from watertight.servers.postgresql.declaration import session_memory_bytes
from watertight.servers.postgresql.limits import DEFAULT_SHARE, leap_bytes

__all__ = ["project"]


async def server(plane: ControlPlane, resource: str) -> ProcessState:
    (pod,) = [pod for pod in await plane.supervisor.status() if pod.name == resource]
    (found,) = [process for process in pod.processes if process.name == "server"]
    return found


@pytest.mark.parametrize(
    ("declared", "kind"), [(DATABASE, "postgresql"), (EVENTS, "nats")], ids=["postgresql", "nats"]
)
async def test_a_server_is_started_anew_within_them(
    project: Path, declared: Declared, kind: str
) -> None:
    async with sealed(declared.write(project)) as plane:
        before = await server(plane, declared.resource)
        resource = plane.declared.resources[declared.resource]
        tight = replace(resource, limits=replace(RESOURCE_LIMITS, memory_bytes=1 << 29, files=2048))
        await plane.apply(replace(plane.declared, resources={declared.resource: tight}))
        after = await server(plane, declared.resource)
        assert (after.state, after.restarts) == ("running", before.restarts)
        assert after.pid != before.pid
        said = await said_inside(plane, declared.resource, "/bin/sh", "-c", "ulimit -n")
        assert said == "2048\n"
        assert await broken_uses(plane, kind) == {}


async def test_each_process_of_a_database_has_its_part_of_the_memory(project: Path) -> None:
    """A guest in its pod, the prober's agent or a tool of PostgreSQL's, has not."""
    async with sealed(DATABASE.write(project)) as plane:
        resource = plane.declared.resources[DATABASE.resource]
        usual = session_memory_bytes(plane.declared, resource)
        far = leap_bytes(usual, DEFAULT_SHARE, None, resource.limits)
        assert bounds(project) == {far}
        said = await said_inside(plane, DATABASE.resource, "/bin/sh", "-c", "ulimit -d")
        assert said != f"{far >> 10}\n"
        options = {**resource.options, "session_memory": "80MiB"}
        other = replace(resource, options=options)
        await plane.apply(replace(plane.declared, resources={DATABASE.resource: other}))
        assert bounds(project) == {leap_bytes(80 << 20, DEFAULT_SHARE, None, resource.limits)}
        assert await broken_uses(plane, "postgresql") == {}
        greedy = [p for p in probes_of(plane, ["postgresql"]) if p.id == "limits.memory"]
        assert not_held(await proven(plane, greedy)) == {}  # its warden ends it


def bounds(project: Path) -> set[int]:
    """The bounds of data of the database's processes (proc(5), limits)."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"-D\0{project}".encode() in (entry / "cmdline").read_bytes():
                for pid in family_of(int(entry.name)):
                    limits = (Path("/proc") / str(pid) / "limits").read_text()
                    found |= {int(b) for b in re.findall(r"Max data size +(\d+) ", limits)}
    return found
