"""Logging in by anything but the certificate, and into any other virtual host."""

from collections.abc import Iterator
from dataclasses import replace

from watertight.attack.arena import Arena
from watertight.attack.login import Login, LoginRefused, controlled, enter, genuine
from watertight.attack.probe import Observation, Probe, refused, served
from watertight.attack.tls import Alert
from watertight.attack.wire import Closed
from watertight.servers.rabbitmq.attacks import frames
from watertight.servers.rabbitmq.attacks.dialect import MAKE, RabbitMQDialect

GUEST = b"\x00guest\x00guest"


def probes(dialect: RabbitMQDialect, login: Login) -> Iterator[Probe]:
    """With the right certificate each time: the mechanism alone must refuse."""
    user = login.system.spiffe_id(login.service).encode()
    amqplain = frames.table(LOGIN="guest", PASSWORD="guest")[4:]  # noqa: S106  as it is born
    tries = {
        "login.guest": ("guest with the password guest", "PLAIN", GUEST),
        "login.password": ("its own name with a password", "PLAIN", b"\x00" + user + b"\x00x"),
        "login.amqplain": ("guest by AMQPLAIN", "AMQPLAIN", amqplain),
    }
    for identifier, (what, mechanism, response) in tries.items():
        spoken = replace(dialect, mechanism=mechanism, response=response)
        attempt = f"a login as {what}"
        yield MAKE.attack(identifier, login.channel, attempt, tried, dialect, spoken, login)
    for host in ("/", "watertight-other"):
        spoken = replace(dialect, virtual_host=host)
        what = f"the virtual host {host}"
        yield MAKE.attack("login.virtual-host", login.channel, what, tried, dialect, spoken, login)


async def tried(
    arena: Arena, dialect: RabbitMQDialect, spoken: RabbitMQDialect, login: Login
) -> Observation:
    """A refusal without words counts while the usual login is taken."""
    hello = await genuine(arena, spoken, login.service)
    try:
        secure = await enter(arena, spoken, login, hello)
    except (Alert, LoginRefused) as refusal:
        return refused(str(refusal))
    except (Closed, TimeoutError) as end:
        return await controlled(arena, dialect, login, str(end) or "no answer")
    await secure.close()
    return served("logged in")
