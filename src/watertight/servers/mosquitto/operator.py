"""The broker's operator: MQTT 5 with the broker's own certificate, to its dynamic security plugin.

Only what that takes: one session, commands as JSON, their answers, and the broker's notices.
Source: MQTT 5 (OASIS, 2019), sections 2 and 3; plugins/dynamic-security/README.md of Mosquitto 2.0.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.errors import WatertightError
from watertight.servers.mosquitto.compile import CONTROL, NOTICES
from watertight.servers.served import own_identity

ANSWER_SECONDS = 10.0
_CONNECT, _CONNACK, _PUBLISH, _SUBSCRIBE, _SUBACK = 0x10, 0x20, 0x30, 0x82, 0x90
_DISCONNECT = 0xE0
_REFUSED = 0x80
"""Reason codes from here on say no (section 2.4)."""
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]]
_turns = WeakKeyDictionary()
"""The broker lets one session of one name in: a second would end the first."""


class OperatorRefused(WatertightError):
    """The broker does not let its operator do what he must."""


class Operator:
    """A session in which the broker is asked and told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.notices: list[str] = []
        """What the broker has logged since."""

    async def begin(self, name: str) -> None:
        """Logs in, and awaits answers and notices. Raises OperatorRefused or OSError."""
        self._writer.write(_packet(_CONNECT, _text("MQTT") + b"\x05\x02\x00\x00\x00" + _text(name)))
        kind, body = await self._read()
        if kind != _CONNACK or body[1] >= _REFUSED:
            raise OperatorRefused(f"The broker does not let its operator in: {body.hex()}.")
        for number, topic in enumerate((f"{CONTROL}/response", NOTICES), start=1):
            wanted = struct.pack(">HB", number, 0) + _text(topic) + b"\x00"
            self._writer.write(_packet(_SUBSCRIBE, wanted))
            while (answer := await self._read())[0] != _SUBACK:
                self._note(answer)
            if answer[1][-1] >= _REFUSED:
                raise OperatorRefused(f"The broker does not let its operator read {topic}.")

    async def ask(self, *commands: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Commands, and their answers in order. Raises OSError or TimeoutError."""
        said = json.dumps({"commands": commands}).encode()
        self._writer.write(_packet(_PUBLISH, _text(CONTROL) + b"\x00" + said))
        async with asyncio.timeout(ANSWER_SECONDS):
            while (answer := self._note(await self._read())) is None:
                pass
        found: Sequence[Mapping[str, Any]] = json.loads(answer)["responses"]
        return found

    def _note(self, packet: tuple[int, bytes]) -> bytes | None:
        """An answer to a command; notices are kept."""
        kind, body = packet
        if kind == _DISCONNECT:
            raise ConnectionResetError("the broker ended the session")
        if kind & 0xF0 != _PUBLISH:
            return None
        end = 2 + int(struct.unpack_from(">H", body)[0])
        topic, rest = body[2:end].decode(), body[end:]
        payload = rest[1 + rest[0] :]  # its properties are short
        if topic == NOTICES:
            self.notices.append(payload.decode(errors="replace"))
            return None
        return payload

    async def _read(self) -> tuple[int, bytes]:
        async with asyncio.timeout(ANSWER_SECONDS):
            kind = (await self._reader.readexactly(1))[0]
            size = shift = 0
            while True:
                byte = (await self._reader.readexactly(1))[0]
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return kind, await self._reader.readexactly(size)


@asynccontextmanager
async def operating(plan: ServerPlan, host: ServerHost) -> AsyncIterator[Operator]:
    """The operator's session, once nobody else here has it. Raises WatertightError."""
    turns = _turns.setdefault(asyncio.get_running_loop(), {})
    place = str(host.placement.server_directory(plan.resource))
    async with turns.setdefault(place, asyncio.Lock()):
        writer = None
        try:
            reader, writer = await asyncio.open_connection(
                sock=await host.connect(plan.port),
                ssl=own_identity(host.placement.credentials(plan.resource)),
                server_hostname=plan.resource,
            )
            operator = Operator(reader, writer)
            await operator.begin(plan.resource)
            yield operator
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise WatertightError(
                f"{plan.resource} does not answer its operator: {error or 'no answer in time'}."
            ) from error
        finally:
            if writer is not None:
                writer.transport.abort()


def _text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()


def _packet(kind: int, body: bytes) -> bytes:
    size, left = bytearray(), len(body)
    while left >= 0x80:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([kind, *size, left]) + body
