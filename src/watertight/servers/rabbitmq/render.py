"""What the administrator of a broker that others run must add to it. Pure."""

import json
from collections.abc import Mapping

from watertight.enforcers.resource import BUNDLE, CERTIFICATE, PRIVATE_KEY
from watertight.model.system import Resource, System
from watertight.servers.rabbitmq import guard
from watertight.servers.rabbitmq.compile import (
    CONFIGURATION,
    ENABLED,
    PLUGINS,
    definitions,
    settings,
)
from watertight.servers.rabbitmq.facts import DEFINITIONS

DIRECTORY = "/etc/rabbitmq/tls"


def render(system: System, resource: Resource) -> Mapping[str, str]:
    """Configuration, plugins, and the definitions to import."""
    files = (f"{DIRECTORY}/{BUNDLE}", f"{DIRECTORY}/{CERTIFICATE}", f"{DIRECTORY}/{PRIVATE_KEY}")
    return {
        CONFIGURATION: settings(str(resource.port), files),
        PLUGINS: ENABLED,
        DEFINITIONS: json.dumps(definitions(system, resource), indent=1) + "\n",
        **guard.FILES,
    }
