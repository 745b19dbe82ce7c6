"""From a declaration to what runs: one :class:`PodSpec` a workload."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from watertight.enforcers.resource import ServerProcess
from watertight.model.addresses import callee_addresses
from watertight.model.diff import settled_of
from watertight.model.system import GATEWAY, Resource, Service, System
from watertight.runtime.capabilities import Isolation
from watertight.runtime.environment import app_environment
from watertight.runtime.layout import Layout
from watertight.runtime.mounts import (
    AppSight,
    ProxySight,
    ServerSight,
    app_view,
    network_files,
    proxy_view,
    server_view,
    system_directories,
)
from watertight.runtime.pod_spec import (
    APP,
    PROXY,
    SERVER,
    AdminReady,
    HTTPReady,
    PodSpec,
    PortReady,
    ProcessSpec,
    Readiness,
)
from watertight.runtime.pod_wire import Mount
from watertight.runtime.programs import find_program, needed_by, search_path
from watertight.runtime.settled import digest, settled

_FIRST_FREE_PORT = 1024
_PROXY_BYTES = 2 << 30
_GATEWAY_BYTES = 4 << 30
"""Twice what Envoy may allocate (ADR 28): sockets, whose buffers are the kernel's, count too."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts of this host that pods are made with, gathered once."""

    envoy: Path
    environment: Mapping[str, str] = field(repr=False)
    """The operator's."""
    system: tuple[Mount, ...] = field(repr=False)
    visible: tuple[Path, ...] = ()
    """Shown to every app, read-only: our own interpreter, for the prober's agent runs as an app."""

    @classmethod
    def here(cls, envoy: Path) -> "Machine":
        """This host."""
        interpreter = needed_by(Path(sys.executable))
        return cls(envoy.resolve(), dict(os.environ), system_directories(), interpreter)


@dataclass(frozen=True, slots=True)
class Servers:
    """What the enforcers of resources say of the pods."""

    processes: Mapping[str, ServerProcess] = field(default_factory=dict)
    """How each managed server is started, by resource; without one, only its proxy is."""
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What each service's clients read, by service."""
    told: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Digests of what each service is told of each thing that it may use, by service."""


NO_SERVERS = Servers()


def pod_specs(
    system: System, layout: Layout, machine: Machine, servers: Servers = NO_SERVERS
) -> dict[str, PodSpec]:
    """Every pod of the system, by name. Reads the file system (programs, links), changes nothing.

    Raises :class:`watertight.runtime.programs.ProgramNotFoundError`.
    """
    pods = {name: _service_pod(system, layout, machine, name, servers) for name in system.services}
    for name, resource in system.resources.items():
        server = servers.processes.get(name)
        pods[name] = _resource_pod(layout, machine, resource, server)
    if system.gateway is not None:
        proxy = _proxy(layout, machine, GATEWAY, ())
        proxy = replace(proxy, low_ports=system.gateway.port < _FIRST_FREE_PORT)
        pods[GATEWAY] = PodSpec(GATEWAY, "host", {}, (proxy,))
    return pods


def _service_pod(
    system: System, layout: Layout, machine: Machine, name: str, servers: Servers
) -> PodSpec:
    shared = layout.capabilities.shared_network
    addresses = callee_addresses(system, name, shared_network=shared)
    network = () if shared else network_files(layout.pod(name) / "hosts")
    processes = [_proxy(layout, machine, name, network)]
    if system.services[name].run:
        clients = servers.environments.get(name, {})
        environment = app_environment(system, layout, machine.environment, name, clients)
        app = _app(system, layout, machine, name, network, environment)
        own = digest(*settled_of(system.services[name]))
        processes.append(replace(app, settled=settled(own, servers.told.get(name, {}))))
    hosts = {"localhost": "127.0.0.1", name: "127.0.0.1", **addresses}
    return PodSpec(name, "host" if shared else "namespace", hosts, tuple(processes))


def _resource_pod(
    layout: Layout, machine: Machine, resource: Resource, server: ServerProcess | None
) -> PodSpec:
    """One that somebody else runs is reached from the host's network; ours has one of its own."""
    name = resource.name
    in_host = layout.capabilities.shared_network or resource.external
    network = () if in_host else network_files(layout.pod(name) / "hosts")
    processes = [_proxy(layout, machine, name, network)]
    if server is not None:
        processes.append(_server(layout, machine, resource, server, network))
    hosts = {"localhost": "127.0.0.1", name: "127.0.0.1"}
    return PodSpec(name, "host" if in_host else "namespace", hosts, tuple(processes))


