"""A caller's app reaches its callee's through two real Envoys, and no other way.

Without TLS: here only the pipes are looked at, not what flows in them.
"""

import contextlib
import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port
from tests.runtime.conftest import Host, running
from tests.runtime.programs import GET, idler, server, system_of
from watertight.attack.arena import Listening
from watertight.model.addresses import callee_addresses
from watertight.model.system import GATEWAY, Gateway, Route
from watertight.runtime.capabilities import HostCapabilities
from watertight.runtime.proc import descendants

_TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def write_bootstrap(
    host: Host, workload: str, listen: dict[str, object], to: dict[str, object]
) -> None:
    """A proxy that passes bytes from one address to another."""
    placement = host.layout.placement
    bootstrap = {
        "admin": {"address": {"pipe": {"path": str(placement.admin_socket(workload))}}},
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": listen,
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "tcp",
                                    "typed_config": {
                                        "@type": _TCP_PROXY,
                                        "stat_prefix": "tcp",
                                        "cluster": "out",
                                    },
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "out",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "out",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": to}}]}],
                    },
                }
            ],
        },
    }
    path = host.layout.bootstrap(workload)
    path.write_text(json.dumps(bootstrap), encoding="utf-8")
    path.chmod(0o644)


def tcp(address: str, port: int) -> dict[str, object]:
    """A TCP address."""
    return {"socket_address": {"address": address, "port_value": port}}


async def test_a_call_goes_through_both_proxies(home: Path, capabilities: HostCapabilities) -> None:
    """Also on port 80, and each process listens on exactly what it should."""
    system = system_of(
        idler("storefront"), server("orders", 80), channels=(("storefront", "orders"),)
    )
    address = callee_addresses(system, "storefront", shared_network=False)["orders"]
    async with running(home, system, capabilities) as host:
        door = host.layout.placement.door("orders", "storefront")
        pipe: dict[str, object] = {"pipe": {"path": str(door), "mode": 0o660}}
        write_bootstrap(host, "storefront", tcp(address, 80), pipe)
        write_bootstrap(host, "orders", pipe, tcp("127.0.0.1", 80))
        await host.up("orders", "proxy", "app")
        await host.up("storefront", "proxy", "app")
        get = await host.inside("storefront", sys.executable, "-c", GET, "http://orders/1")
        assert get == "orders serves /1\n"
        admin = {
            name: str(host.layout.placement.admin_socket(name)) for name in ("orders", "storefront")
        }
        assert set(await host.supervisor.listening()) == {
            Listening("orders", "app", "127.0.0.1:80"),
            Listening("orders", "proxy", f"unix:{door}"),
            Listening("orders", "proxy", f"unix:{admin['orders']}"),
            Listening("storefront", "proxy", f"{address}:80"),
            Listening("storefront", "proxy", f"unix:{admin['storefront']}"),
        }
        await host.supervisor.stop_process("orders", "proxy")
        get = await host.inside("storefront", sys.executable, "-c", GET, "http://orders/1")
        assert get.startswith("failed:") or not get.strip()


async def test_the_gateway_stands_in_the_hosts_network_and_nothing_else_of_it(
    home: Path, capabilities: HostCapabilities
) -> None:
    """The outside reaches a service through the gateway's proxy and the service's own."""
    port = free_port()
    gateway = Gateway("shop.example", (Route("/", "orders"),), port=port)
    system = replace(system_of(server("orders", 8081)), gateway=gateway)
    async with running(home, system, capabilities) as host:
        door = host.layout.placement.door("orders", GATEWAY)
        pipe: dict[str, object] = {"pipe": {"path": str(door), "mode": 0o660}}
        write_bootstrap(host, GATEWAY, tcp("127.0.0.1", port), pipe)
        write_bootstrap(host, "orders", pipe, tcp("127.0.0.1", 8081))
        await host.up("orders", "proxy", "app")
        await host.up(GATEWAY, "proxy")
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/1")
        assert answer.text == "orders serves /1"
        told = {s for s in await host.supervisor.listening() if s.workload == GATEWAY}
        admin = host.layout.placement.admin_socket(GATEWAY)
        assert told == {
            Listening(GATEWAY, "proxy", f"127.0.0.1:{port}"),
            Listening(GATEWAY, "proxy", f"unix:{admin}"),
        }
        init = host.supervisor.pods[GATEWAY].pid
        proxy = descendants(init)[-1]
        assert _link(proxy, "net") == _link(os.getpid(), "net")
        for kind in ("mnt", "pid", "ipc"):
            assert _link(proxy, kind) != _link(os.getpid(), kind)


def _free_low_port() -> int:
    for port in range(1023, 600, -1):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    pytest.skip("no port below 1024 is free")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="below port 1024 only root may listen")
async def test_a_gateway_started_by_root_may_stand_on_a_low_port(
    home: Path, capabilities: HostCapabilities
) -> None:
    """With that right alone, as a user of its own; a high port needs none."""
    for port, rights in ((_free_low_port(), 1 << 10), (free_port(), 0)):
        gateway = Gateway("shop.example", (Route("/", "orders"),), port=port)
        system = replace(system_of(server("orders", 8081)), gateway=gateway)
        async with running(home, system, capabilities) as host:
            write_bootstrap(host, GATEWAY, tcp("127.0.0.1", port), tcp("127.0.0.1", 1))
            await host.up(GATEWAY, "proxy")
            proxy = descendants(host.supervisor.pods[GATEWAY].pid)[-1]
            status = dict(
                line.split(":\t", 1) for line in _text(f"/proc/{proxy}/status").splitlines()
            )
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == rights
            assert status["Uid"].split()[0] != "0"
            told = {s.address for s in await host.supervisor.listening()}
            assert f"127.0.0.1:{port}" in told


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _link(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
