"""Grants at a broker, or a cluster of them, that others run, as its administrator.

Only the topics that are declared and the entries and quotas of our services are touched: what else
is there is not ours to judge. What lets everybody in is told.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from watertight.enforcers.resource import AdminRefused
from watertight.model.system import Resource, System
from watertight.servers.facts import Fact
from watertight.servers.kafka.compile import ALLOW, facts_of
from watertight.servers.kafka.facts import ACCESS, QUOTA, TOPIC, acl_of, entity_of
from watertight.servers.kafka.operator import BROKEN, TIMEOUT_SECONDS, Operator, unreachable
from watertight.servers.kafka.session import BrokerSession

FORM = "ssl://HOST:PORT?ca=FILE&cert=FILE&key=FILE"
EVERYBODY = "User:*"


class Elsewhere(BrokerSession):
    """Implements :class:`~watertight.servers.kind.Session` for a broker of others."""

    def __init__(self, session: Operator, system: System, resource: Resource) -> None:
        super().__init__(session, resource.name, {})
        self._ours = frozenset(f"User:{service}" for service in system.services)
        wanted = facts_of(system, resource)
        self._topics = {f.key: dict(f.value).keys() for f in wanted if f.kind == TOPIC}

    async def stale(self) -> Sequence[str]:
        """See the protocol: why it cannot be held to its grants."""
        entries = [acl for acl in await self._session.acls() if acl.principal == EVERYBODY]
        if not any(acl.permission == ALLOW for acl in entries):
            return []
        return ["it has entries for User:*, which let every service do what no channel grants"]

    async def facts(self) -> frozenset[Fact]:
        """See the protocol: only those of the resource."""
        found = await super().facts()
        return frozenset(self._known(one) for one in found if self._is_ours(one))

    def _is_ours(self, one: Fact) -> bool:
        if one.kind == ACCESS:
            return acl_of(one).principal in self._ours
        if one.kind == QUOTA:
            [(kind, name), *more] = entity_of(one)
            return kind == "user" and f"User:{name}" in self._ours and not more
        return one.key in self._topics

    def _known(self, one: Fact) -> Fact:
        """Of a topic, what we say: its administrator may say more."""
        if one.kind != TOPIC:
            return one
        said = self._topics[one.key]
        return Fact(one.kind, one.key, tuple(pair for pair in one.value if pair[0] in said))

    async def _settings(self) -> Mapping[str, tuple[str | None, int]]:
        return {}


@asynccontextmanager
async def session(system: System, resource: Resource, admin: str) -> AsyncIterator[Elsewhere]:
    """``admin``: see :data:`FORM`; files of PEM, and without ``ca`` the roots of this host.

    Raises AdminRefused for another, ``BrokerUnreachable``.
    """
    host, port, context = _administrator(admin)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            streams = await asyncio.open_connection(host, port, ssl=context)
    except BROKEN as error:
        raise unreachable(resource.name, error) from error
    asked = Operator(*streams, resource.name)
    try:
        yield Elsewhere(asked, system, resource)
    finally:
        asked.close()


def _administrator(admin: str) -> tuple[str, int, ssl.SSLContext]:
    try:
        url = urlsplit(admin)
        host, port, said = url.hostname or "", url.port or 9093, dict(parse_qsl(url.query))
        fits = url.scheme == "ssl" and host and url.username is None and not url.path.strip("/")
        if not fits or not {"cert", "key"} <= said.keys() <= {"ca", "cert", "key"}:
            raise AdminRefused("That is no way to a broker.", remedy=f"Say `{FORM}`.")
        context = ssl.create_default_context(cafile=said.get("ca"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(Path(said["cert"]), Path(said["key"]), password=_no_password)
    except (ValueError, OSError) as error:
        raise AdminRefused(
            f"The administrator's files cannot be used: {error}",
            remedy="Name files of PEM, and a private key without a password.",
        ) from error
    return host, port, context


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
