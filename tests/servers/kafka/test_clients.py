"""Clients as services have them, in pods, with the values that they are given and no others."""

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.folders import public_folder
from tests.planes import said_inside, sealed
from watertight.control.plane import ControlPlane
from watertight.control.requests import What
from watertight.control.rotation import rotate
from watertight.enforcers.resource import ServerMissing

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

DECLARATION = """
trust_domain: pods.internal
services:
  writer: {run: [sleep, infinity]}
resources:
  events: {kind: kafka, topics: {orders.placed: {}, invoices: {}}}
channels:
  - from: writer
    to: events
    publish: [orders.placed, invoices]
    consume: [orders.placed, invoices]
"""
HERE = Path(__file__).parent
PAGE = (HERE.parents[2] / "docs" / "how-to" / "connect-from-python.md").read_text()
LOAD, CONFLUENT = ((HERE / name).read_text() for name in ("load.py", "confluent.py"))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plane() -> AsyncIterator[ControlPlane]:
    with public_folder() as directory:
        (directory / "watertight.yaml").write_text(DECLARATION)
        try:
            async with sealed(directory / "watertight.yaml") as running:
                yield running
        except ServerMissing as missing:
            pytest.skip(str(missing))


async def test_the_example_of_the_page_runs(plane: ControlPlane) -> None:
    example = r"<!-- example: kafka -->\n```python\n(.*?)^```$"
    [code] = re.findall(example, PAGE, re.MULTILINE | re.DOTALL)
    said = await said_inside(plane, "writer", sys.executable, "-c", code)
    assert said.endswith("b'order 7'\n"), said


async def test_every_key_is_replaced_under_the_sdk_and_nothing_is_lost(
    plane: ControlPlane,
) -> None:
    reader, writer = await plane.supervisor.run_inside("writer", [sys.executable, "-c", LOAD])
    async with asyncio.timeout(60):
        while await reader.readline() not in (b"working\n", b""):
            pass
    for what in (What.LEAF, What.ISSUER, What.ROOT):
        await rotate(plane, what)
        await asyncio.sleep(0.5)  # the load itself
    writer.write_eof()
    async with asyncio.timeout(60):
        said = (await reader.read()).decode()
    writer.close()
    result = json.loads(said.splitlines()[-1])
    assert result["all"], said[-2000:]
    assert result["sent"] > 10


async def by_librdkafka(plane: ControlPlane, *arguments: str) -> str:
    """The last line that it says."""
    argv = (sys.executable, "-c", CONFLUENT, *arguments)
    return (await said_inside(plane, "writer", *argv)).splitlines()[-1]


async def test_librdkafka_takes_what_the_environment_and_its_file_say(plane: ControlPlane) -> None:
    assert await by_librdkafka(plane, "send", "one", "two") == "sent None None"
    assert await by_librdkafka(plane, "hear", "one", "two") == "missing"


@pytest.mark.skipif(shutil.which("javac") is None, reason="no compiler for Java is here")
async def test_java_takes_its_file_of_properties(plane: ControlPlane) -> None:
    java, libraries = plane.servers.in_force["events"].process.programs
    project = plane.layout.project  # it sees no other directory of ours
    for file in (
        HERE / "Send.java",
        *libraries.glob("kafka-clients-*"),
        *libraries.glob("slf4j-*"),
    ):
        (project / file.name).write_bytes(file.read_bytes())
    properties = plane.placement.channels_file("writer").with_name("events.properties")
    run = f'exec {java} -cp "{project}/*" {project}/Send.java {properties} "by Java" 2>&1'
    said = await said_inside(plane, "writer", "/bin/sh", "-c", run)
    assert await by_librdkafka(plane, "hear", "by Java") == "missing", said
