"""A running mesh for tests: real Envoys, fed by the real xDS server, before small real apps.

    async with running_mesh(system) as mesh:
        response = await mesh.request("storefront", "orders", "GET", "/orders/1")

Everything is on this host's loopback (``Placement.shared_network``) and in one short temporary
directory; leaving the block ends every process, also after a failure.
"""

import asyncio
import json
import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.apps import running_app
from tests.ports import free_port
from watertight.attack.arena import Credential
from watertight.dataplane.binary import envoy_binary
from watertight.dataplane.compile import compile_envoy
from watertight.dataplane.compile.tls import GATEWAY_CERTIFICATE
from watertight.dataplane.resources import EnvoyPlan, ProxyPlan, ResourceType
from watertight.dataplane.xds import XDSServer
from watertight.identity.authority import Authority
from watertight.identity.keeper import SVIDKeeper
from watertight.identity.kek import FileKEK
from watertight.identity.keys import KeyType, generate, signing_hash, to_pkcs8
from watertight.identity.requests import SVIDRequest
from watertight.identity.sds import secrets
from watertight.identity.spiffe import SPIFFEID
from watertight.identity.svid import X509SVID
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY, System
from watertight.unix_http import async_transport

START_SECONDS = 30.0
STOP_SECONDS = 3.0

Sabotage = Callable[[EnvoyPlan], EnvoyPlan]


class EnvoyProcess:
    """One Envoy, from its bootstrap to its end."""

    def __init__(self, plan: ProxyPlan, placement: Placement) -> None:
        self._plan = plan
        self._placement = placement
        self._process: asyncio.subprocess.Process | None = None
        self.log = placement.proxy_directory(plan.workload) / "envoy.log"
        self.access_log = self.log.with_name("access.log")

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Starts it; it dies with this process where ``setpriv`` can say so."""
        bootstrap = self._placement.proxy_directory(self._plan.workload) / "bootstrap.json"
        bootstrap.write_text(json.dumps(self._plan.bootstrap))
        tied = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
        with self.access_log.open("ab") as access_log:
            self._process = await asyncio.create_subprocess_exec(
                *tied,
                envoy_binary(),
                *("--config-path", bootstrap, "--disable-hot-restart", "--drain-time-s", "0"),
                *("--concurrency", "1", "--log-path", self.log, "--log-level", "info"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=access_log,
                stderr=asyncio.subprocess.DEVNULL,
            )

    async def stop(self) -> None:
        """Ends it, and waits until it has ended."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._process = None

    async def admin(self, path: str, method: str = "GET") -> str:
        """What its admin interface answers. Raises ``httpx.HTTPError``."""
        transport = async_transport(self._placement.admin_socket(self._plan.workload))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            return (await client.request(method, path)).text

    async def wait_ready(self, deadline_seconds: float) -> None:
        """Returns once its listeners take connections."""
        deadline = time.monotonic() + deadline_seconds
        while True:
            with suppress(httpx.HTTPError):
                if (await self.admin("/ready")).strip() == "LIVE":
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"The Envoy of {self._plan.workload} is not LIVE.\n{self.tail()}"
                )
            await asyncio.sleep(0.02)

    def tail(self, lines: int = 25) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else "(no log)"
        return "\n".join(text.splitlines()[-lines:])


