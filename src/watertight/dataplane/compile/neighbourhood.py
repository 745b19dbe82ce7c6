"""The part of a declaration that one proxy's configuration can depend on.

A sidecar is compiled from this part and from nothing else. So a part that did not change gives the
same configuration, and compiling again costs what changed, not what there is.
"""

from dataclasses import replace

from watertight.model.system import GATEWAY, System


def neighbourhood(system: System, workload: str, *, shared_network: bool) -> System:
    """``workload``, its channels, what stands at their other ends, and the routes that lead to it.

    The gateway's is the services that it routes to. In a shared network it is the whole system:
    loopback addresses are dealt out to all pairs together.
    """
    if shared_network:
        return system
    channels = (*system.outgoing(workload), *system.incoming(workload))
    routes = system.routes_to(workload)
    gateway = system.gateway
    near = {workload, *(c.source for c in channels), *(c.target for c in channels)}
    if gateway is not None and workload == GATEWAY:
        near |= {route.target for route in gateway.routes}
    elif gateway is not None:
        gateway = replace(gateway, routes=routes) if routes else None
    return replace(
        system,
        services={name: system.services[name] for name in sorted(near & system.services.keys())},
        resources={name: system.resources[name] for name in sorted(near & system.resources.keys())},
        channels=channels,
        gateway=gateway,
    )
