"""From a declaration to a running, sealed system, and back to nothing: what ``up`` runs.

This is the main flow: lay out, found or open the authority, take over what a dead control plane
left, apply, serve; at the end stop everything.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TypeAlias

import structlog
import uvicorn

from watertight.control import modes
from watertight.control.admin import admin_app
from watertight.control.client import ADMIN_SOCKET, AdminClient
from watertight.control.hanging import Hanging
from watertight.control.keys import kek_for
from watertight.control.plane import ControlPlane
from watertight.control.requests import Options
from watertight.control.store import Store
from watertight.dataplane.binary import envoy_binary
from watertight.errors import WatertightError
from watertight.identity.authority import Authority
from watertight.identity.keeper import SVIDKeeper
from watertight.identity.settings import AuthoritySettings
from watertight.model.system import System
from watertight.runtime.capabilities import detect
from watertight.runtime.files import own_state
from watertight.runtime.layout import Layout, lay_out
from watertight.runtime.lock import AlreadyRunningError, only_one
from watertight.runtime.open_files import ENOUGH_FILES, files_to_open
from watertight.runtime.pods import Machine
from watertight.runtime.runs import all_of, living

log = structlog.get_logger(__name__)

KEY_SETS_EVERY_SECONDS = 60.0
FILES_EVERY_SECONDS = 1.0
PROXIES_EVERY_SECONDS = 30.0
"""Who is silent at two looks in a row hangs, and is ended."""
PODS_EVERY_SECONDS = 1.0
ROOTS_AGAIN_SECONDS = 5.0
MODES_EVERY_SECONDS = 5.0
GC_THRESHOLD = 10_000
"""A plan is hundreds of thousands of small objects that all live: at the default threshold the
collector took two thirds of a compile for 1,000 services."""

Stamp: TypeAlias = tuple[int, int]
"""Of a file: when it was written (ns), and its size."""


@contextlib.contextmanager
def _authority(layout: Layout, system: System, options: Options) -> Iterator[Authority]:
    directory = layout.state / "authority"
    settings = AuthoritySettings(svid_ttl_seconds=options.svid_ttl_seconds)
    with Authority.open_or_create(
        directory, system.trust_domain, kek=kek_for(layout.state), settings=settings
    ) as authority:
        yield authority


async def serve(options: Options, on_sealed: Callable[[Layout], None]) -> None:
    """Brings the system up, calls ``on_sealed``, serves until SIGINT, SIGTERM or a stop request.

    Then, and if coming up fails, nothing is left running. Raises WatertightError.
    """
    loaded = _stamp(options.declaration)
    system = options.load()
    _allow_many_files(options)
    gc.set_threshold(GC_THRESHOLD)
    stopping = _Stopping()
    with (
        stopping.on_signals(),
        _held(options, system) as layout,
        _authority(layout, system, options) as authority,
    ):
        plane = ControlPlane(
            layout,
            SVIDKeeper(authority),
            Machine.here(envoy_binary()),
            svid_ttl_seconds=options.svid_ttl_seconds,
            say=options.say,
        )
        async with plane.endpoint, _background(plane, options, loaded) as background:
            try:
                await stopping.unless_asked(_come_up(plane, system, options))
            except BaseException:
                await _give_up(plane)
                raise
            try:
                async with _admin_api(plane, options, stopping):
                    background.watch()
                    if not stopping.asked:
                        on_sealed(plane.layout)
                    await stopping.wait()
            finally:
                options.say("Stopping.")
                await background.close()  # else a pod that stops would be made anew
                await plane.stop()


@contextlib.contextmanager
def _held(options: Options, system: System) -> Iterator[Layout]:
    """Lays it out under the lock: who stops the same system just now removes its run directory."""
    declaration = options.declaration.resolve()
    with only_one(own_state(declaration.parent)):
        layout = lay_out(declaration, system, detect())
        _refuse_beside_another(layout)
        yield layout


def _refuse_beside_another(layout: Layout) -> None:
    """Of those whom the lock does not know. Raises WatertightError."""
    process = AdminClient(layout.run / ADMIN_SOCKET).pid()
    if process is not None:  # and `.watertight` was removed, and the lock with it
        raise AlreadyRunningError(layout.state, str(process))
    for run in all_of(layout.project):
        if run != layout.run and (left := living(run)):
            raise WatertightError(
                f"An earlier run of this folder left {', '.join(left)} running, in {run}.",
                remedy="`watertight down` ends them.",
            )


def _say_who_is_revoked(plane: ControlPlane, options: Options) -> None:
    """A revocation outlives the system, and whoever starts it may not know of it."""
    for name in sorted(plane.revoked & set(plane.declared.workloads())):
        options.say(
            f"{name} is still revoked: it gets no identity and no channel. "
            f"`watertight restore {name}` takes that back."
        )


def _allow_many_files(options: Options) -> None:
    """Each connection costs its proxy two descriptors, and each proxy costs us a few.

    What is started inherits the bound, and a proxy that has none left hangs.
    """
    if (files := files_to_open()) < ENOUGH_FILES:
        options.say(
            f"Only {files} files may be open at once in a process (`ulimit -Hn`), so each proxy "
            f"takes fewer connections. Raise it to {ENOUGH_FILES} (LimitNOFILE= of systemd)."
        )


async def _give_up(plane: ControlPlane) -> None:
    """What was running before us runs on, as it was; what we started ends."""
    if plane.adopted:
        await plane.close()
        plane.supervisor.leave()
    else:
        await plane.stop()


async def _come_up(plane: ControlPlane, system: System, options: Options) -> None:
    store = Store(plane.layout.state)
    previous = store.current()
    with contextlib.suppress(OSError):  # who takes over finds it full, maybe
        store.set_aside(system)
    # Where nothing is known of what runs, nothing of it can be taken over: it is swept away.
    adopted = await plane.adopt(previous or System(system.trust_domain))
    if adopted:
        options.say(f"Took over {', '.join(adopted)}.")
    await _apply(plane, system)
    _say_who_is_revoked(plane, options)


class _Stopping:
    """Whether somebody asked us to stop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def asked(self) -> bool:
        return self._event.is_set()

    def ask(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP ask to stop; the first is enough, and more change nothing."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, self.ask)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def unless_asked(self, work: Coroutine[None, None, None]) -> None:
        """Does the work, or drops it as soon as somebody asks us to stop."""
        doing = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self._event.wait())
        await asyncio.wait((doing, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not doing.done():
            doing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doing


class _Background:
    """Loops that run beside the main flow; a failure of one never ends the others."""

    def __init__(self, plane: ControlPlane, options: Options, loaded: Stamp) -> None:
        """``loaded``: of the declaration that is in force; a change since then is a change."""
        self._plane = plane
        self._options = options
        self._seen = loaded
        self._tasks: list[asyncio.Task[None]] = []
        self._start(plane.keeper.run())
        self._start(plane.secrets.run())
        self._start(plane.servers.run())
        self._start(self._publish_roots())

    def watch(self) -> None:
        """Looks after files and key sets, once the system is up."""
        self._start(self._watch_pods())
        self._start(self._watch_proxies())
        self._start(self._watch_key_sets())
        self._start(self._watch_files())
        self._start(self._watch_modes())

    async def close(self) -> None:
        """Ends every loop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, loop: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(loop)
        task.add_done_callback(_log_failure)
        self._tasks.append(task)

    async def _publish_roots(self) -> None:
        """For clients outside (``curl --cacert``), also of a root that does not sign yet."""
        store, version = Store(self._plane.layout.state), self._plane.keeper.version
        while True:
            try:
                store.set_roots(self._plane.keeper.bundle().pem())
            except OSError as error:
                log.warning("roots_not_published", reason=error.strerror)
                await asyncio.sleep(ROOTS_AGAIN_SECONDS)
                continue
            version = await self._plane.keeper.changed(version)

    async def _watch_pods(self) -> None:
        """An init that died took its service with it; nobody else would bring that back."""
        while True:
            await asyncio.sleep(PODS_EVERY_SECONDS)
            try:
                for name in await self._plane.mend():
                    log.warning("pod_made_anew", pod=name)
            except (WatertightError, OSError) as error:
                log.warning("pod_not_mended", reason=str(error))

    async def _watch_proxies(self) -> None:
        hanging = Hanging.of(self._plane)
        while True:
            await asyncio.sleep(PROXIES_EVERY_SECONDS)
            try:
                for name in await hanging.look():
                    log.warning("hanging_proxy_ended", workload=name)
            except (WatertightError, OSError) as error:
                log.warning("hanging_proxy_not_ended", reason=str(error))

    async def _watch_key_sets(self) -> None:
        while True:
            await asyncio.sleep(KEY_SETS_EVERY_SECONDS)
            try:
                await self._plane.refresh_keys()
            except (WatertightError, OSError) as error:
                log.warning("key_sets_not_applied", reason=str(error))

    async def _watch_modes(self) -> None:
        while True:
            await asyncio.sleep(MODES_EVERY_SECONDS)
            await asyncio.to_thread(modes.mend, self._plane.layout)

    async def _watch_files(self) -> None:
        """The gateway's certificate always; the declaration too if so asked."""
        while True:
            await asyncio.sleep(FILES_EVERY_SECONDS)
            with contextlib.suppress(OSError):  # of a disk that is full
                self._options.tidy()
            self._reload_certificate()
            stamp = _stamp(self._options.declaration)
            if not self._options.watch or stamp == self._seen:
                continue
            self._seen = stamp
            try:
                await reload(self._plane, self._options)
                self._options.say("Applied the changed declaration.")
            except (WatertightError, OSError) as error:
                self._options.say(f"Not applied, the last good one stays in force:\n{error}")

    def _reload_certificate(self) -> None:
        certificate = self._plane.secrets.certificate
        try:
            if certificate is not None and certificate.reload():
                self._plane.secrets.push()
        except WatertightError as error:
            log.warning("gateway_certificate_not_reloaded", reason=str(error))


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:  # an editor between two steps of saving
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("loop_failed", exc_info=error)


@contextlib.asynccontextmanager
async def _background(
    plane: ControlPlane, options: Options, loaded: Stamp
) -> AsyncIterator[_Background]:
    background = _Background(plane, options, loaded)
    try:
        yield background
    finally:
        await background.close()


async def reload(plane: ControlPlane, options: Options) -> System:
    """Reads the declaration and applies it. Raises WatertightError; then nothing has changed."""
    system = options.load()
    if system.trust_domain != plane.declared.trust_domain:
        raise WatertightError(
            f"The trust domain cannot change from {plane.declared.trust_domain} to "
            f"{system.trust_domain} while the system runs.",
            remedy="Stop it, remove .watertight/authority, and start it again.",
        )
    await _apply(plane, system)
    return system


async def _apply(plane: ControlPlane, system: System) -> None:
    """Applies, and remembers what is in force then, also if an app does not come up in it."""
    try:
        await plane.apply(system)
    finally:
        Store(plane.layout.state).set_current(plane.declared)
    await plane.servers.catch_up()
    for name, lines in (await plane.servers.waiting()).items():
        for line in lines:
            plane.say(f"{name}: {line}.")


class _UvicornWithoutSignals(uvicorn.Server):
    """Signals are ours: one Ctrl-C stops the system, not only its API."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _admin_api(
    plane: ControlPlane, options: Options, stopping: _Stopping
) -> AsyncIterator[None]:
    path = plane.layout.run / ADMIN_SOCKET
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen()  # who is told that all is sealed may ask at once
    finally:
        os.umask(umask)
    app = admin_app(plane, reload=lambda: reload(plane, options), stop=stopping.ask)
    config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False)
    server = _UvicornWithoutSignals(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        path.unlink(missing_ok=True)
