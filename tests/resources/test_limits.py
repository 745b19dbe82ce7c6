"""Other limits of a managed server are in force after `apply`, and its clients go on."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.planes import said_inside, sealed
from tests.resources.test_bad_input import DATABASE, EVENTS, Declared, broken_uses, project
from watertight.control.plane import ControlPlane
from watertight.model.system import RESOURCE_LIMITS
from watertight.runtime.states import ProcessState

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
