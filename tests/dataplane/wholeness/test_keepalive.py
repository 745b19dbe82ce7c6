"""An app that closes an idle connection at the very moment of the next request loses none."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.dataplane.wholeness import apps
from tests.mesh import Mesh, running_mesh
from watertight.model.system import Channel, Listen, Protocol, Service, System

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class ClosesWhenAskedAgain:
    """Answers once on each connection and keeps it open; the second request meets its end."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.lost = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.answered[head.split(b" ")[0].decode()] += 1
        writer.write(OK)
        self.lost += bool(await reader.read(65_536))
        writer.close()


@asynccontextmanager
async def mesh_of(app: ClosesWhenAskedAgain) -> AsyncIterator[Mesh]:
    async with apps.serving(app) as port:
        system = System(
            "shop.internal",
            {
                "web": Service("web", listens=Listen(Protocol.HTTP, port)),
                "caller": Service("caller"),
            },
            channels=(Channel("caller", "web"),),
        )
        async with running_mesh(system, apps=False) as mesh:
            yield mesh


async def test_what_is_safe_is_asked_again() -> None:
    app = ClosesWhenAskedAgain()
    async with mesh_of(app) as mesh:
        answers = [await mesh.request("caller", "web", "GET", "/") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert app.lost > 0, "no request met a connection that was being closed"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_what_is_not_safe_is_done_once_on_a_connection_of_its_own(method: str) -> None:
    app = ClosesWhenAskedAgain()
    async with mesh_of(app) as mesh:
        answers = [await mesh.request("caller", "web", method, "/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert app.answered == {method: 3}
    assert app.lost == 0