class Mesh:
    """What :func:`running_mesh` yields."""

    def __init__(
        self,
        system: System,
        placement: Placement,
        identities: SVIDKeeper,
        keys: Mapping[str, str],
    ) -> None:
        self.system = system
        """With the ports that are really used."""
        self.placement = placement
        self.identities = identities
        self.authority = identities.authority
        self.keys = keys
        self.xds = XDSServer()
        self.plan = EnvoyPlan({})
        """What is in force."""
        self.envoys: dict[str, EnvoyProcess] = {}
        self.gateway_certificate = _gateway_certificate(system, self.authority)

    def compile(self, system: System | None = None) -> EnvoyPlan:
        """The plan for a system, or for the mesh's own."""
        return compile_envoy(system or self.system, self.placement, self.keys)

    def address(self, caller: str, callee: str) -> tuple[str, int]:
        """Host and port on which ``caller``'s app finds ``callee``."""
        for resource in self.plan.proxies[caller].resources:
            if resource.type is ResourceType.LISTENER and resource.name == f"out|{callee}":
                address = resource.body["address"]["socket_address"]
                return address["address"], address["port_value"]
        raise LookupError(f"{caller} has no channel to {callee}")

    async def request(
        self, caller: str, callee: str, method: str, path: str, **options: Any
    ) -> httpx.Response:
        """One HTTP request as ``caller``'s app would send it, on a connection of its own."""
        host, port = self.address(caller, callee)
        target = f"{callee}:{self.system.services[callee].listens.port}"  # type: ignore[union-attr]
        headers = {"host": target, **options.pop("headers", {})}
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            return await client.request(method, path, headers=headers, **options)

    async def outside(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """One HTTPS request to the gateway, from a client that trusts our roots only."""
        gateway = self.system.gateway
        assert gateway is not None
        trusting = ssl.create_default_context(cadata=self.authority.bundle().pem().decode())
        base = f"https://{gateway.address}:{gateway.port}"
        named = {"host": gateway.hostname, **(headers or {})}
        extensions = {"sni_hostname": gateway.hostname}
        async with httpx.AsyncClient(base_url=base, verify=trusting) as client:
            return await client.request(
                method, path, headers=named, extensions=extensions, **options
            )

    def credential(self, workload: str) -> Credential:
        """The genuine SVID of a workload, as files."""
        svid = self.identities.x509_svid(workload)
        assert svid is not None
        directory = self.placement.run_directory / "stolen"
        directory.mkdir(mode=0o700, exist_ok=True)
        certificate, key = directory / f"{workload}.crt", directory / f"{workload}.key"
        certificate.write_bytes(svid.chain_pem())
        key.touch(mode=0o600)
        key.write_bytes(svid.private_key_pem())
        return Credential(certificate, key)

    async def admin(self, workload: str, path: str, method: str = "GET") -> str:
        """What the admin interface of that proxy answers."""
        return await self.envoys[workload].admin(path, method)

    async def push(self, plan: EnvoyPlan, *, deadline_seconds: float = START_SECONDS) -> None:
        """Puts a plan in force: new proxies start, missing ones end, all others change live."""
        for workload in self.envoys.keys() - plan.proxies.keys():
            await self._stop(workload)
        for workload, proxy in plan.proxies.items():
            self.xds.set_resources(workload, proxy.resources)
        self.give_secrets()
        new = plan.proxies.keys() - self.envoys.keys()
        for workload in new:
            await self._start(plan.proxies[workload])
        await asyncio.gather(*(self._in_force(name, deadline_seconds) for name in plan.proxies))
        await asyncio.gather(*(self.envoys[name].wait_ready(deadline_seconds) for name in new))
        self.plan = plan

    @asynccontextmanager
    async def sabotage(self, weaken: Sabotage) -> AsyncIterator[None]:
        """Runs a weakened plan for the length of a block."""
        whole = self.plan
        await self.push(weaken(whole))
        try:
            yield
        finally:
            await self.push(whole)

    def give_secrets(self) -> None:
        """Hands every proxy its present SVID and the present bundle."""
        for workload in self.system.workloads():
            bodies = secrets(self.identities, workload)
            if workload == GATEWAY:
                bodies[GATEWAY_CERTIFICATE] = self.gateway_certificate
            self.xds.set_secrets(workload, bodies)

    async def stop(self) -> None:
        """Ends every Envoy, then the xDS server."""
        await asyncio.gather(*(envoy.stop() for envoy in self.envoys.values()))
        await self.xds.stop()

    async def _start(self, proxy: ProxyPlan) -> None:
        name = proxy.workload
        for directory in (
            self.placement.proxy_directory(name),
            self.placement.xds_socket(name).parent,
            self.placement.door_directory(name),
        ):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self.xds.listen(name, self.placement.xds_socket(name))
        self.envoys[name] = EnvoyProcess(proxy, self.placement)
        await self.envoys[name].start()

    async def _stop(self, workload: str) -> None:
        await self.envoys.pop(workload).stop()
        await self.xds.stop_listening(workload)

    async def _in_force(self, workload: str, deadline_seconds: float) -> None:
        try:
            await self.xds.wait_in_force(workload, deadline_seconds=deadline_seconds)
        except Exception as error:
            error.add_note(self.envoys[workload].tail())
            raise


@asynccontextmanager
async def running_mesh(
    system: System,
    *,
    keys: Mapping[str, str] | None = None,
    project: Path | None = None,
    sabotage: Sabotage | None = None,
    apps: bool = True,
) -> AsyncIterator[Mesh]:
    """Runs a system until the block ends.

    Its ports are replaced by free ones (``mesh.system`` has them), but for ``apps=False``, where
    the caller runs the apps on the declared ports. ``keys``: issuer name → JWK Set. ``project``:
    where the files that the declaration names stand. ``sabotage`` weakens the plan from the start.
    """
    async with AsyncExitStack() as stack:
        temporary = Path(tempfile.mkdtemp(prefix="wt-"))
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        placement = Placement(temporary, project or temporary, shared_network=True)
        if apps:
            system = await _start_apps(system, stack)
        identities = await _identities(system, temporary, stack)
        mesh = Mesh(system, placement, identities, keys or {})
        stack.push_async_callback(mesh.stop)
        plan = mesh.compile()
        await mesh.push(sabotage(plan) if sabotage else plan)
        yield mesh


async def _identities(system: System, directory: Path, stack: AsyncExitStack) -> SVIDKeeper:
    """A new authority, and an SVID of it for every workload."""
    kek = FileKEK(directory / "kek")
    authority = Authority.create(directory / "authority", system.trust_domain, kek=kek)
    identities = SVIDKeeper(stack.enter_context(authority), system.workloads())
    await identities.refresh()
    return identities


def _gateway_certificate(system: System, authority: Authority) -> dict[str, Any]:
    """The body of the secret that the gateway shows to the outside: issued by our authority."""
    if system.gateway is None:
        return {}
    key = generate(KeyType.ECDSA_P256)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    chain = authority.issue(
        SVIDRequest(
            csr.sign(key, signing_hash(key)).public_bytes(Encoding.DER),
            SPIFFEID.workload(system.trust_domain, GATEWAY),
            (system.gateway.hostname,),
        )
    )
    svid = X509SVID(system.spiffe_id(GATEWAY), chain, to_pkcs8(key))
    return {
        "tls_certificate": {
            "certificate_chain": {"inline_string": svid.chain_pem().decode()},
            "private_key": {"inline_string": svid.private_key_pem().decode()},
        }
    }


async def _start_apps(system: System, stack: AsyncExitStack) -> System:
    """One app for each service that listens; the system with their ports, and the gateway's."""
    services = dict(system.services)
    for name, service in system.services.items():
        if service.listens is not None:
            port = await stack.enter_async_context(running_app(name, service.listens.protocol))
            services[name] = replace(service, listens=replace(service.listens, port=port))
    gateway = system.gateway and replace(system.gateway, port=free_port(system.gateway.address))
    return replace(system, services=services, gateway=gateway)


async def until(condition: Callable[[], bool], deadline_seconds: float = 20.0) -> None:
    """Returns once the condition holds. Raises ``TimeoutError``."""
    async with asyncio.timeout(deadline_seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
