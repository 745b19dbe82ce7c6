"""The environment of a service's program: all that it gets, whoever asks.

Apps get a clean environment: what a shell happens to hold (cloud keys, tokens) is not their
business.
"""

from collections.abc import Mapping

from watertight.model.addresses import callee_addresses
from watertight.model.system import Protocol, System
from watertight.runtime.capabilities import Isolation
from watertight.runtime.layout import Layout
from watertight.runtime.programs import search_path

POD_MARK = "WATERTIGHT_POD"
"""Without process namespaces: the environment variable by which what a pod left can be found."""
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""All that apps keep of the operator's environment."""


def app_environment(
    system: System,
    layout: Layout,
    operators: Mapping[str, str],
    service: str,
    clients: Mapping[str, str],
) -> dict[str, str]:
    """Every variable of a service's program. Pure.

    ``operators``: the environment of whoever runs ``watertight up``; ``clients``: what the clients
    of databases and brokers read. What the declaration itself says comes last.
    """
    environment = given_environment(system, layout, operators, service, clients)
    environment |= system.services[service].environment
    return environment | mark(layout, service)


def given_environment(
    system: System,
    layout: Layout,
    operators: Mapping[str, str],
    service: str,
    clients: Mapping[str, str],
) -> dict[str, str]:
    """The same, without what the declaration itself says."""
    data = str(layout.data(service))
    environment = {
        "HOME": data,
        "WATERTIGHT_DATA": data,
        "USER": service,
        "LOGNAME": service,
        "PATH": search_path(operators),
        "PYTHONUNBUFFERED": "1",
        "SPIFFE_ENDPOINT_SOCKET": f"unix://{layout.placement.workload_api_socket(service)}",
        "WATERTIGHT_CHANNELS": str(layout.placement.channels_file(service)),
    }
    environment |= {key: operators[key] for key in _INHERITED if key in operators}
    environment |= _callees(system, service, shared=layout.capabilities.shared_network)
    return {**environment, **clients}


def mark(layout: Layout, pod: str) -> dict[str, str]:
    """What every process of a pod carries where nothing else says whose it is."""
    marked = layout.capabilities.isolation is Isolation.NONE
    return {POD_MARK: str(layout.pod(pod))} if marked else {}


def _callees(system: System, service: str, *, shared: bool) -> dict[str, str]:
    """``ORDERS_URL``: where each service that it may call is to be found."""
    found = {}
    for callee, address in callee_addresses(system, service, shared_network=shared).items():
        called = system.services.get(callee)
        listens = called.listens if called else None
        if listens is not None:
            scheme = "tcp" if listens.protocol is Protocol.TCP else "http"
            host = address if shared else callee
            variable = f"{callee.upper().replace('-', '_')}_URL"
            found[variable] = f"{scheme}://{host}:{listens.port}"
    return found
