"""Grants at a broker that others run, over the management API that its administrator opens to us.

Only the resource's virtual host and our services' users in it are touched: what else the broker
holds is not ours to judge.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import quote

import httpx

from watertight.enforcers.resource import AdminRefused
from watertight.errors import WatertightError
from watertight.model.system import Resource, System
from watertight.servers.facts import Change, Fact
from watertight.servers.kind import Part
from watertight.servers.rabbitmq import guard
from watertight.servers.rabbitmq.compile import definitions
from watertight.servers.rabbitmq.declaration import grants
from watertight.servers.rabbitmq.facts import PERMISSIONS, Definitions, facts_of
from watertight.servers.rabbitmq.versions import fit, looks_at_copies

PASSWORD = "RABBITMQ_ADMIN_PASSWORD"  # noqa: S105 - the variable's name
TIMEOUT_SECONDS = 30.0
IN_VIRTUAL_HOST = (
    *("queues", "exchanges", "bindings", "policies", "parameters"),
    *("permissions", "topic_permissions"),
)


class Elsewhere:
    """Implements :class:`~watertight.servers.kind.Session` for a broker of others."""

    def __init__(self, broker: httpx.AsyncClient, system: System, resource: Resource) -> None:
        self._broker, self._system, self._resource = broker, system, resource
        self._wanted = definitions(system, resource)

    async def stale(self) -> Sequence[str]:
        """See the protocol: why it cannot be held to its grants."""
        unheld = await _unheld(self._broker, self._system, self._resource)
        return [unheld] if unheld else []

    async def facts(self) -> frozenset[Fact]:
        """See the protocol: only those of the resource."""
        found = (await _ask(self._broker, "GET", "/api/definitions")).json()
        return facts_of(_ours(found, self._system, self._wanted))

    async def execute(self, changes: Sequence[Change]) -> None:
        """See the protocol: takes away who may no longer come into the virtual host.

        Whoever may is overwritten. The rest stays: a queue may hold somebody's messages, and
        without topic permissions, which the API takes away only all at once, everything would be
        allowed for a moment.
        """
        for change in changes:
            if change.removes and change.thing.kind == PERMISSIONS:
                user, host = map(_quoted, change.thing.key)
                await _ask(self._broker, "DELETE", f"/api/permissions/{host}/{user}")
        await _ask(self._broker, "POST", "/api/definitions", self._wanted)

    async def take(self, _part: Part) -> None:
        """It is not ours to tell."""
        raise NotImplementedError

    async def kick(self, _service: str) -> int:
        """It is not ours to tell."""
        raise NotImplementedError


async def _unheld(broker: httpx.AsyncClient, system: System, resource: Resource) -> str:
    """Why the broker cannot hold publishers to routing keys; empty if it can, or need not."""
    granted = [grants(channel) for channel in system.incoming(resource.name)]
    if all(set(keys) <= {"#"} for one in granted for keys in one.publish.values()):
        return ""
    version = str((await _ask(broker, "GET", "/api/overview")).json()["rabbitmq_version"])
    nodes = (await _ask(broker, "GET", "/api/nodes")).json()
    guarded = all(
        any(running["name"] == guard.NAME for running in node.get("applications", ()))
        for node in nodes
    )
    if looks_at_copies(version) or (guarded and fit(version)):
        return ""
    return (
        f"RabbitMQ {version} without the plugin {guard.NAME} lets the headers CC and BCC past "
        "topic permissions"
    )


def _ours(found: Definitions, system: System, wanted: Definitions) -> Definitions:
    """Of all definitions, the resource's virtual host, and in it the users of our trust domain.

    Users are the broker's, not a virtual host's: another of its virtual hosts may be another
    resource of ours. So only those are looked at who must be there.
    """
    (host,) = (vhost["name"] for vhost in wanted["vhosts"])
    expected = {user["name"] for user in wanted["users"]}
    domain = f"spiffe://{system.trust_domain}/"
    inside = {
        section: [one for one in found.get(section, ()) if one["vhost"] == host]
        for section in IN_VIRTUAL_HOST
    }
    for section in ("permissions", "topic_permissions"):
        inside[section] = [one for one in inside[section] if one["user"].startswith(domain)]
    return {
        "users": [user for user in found.get("users", ()) if user["name"] in expected],
        "vhosts": [vhost for vhost in found.get("vhosts", ()) if vhost["name"] == host],
        **inside,
    }


def _quoted(text: str) -> str:
    return quote(text, safe="")


@asynccontextmanager
async def session(system: System, resource: Resource, admin: str) -> AsyncIterator[Elsewhere]:
    """``admin``: ``https://USER@HOST:PORT`` of the management API.

    The password is in the environment, as ``RABBITMQ_ADMIN_PASSWORD``. Raises ``AdminRefused`` for
    an ``admin`` that cannot be, WatertightError where the broker refuses.
    """
    url = _checked(admin)
    password = os.environ.get(PASSWORD)
    if not password:
        raise AdminRefused(
            f"There is no password for {url.username} at {resource.name}.",
            remedy=f"Put it into the environment, as {PASSWORD}.",
        )
    login = (url.username, password)
    base = url.copy_with(userinfo=b"")
    async with httpx.AsyncClient(base_url=base, auth=login, timeout=TIMEOUT_SECONDS) as client:
        try:
            yield Elsewhere(client, system, resource)
        except httpx.HTTPError as error:
            raise WatertightError(
                f"The management API of {resource.name} cannot be asked: "
                f"{error or type(error).__name__}.",
                remedy="If another authority signs its certificate: SSL_CERT_FILE=FILE.",
            ) from error


def _checked(admin: str) -> httpx.URL:
    try:
        url = httpx.URL(admin)
    except httpx.InvalidURL as error:
        raise AdminRefused(f"That is no URL: {error}.") from None
    if url.password:
        raise AdminRefused(
            "A password in the command is seen by everybody on this machine.",
            remedy=f"Leave it out, and put it into the environment, as {PASSWORD}.",
        )
    if not url.username or not url.host:
        raise AdminRefused("That names no administrator.", remedy="Write https://USER@HOST:15671.")
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
        raise AdminRefused(
            f"{url.scheme}: the password would be seen on the way.",
            remedy="Write https; http is for this machine's own loopback address.",
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _ask(
    broker: httpx.AsyncClient, method: str, path: str, body: object = None
) -> httpx.Response:
    answer = await broker.request(method, path, json=body)
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise WatertightError(f"{broker.base_url.host} does not know this administrator.")
    if not answer.is_success and not (
        method == "DELETE" and answer.status_code == httpx.codes.NOT_FOUND
    ):
        raise WatertightError(
            f"{broker.base_url.host} refuses {method} {path}: {answer.status_code} "
            f"{answer.text[:200]}"
        )
    return answer
