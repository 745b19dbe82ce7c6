"""What a client may claim in CONNECT instead of showing it in its certificate.

Each claim is for the most powerful user there is, the operator, with the genuine SVID of a
service; it is proven by the operator's inbox.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from watertight.attack.arena import Arena
from watertight.attack.login import Login, genuine, tried_to_enter
from watertight.attack.probe import Observation, Probe
from watertight.model.system import Resource, System
from watertight.servers.nats.attacks.dialect import MAKE, NATSDialect

PASSWORD = "watertight"  # noqa: S105 (nobody's)
UNSIGNED = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.eyJuYW1lIjoid2F0ZXJ0aWdodCJ9."
"""A JWT whose header says ``alg: none``."""
NKEY = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
"""The user key of NATS's documentation; its signature here is of nothing."""


def probes(dialect: NATSDialect, system: System, resource: Resource) -> Iterator[Probe]:
    """For each channel."""
    operator = system.spiffe_id(resource.name)
    claims: Mapping[str, tuple[str, Mapping[str, Any]]] = {
        "identity.claimed-user": ("its user name", {"user": operator}),
        "identity.claimed-password": (
            "its user name and a password",
            {"user": operator, "pass": PASSWORD},
        ),
        "identity.claimed-token": ("a token", {"auth_token": PASSWORD}),
        "identity.claimed-nkey": ("an NKey", {"nkey": NKEY, "sig": "AAAA"}),
        "identity.claimed-jwt": ("an unsigned JWT", {"jwt": UNSIGNED}),
    }
    for channel in system.incoming(resource.name):
        login = Login(system, resource, channel.source)
        for identifier, (what, options) in claims.items():
            yield MAKE.attack(
                identifier,
                login.channel,
                f"{login.service}'s SVID, and for the operator {what} in CONNECT",
                _claimed,
                replace(dialect, options=options),
                login,
            )


async def _claimed(arena: Arena, dialect: NATSDialect, login: Login) -> Observation:
    return await tried_to_enter(
        arena,
        dialect,
        replace(login, service=login.resource.name),
        await genuine(arena, dialect, login.service),
        door=login.service,
    )
