"""What the administrator of a mongod that others run must set, and run once. Pure.

Sources: MongoDB manual, "Configuration File Options", "Use x.509 Certificates to Authenticate
Clients", "Privilege Actions"; the names of options are those of mongod's own definitions
(src/mongo/util/net/ssl_options_server.idl, src/mongo/db/server_options_general.idl).
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from watertight.model.system import Resource, System
from watertight.servers.mongodb.declaration import declared, granted

DIRECTORY = "/etc/mongodb/tls"
CONFIGURATION, COMMANDS = "mongod.conf", "commands.js"
ACTIONS = {
    "find": ("find",),
    "insert": ("insert",),
    "update": ("update",),
    "remove": ("remove",),
    "index": ("createIndex", "dropIndex", "listIndexes"),
}
ROLE_PREFIX = "watertight-"
_SCRIPT = """\
// For mongosh, as an administrator; it may run again and again.
const declared = {declared};
const data = db.getSiblingDB(declared.database);
const external = db.getSiblingDB("$external");
const there = data.getCollectionNames();
const missing = declared.collections.filter(name => !there.includes(name));
missing.forEach(name => data.createCollection(name));
for (const one of declared.services) {{
  const role = {{ privileges: one.privileges, roles: [] }};
  if (data.getRole(one.role)) data.updateRole(one.role, role);
  else data.createRole({{ role: one.role, ...role }});
  const roles = [{{ role: one.role, db: declared.database }}];
  if (external.getUser(one.user)) external.updateUser(one.user, {{ roles }});
  else external.createUser({{ user: one.user, roles }});
}}
"""


def subject(trust_domain: str, unit: str, name: str) -> str:
    """A certificate's Subject as mongod writes it (RFC 2253: the last part first)."""
    return f"CN={name},OU={unit},O={trust_domain}"


def settings(system: System, resource: Resource) -> Mapping[str, Any]:
    """What mongod's file must say. TLS 1.3 with a certificate, and no other way to log in."""
    return {
        "net": {
            "port": resource.port,
            "tls": {
                "mode": "requireTLS",
                "certificateKeyFile": f"{DIRECTORY}/combined.pem",
                "CAFile": f"{DIRECTORY}/bundle.pem",
                "disabledProtocols": "TLS1_0,TLS1_1,TLS1_2",
                "allowConnectionsWithoutCertificates": False,
                "allowInvalidCertificates": False,
                # Whoever counts as a member may do everything. Unless told otherwise, mongod takes
                # for one whose O, OU and DC are its own; a service's OU is another, and its CN too.
                "clusterAuthX509": {
                    "attributes": subject(system.trust_domain, "servers", resource.name)
                },
            },
        },
        "security": {
            "authorization": "enabled",
            "clusterAuthMode": "x509",
            "javascriptEnabled": False,
        },
        "setParameter": {
            "authenticationMechanisms": "MONGODB-X509",
            "enforceUserClusterSeparation": True,
            # Our certificates live for an hour: it would warn at each login.
            "tlsX509ExpirationWarningThresholdDays": 0,
        },
    }


def rights(system: System, resource: Resource) -> Mapping[str, Any]:
    """The collections, and each service's user in ``$external`` with a role of its own."""
    database = declared(resource).database
    return {
        "database": database,
        "collections": declared(resource).collections,
        "services": [
            {
                "user": subject(system.trust_domain, "services", channel.source),
                "role": ROLE_PREFIX + channel.source,
                "privileges": [
                    {
                        "resource": {"db": database, "collection": name},
                        "actions": [a for action in actions for a in ACTIONS[action]],
                    }
                    for name, actions in granted(channel).collections.items()
                    if actions
                ],
            }
            for channel in system.incoming(resource.name)
        ],
    }


def render(system: System, resource: Resource) -> Mapping[str, str]:
    """The lines for mongod's configuration file, and a script for its shell."""
    return {
        CONFIGURATION: yaml.safe_dump(settings(system, resource), sort_keys=False),
        COMMANDS: _SCRIPT.format(declared=json.dumps(rights(system, resource), indent=2)),
    }
