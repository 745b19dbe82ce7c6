"""What an app says arrives whole: the probes see an answer cut short, a lost end, a line astray."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.dataplane.attacks import weaken
from tests.dataplane.attacks.range import Range, firing_range, not_held
from tests.dataplane.attacks.raw import bytes_to, static_cluster
from tests.dataplane.attacks.weaken import PREFIX, Json, Weaken, listener, together
from watertight.attack.probe import Probe, Verdict
from watertight.dataplane.attacks import wholeness

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLENESS_SABOTAGES = frozenset({"wholeness.answer", "wholeness.stream"})
SHORTER = """
function envoy_on_response(handle)
  local body = handle:body()
  body:setBytes(string.sub(body:getBytes(0, body:length()), 1, 3))
end
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def target() -> AsyncIterator[Range]:
    async with firing_range() as running:
        yield running


def on(target: Range, channel: str) -> list[Probe]:
    return [p for p in wholeness.probes(target.mesh.system) if p.channel == channel]


def shorter(body: Json) -> None:
    """Listener: every answer is cut to three bytes, with a length that says so."""
    manager = body["filter_chains"][0]["filters"][-1]["typed_config"]
    lua = {
        "name": "shorter",
        "typed_config": {
            "@type": f"{PREFIX}extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": SHORTER},
        },
    }
    manager["http_filters"].insert(0, lua)


async def test_what_the_apps_say_arrives(target: Range) -> None:
    results = await target.run(list(wholeness.probes(target.mesh.system)))
    assert not_held(results) == {}
    assert {r.id for r in results} == WHOLENESS_SABOTAGES
    assert all("all " in r.observed for r in results)


async def test_an_answer_cut_short_is_seen_though_its_length_fits(target: Range) -> None:
    async with target.mesh.sabotage(listener("gateway", "https", shorter)):
        results = await target.run(on(target, "outside -> gateway"))
    assert {r.verdict for r in results} == {Verdict.BROKEN}
    assert all(r.observed.startswith("3 bytes came, and the app had said") for r in results)


@pytest.mark.parametrize("keeps", [b"", b"only this"])
async def test_a_stream_that_leads_elsewhere_is_seen(target: Range, keeps: bytes) -> None:
    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(99)
        writer.write(keeps)
        writer.close()

    server = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    astray: Weaken = together(
        weaken.adding("orders", lambda _plan: static_cluster("elsewhere", port)),
        listener("orders", "out|stock", bytes_to("elsewhere")),
    )
    async with server, target.mesh.sabotage(astray):
        (result,) = await target.run(on(target, "orders -> stock"))
    assert result.verdict is Verdict.BROKEN
    assert result.observed == "the line never reached the app"


async def test_a_stream_that_loses_bytes_or_its_end_is_seen(target: Range) -> None:
    """A relay that reaches the app, but passes on neither all bytes nor the end."""
    stock = target.mesh.system.services["stock"].listens
    assert stock is not None
    over = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", stock.port)
        forth.write(await reader.read(99))
        forth.write_eof()
        said = await back.read()
        writer.write(said if losing == "end" else said[:-1])
        await writer.drain()
        if losing == "end":
            await over.wait()  # the fault itself
        writer.close()
        forth.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lossy: Weaken = together(
        weaken.adding("orders", lambda _plan: static_cluster("lossy", port)),
        listener("orders", "out|stock", bytes_to("lossy")),
    )
    async with server, target.mesh.sabotage(lossy):
        losing = "bytes"
        (result,) = await target.run(on(target, "orders -> stock"))
        assert result.observed == "15 of 16 bytes came"
        losing = "end"
        (result,) = await target.run(on(target, "orders -> stock"))
        over.set()
        assert result.observed == "16 bytes came, and the app's end did not"