def _server(
    layout: Layout,
    machine: Machine,
    resource: Resource,
    server: ServerProcess,
    network: Sequence[Mount],
) -> ProcessSpec:
    placement = layout.placement
    data = placement.server_data(resource.name)
    needed = [path for program in server.programs for path in needed_by(program)]
    sight = ServerSight(
        data=data,
        sockets=placement.server_sockets(resource.name),
        configuration=placement.server_directory(resource.name),
        credentials=placement.credentials(resource.name).parent,
        users=layout.users_file(resource.name),
        temp_bytes=resource.limits.temp_bytes,
        # Our own interpreter, for the prober's agent runs as a server too.
        programs=(*needed, *machine.visible),
    )
    isolated = layout.capabilities.isolation is not Isolation.NONE
    locale = {k: machine.environment[k] for k in ("TZ",) if k in machine.environment}
    return ProcessSpec(
        name=SERVER,
        argv=server.argv,
        environment={
            "HOME": str(data),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            **locale,
            **server.environment,
        },
        directory=data,
        view=server_view(machine.system, network, sight) if isolated else (),
        credentials=layout.users.app(resource.name) if layout.users else None,
        ready=PortReady(resource.port),
        umask=0o077,
        stop_signal=server.stop_signal,
        limits=resource.limits,
        process_bytes=server.process_bytes,
        process_most_bytes=server.process_most_bytes,
        processes_bytes=server.processes_bytes,
        spared=server.spared,
        settled=settled(digest(asdict(server), asdict(resource.limits)), {}),
    )


def _proxy(
    layout: Layout, machine: Machine, workload: str, network: Sequence[Mount]
) -> ProcessSpec:
    placement = layout.placement
    private = placement.proxy_directory(workload)
    sight = ProxySight(
        doors=placement.run_directory / "mesh",
        own_doors=placement.door_directory(workload),
        xds=placement.xds_socket(workload).parent,
        private=private,
        binary=machine.envoy,
    )
    isolated = layout.capabilities.isolation is not Isolation.NONE
    return ProcessSpec(
        name=PROXY,
        argv=(
            str(machine.envoy),
            "--config-path",
            str(layout.bootstrap(workload)),
            "--disable-hot-restart",
            *("--drain-time-s", "0"),
            *(() if workload == GATEWAY else ("--concurrency", "1")),
            *("--log-level", "warn"),
            # Else each listener says of `allow_custom_methods` that Envoy calls it unfinished.
            *("--component-log-level", "misc:error"),
            *("--file-flush-interval-msec", "1000"),
        ),
        environment={"HOME": "/", "PATH": os.defpath},
        directory=private,
        view=proxy_view(machine.system, network, sight) if isolated else (),
        credentials=layout.users.proxy(workload) if layout.users else None,
        ready=AdminReady(placement.admin_socket(workload)),
        memory_bytes=_GATEWAY_BYTES if workload == GATEWAY else _PROXY_BYTES,
        # Between bind and chmod a socket must not be open to others.
        umask=0o077,
    )


def _app(
    system: System,
    layout: Layout,
    machine: Machine,
    name: str,
    network: Sequence[Mount],
    environment: Mapping[str, str],
) -> ProcessSpec:
    service = system.services[name]
    directory = (layout.project / service.directory).resolve()
    path = search_path(machine.environment)
    program = find_program(service.run[0], directory, path, service.at)
    isolated = layout.capabilities.isolation is not Isolation.NONE
    sight = AppSight(
        project=layout.project,
        data=layout.data(name),
        workload_api=layout.placement.workload_api_socket(name).parent,
        credentials=layout.placement.credentials(name).parent,
        temp_bytes=service.limits.temp_bytes,
        programs=(*needed_by(program), *machine.visible, directory),
        hidden_directories=(layout.state,),
        hidden_files=_private_keys(system, layout.project),
    )
    return ProcessSpec(
        name=APP,
        argv=(str(program), *service.run[1:]),
        environment=environment,
        directory=directory,
        view=app_view(machine.system, network, sight) if isolated else (),
        credentials=layout.users.app(name) if layout.users else None,
        ready=_readiness(service),
        limits=service.limits,
    )


def _private_keys(system: System, project: Path) -> tuple[Path, ...]:
    """Keys that the declaration names; every app sees the project, none may see these."""
    gateway = system.gateway
    if gateway is None or gateway.private_key is None:
        return ()
    key = (project / gateway.private_key).resolve()
    return (key,) if key.is_relative_to(project) else ()


def _readiness(service: Service) -> Readiness:
    if service.listens is None:
        return None
    if service.ready is not None:
        return HTTPReady(service.listens.port, service.ready)
    return PortReady(service.listens.port)
