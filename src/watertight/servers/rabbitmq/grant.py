"""Grants at a broker that others run, over the management API that its administrator opens to us.

Only the resource's virtual host and our services' users in it are touched: what else the broker
holds is not ours to judge.
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

import httpx

from watertight.enforcers.resource import AdminRefused, ServerRefused
from watertight.errors import WatertightError
from watertight.model.system import Resource, System
from watertight.servers.rabbitmq import guard
from watertight.servers.rabbitmq.compile import definitions
from watertight.servers.rabbitmq.declaration import grants
from watertight.servers.rabbitmq.differences import Definition, differences
from watertight.servers.rabbitmq.versions import fit, looks_at_copies

PASSWORD = "RABBITMQ_ADMIN_PASSWORD"  # noqa: S105 - the variable's name
TIMEOUT_SECONDS = 30.0
IN_VIRTUAL_HOST = (
    *("queues", "exchanges", "bindings", "policies", "parameters"),
    *("permissions", "topic_permissions"),
)


async def grant(
    system: System, resource: Resource, admin: str, *, dry_run: bool = False
) -> tuple[str, ...]:
    """See ``GrantsElsewhere``. ``admin``: ``https://USER@HOST:PORT`` of the management API.

    The password is in the environment, as ``RABBITMQ_ADMIN_PASSWORD``.
    """
    wanted = definitions(system, resource)
    async with _connected(resource, admin) as broker:
        found = _ours(await _get(broker), system, wanted)
        odd = [difference.what for difference in differences(wanted, found)]
        unheld = await _unheld(broker, system, resource)
        if dry_run:
            return (*odd, *([unheld] if unheld else []))
        if unheld:
            raise ServerRefused(
                resource.at,
                f"{resource.name}: {unheld}.",
                remedy="Enable the plugin that `watertight render` prints, or use RabbitMQ 4.0.3.",
            )
        if not odd:
            return ()
        for path in _removals(wanted, found):
            await _ask(broker, "DELETE", path)
        await _ask(broker, "POST", "/api/definitions", wanted)
        left = [d.what for d in differences(wanted, _ours(await _get(broker), system, wanted))]
    if wrong := [what for what in left if not what.endswith("is not declared")]:
        raise ServerRefused(
            resource.at,
            f"{resource.name} does not become what is declared: {'; '.join(wrong)}.",
            remedy="A queue or exchange keeps what it was made as: remove it by hand.",
        )
    return tuple(what for what in odd if what not in left)


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


def _ours(found: Definition, system: System, wanted: Definition) -> dict[str, Any]:
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


def _removals(wanted: Definition, found: Definition) -> Iterator[str]:
    """Who may no longer come into the virtual host; whoever may is overwritten.

    The rest stays: a queue may hold somebody's messages, and without topic permissions, which the
    API takes away only all at once, everything would be allowed for a moment.
    """
    users = {user["name"] for user in wanted["users"]}
    for one in found["permissions"]:
        if one["user"] not in users:
            yield f"/api/permissions/{_name(one['vhost'])}/{_name(one['user'])}"


def _name(text: str) -> str:
    return quote(text, safe="")


@asynccontextmanager
async def _connected(resource: Resource, admin: str) -> AsyncIterator[httpx.AsyncClient]:
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
            yield client
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


async def _get(broker: httpx.AsyncClient) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (await _ask(broker, "GET", "/api/definitions")).json()
    return found


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
