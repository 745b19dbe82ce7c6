"""Talking to a running broker by its own command, which starts an Erlang of its own each time."""

import json
import re
from pathlib import Path
from typing import Any

from watertight.enforcers.resource import ServerHost
from watertight.errors import WatertightError

TIMEOUT_SECONDS = 60.0


class BrokerRefused(WatertightError):
    """The broker, or its command, does not do what it is asked."""


class CookieRefused(BrokerRefused):
    """The command has another cookie than the broker: somebody has changed the file."""


_COOKIE = re.compile(
    r"TCP connection succeeded but Erlang distribution failed|failed_to_start_child, :auth"
)
"""What the command says then: that it is refused, or that it cannot read the file."""


async def control(host: ServerHost, *words: str) -> str:
    """What ``rabbitmqctl`` says. Raises :class:`BrokerRefused`."""
    command = str(Path(host.process.argv[0]).with_name("rabbitmqctl"))
    done = await host.run((command, "-q", *words), timeout_seconds=TIMEOUT_SECONDS)
    if done.status:
        refused = CookieRefused if _COOKIE.search(done.output) else BrokerRefused
        raise refused(
            f"{host.resource}: `rabbitmqctl {words[0]}` fails: {_reason(done.output)}",
            remedy=f"The end of its log:\n{host.log()}",
        )
    return done.output


def _reason(output: str) -> str:
    """Its first paragraph: what follows are pages of diagnostics."""
    _, _, told = output.partition("Error:")
    paragraph = (told or output).strip().partition("\n\n")[0]
    return " ".join(paragraph.split())[:300] or "it gives no reason"


async def evaluate(host: ServerHost, *expressions: str) -> str:
    """What the broker makes of Erlang expressions, all in one call; the value of the last."""
    return (await control(host, "eval", f"{', '.join(expressions)}.")).strip()


async def exported(host: ServerHost) -> dict[str, Any]:
    """The broker's definitions as they are now."""
    said = await control(host, "export_definitions", "-")
    start = said.find("{")
    if start < 0:
        raise BrokerRefused(f"{host.resource}: the broker exports no definitions: {said[:200]}")
    found: dict[str, Any] = json.loads(said[start:])
    return found


def binary(text: str) -> str:
    """An Erlang binary, byte by byte: no name can be anything but a name."""
    return f"<<{','.join(str(byte) for byte in text.encode())}>>"
