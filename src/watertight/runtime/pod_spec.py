"""What is to run: pods and their processes, as the supervisor is told.

A pod is one service: its proxy, and its app; or one resource: its proxy, and its server. The
gateway is a pod with a proxy only, in the host's network; so is a resource that others run.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from watertight.model.system import Limits
from watertight.runtime import pod_wire
from watertight.runtime.pod_wire import Credentials, Mount

PROXY = pod_wire.PROXY
APP = "app"
SERVER = "server"
"""A database or broker: the one process beside the proxy in the pod of a resource."""


@dataclass(frozen=True, slots=True)
class AdminReady:
    """A proxy is ready when its admin interface answers ``/ready`` with LIVE."""

    socket: Path


@dataclass(frozen=True, slots=True)
class PortReady:
    """An app is ready when it accepts on 127.0.0.1."""

    port: int


@dataclass(frozen=True, slots=True)
class HTTPReady:
    """An app is ready when ``path`` answers 2xx on 127.0.0.1."""

    port: int
    path: str


Readiness: TypeAlias = AdminReady | PortReady | HTTPReady | None
"""None: ready as soon as it runs."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process. ``argv[0]`` is absolute; the environment is all that it gets."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    view: tuple[Mount, ...] = field(default=(), repr=False)
    """Empty: the host's file system."""
    credentials: Credentials | None = None
    ready: Readiness = None
    umask: int = 0o022
    stop_signal: signal.Signals = signal.SIGTERM
    """What asks it to end."""
    low_ports: bool = False
    """May listen below port 1024 of the host, if root starts it."""
    limits: Limits | None = None
    """What it may use; None for a proxy, which bounds itself."""
    memory_bytes: int | None = None
    """Of a proxy: what the kernel holds it to, where there are control groups."""
    process_bytes: int | None = None
    """Own memory that each process that it makes may take; None: no such bound."""
    process_most_bytes: int | None = None
    """What each may ask the kernel for at all (RLIMIT_DATA), in one leap."""
    processes_bytes: int | None = None
    """What all of them may take together."""
    spared: tuple[str, ...] = ()
    """Titles of those that are never ended for it."""
    settled: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What its start settles (:mod:`watertight.runtime.settled`)."""


@dataclass(frozen=True, slots=True)
class PodSpec:
    """One pod. ``hosts`` maps the names that resolve inside it to addresses."""

    name: str
    network: Literal["namespace", "host"]
    hosts: Mapping[str, str]
    processes: tuple[ProcessSpec, ...]

    def process(self, name: str) -> ProcessSpec:
        """The process of that name; raises KeyError."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(name)
