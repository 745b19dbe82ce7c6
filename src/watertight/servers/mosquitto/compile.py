"""What a Mosquitto broker must be: its configuration, and who may do what. Pure.

Sources: mosquitto.conf(5) and the dynamic security plugin of 2.0; what each of these lines does
was tried on 2.0.11.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watertight.enforcers.resource import BUNDLE, CERTIFICATE, PRIVATE_KEY
from watertight.model.placement import Placement
from watertight.model.system import Resource, System
from watertight.servers.facts import Fact, fact
from watertight.servers.mosquitto.declaration import OWN, broker, grants

CONFIGURATION = "mosquitto.conf"
SECURITY = "dynamic-security.json"
OPENSSL = "openssl.cnf"
PLUGIN = "mosquitto_dynamic_security.so"
CONTROL = "$CONTROL/dynamic-security/v1"
NOTICES = "$SYS/broker/log/N"
QUEUED_MESSAGES = 10_000
"""For each service: what Mosquitto needs besides for each is counted nowhere else."""
DOOR_CONNECTIONS = 32
"""Of one service, logged in or not; logged in is one (ADR 47)."""
NO_RESUMPTION = (
    "openssl_conf = all\n[all]\nssl_conf = tls\n[tls]\nsystem_default = every\n[every]\n"
    # Who resumes a session shows no certificate: an expired one would live on.
    "NumTickets = 0\nOptions = -SessionTicket\n"
)
"""Mosquitto has no line for it."""

ACCESS, ROLE, GROUP, CLIENT = "default access", "role", "group", "user"
KINDS = (ACCESS, ROLE, GROUP, CLIENT)
"""Users go first, for they may be at work."""

_CLOSED = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False}


@dataclass(frozen=True, slots=True)
class MosquittoGrants:
    """What the broker must hold, besides its files."""

    security: Mapping[str, Any]
    """As the plugin's file has it."""


def files(system: System, resource: Resource, placement: Placement) -> Mapping[str, str]:
    """See :meth:`~watertight.servers.kind.Server.files`."""
    own = placement.credentials(resource.name)
    papers = (str(own / BUNDLE), str(own / CERTIFICATE), str(own / PRIVATE_KEY))
    security = str(placement.server_directory(resource.name) / SECURITY)
    return {
        CONFIGURATION: settings(resource, f"{resource.port} 127.0.0.1", papers, security)
        + f"persistence_location {placement.server_data(resource.name)}/\n",
        SECURITY: json.dumps(grants_of(system, resource).security, indent=1) + "\n",
        OPENSSL: NO_RESUMPTION,
    }


def settings(resource: Resource, listener: str, papers: tuple[str, str, str], security: str) -> str:
    """mosquitto.conf: TLS 1.3 with a client certificate, whose CN is user and client id.

    ``papers``: roots, chain, key.
    """
    wanted = broker(resource)
    roots, chain, key = papers
    return (
        "per_listener_settings false\n"
        "allow_anonymous false\n"
        f"plugin {PLUGIN}\n"
        f"plugin_opt_config_file {security}\n"
        "log_dest stdout\n"
        # Whose session ended is told nowhere else; only the operator may read it.
        "log_dest topic\n"
        "sys_interval 0\n"
        f"retain_available {'true' if wanted.retained else 'false'}\n"
        f"max_packet_size {wanted.max_message_size}\n"
        f"max_queued_bytes {wanted.max_queue_size}\n"
        f"max_queued_messages {QUEUED_MESSAGES}\n"
        # No `memory_limit`: 2.0 counts what its dynamic security frees and not what that took, so
        # after some five looks by the operator the count is below nothing, which is above any
        # limit, and nobody is let in any more. What is kept for each service is bounded above.
        "persistent_client_expiration 14d\n"
        "persistence true\n"
        "autosave_interval 60\n"
        f"listener {listener}\n"
        f"cafile {roots}\n"
        f"certfile {chain}\n"
        f"keyfile {key}\n"
        "tls_version tlsv1.3\n"
        "require_certificate true\n"
        "use_identity_as_username true\n"
        # Or anybody takes another's session by its client id, and ends it.
        "use_username_as_clientid true\n"
    )


def grants_of(system: System, resource: Resource) -> MosquittoGrants:
    """See :meth:`~watertight.servers.kind.Server.grants`. The broker's own name is its operator."""
    callers = {
        channel.source: [
            *(_may("publishClientSend", topic) for topic in grants(channel).write),
            *(may for topic in grants(channel).read for may in _reads(topic)),
            _may("publishClientSend", OWN + channel.source),
            *_reads(OWN + channel.source),
        ]
        for channel in system.incoming(resource.name)
    }
    operator = [_may("publishClientSend", CONTROL), *_reads(f"{CONTROL}/response")]
    roles = {resource.name: [*operator, *_reads(NOTICES)], **callers}
    return MosquittoGrants(
        {
            "defaultACLAccess": {**_CLOSED, "unsubscribe": True},
            "clients": [
                {"username": name, "roles": [{"rolename": name}]} for name in sorted(roles)
            ],
            "groups": [],
            "roles": [{"rolename": name, "acls": acls} for name, acls in sorted(roles.items())],
        }
    )


def _may(what: str, topic: str) -> dict[str, Any]:
    return {"acltype": what, "topic": topic, "priority": 0, "allow": True}


def _reads(topic: str) -> list[dict[str, Any]]:
    return [_may("subscribePattern", topic), _may("publishClientReceive", topic)]


def facts_of(security: Mapping[str, Any]) -> frozenset[Fact]:
    """All that the plugin's file decides, or what it answers in the file's form."""
    return frozenset(
        [fact(ACCESS, [name], allow=yes) for name, yes in security["defaultACLAccess"].items()]
        + [
            fact(ROLE, [one["rolename"]], rights=sorted(map(_right, one.get("acls", []))))
            for one in security["roles"]
        ]
        + [fact(GROUP, [one["groupname"]]) for one in security["groups"]]
        + [
            fact(
                CLIENT,
                [one["username"]],
                roles=[role["rolename"] for role in one.get("roles", [])],
                groups=[group["groupname"] for group in one.get("groups", [])],
                disabled=one.get("disabled", False),
                client_id=one.get("clientid", ""),
            )
            for one in security["clients"]
        ]
    )


def _right(acl: Mapping[str, Any]) -> list[Any]:
    return [acl["acltype"], acl["topic"], acl.get("priority", 0), acl["allow"]]
