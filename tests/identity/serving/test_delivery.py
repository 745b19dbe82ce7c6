"""Software that only reads files follows every rotation, or we know why it does not."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509

from tests.identity.serving import envoy
from tests.identity.serving.authority import TRUST_DOMAIN, Clock, Identities
from tests.identity.serving.polling import eventually, eventually_async
from watertight.identity.credential_files import DeliveryError
from watertight.identity.delivery import FileDelivery
from watertight.identity.reload import ReloadFailed, ReloadHook

_SIGNAL = "import os, signal, sys; os.kill(int(sys.argv[1]), signal.SIGHUP)"


@asynccontextmanager
async def running(delivery: FileDelivery) -> AsyncIterator[None]:
    """``delivery.run()`` in the background."""
    task = asyncio.get_running_loop().create_task(delivery.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def hup_server(directory: Path, path: Path) -> AsyncIterator[int]:
    """The pid of a server that reads its files again on SIGHUP only."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("hup_server.py")),
        str(directory / "current"),
        str(path),
    )
    try:
        await eventually(path.is_socket)
        yield process.pid
    finally:
        process.kill()
        await process.wait()


async def presented(path: Path, identities: Identities) -> x509.Certificate | None:
    """The certificate that a server shows to ``payments``; None while it does not answer."""
    try:
        said, certificate = await envoy.greeted_by(
            path, identities.svids["payments"], identities.bundle().pem()
        )
    except OSError:
        return None
    return certificate if said == envoy.GREETING else None


async def test_a_server_that_must_be_told_is_told(identities: Identities, short: Path) -> None:
    first = FileDelivery(identities, "orders", short / "tls")
    assert await first.deliver()

    async def shows_newest() -> bool:
        shown = await presented(short / "server.sock", identities)
        return shown == identities.svids["orders"].leaf

    async with hup_server(short / "tls", short / "server.sock") as pid:
        await eventually_async(shows_newest)  # its socket is there before it listens
        identities.rotate_leaf("orders")
        assert await first.deliver()
        assert not await shows_newest()  # The files alone do nothing for such a server.

        hook = ReloadHook((sys.executable, "-c", _SIGNAL, str(pid)))
        delivery = FileDelivery(identities, "orders", short / "tls", hook)
        async with running(delivery):
            await eventually_async(shows_newest)
            identities.rotate_root()
            await eventually_async(shows_newest)
        assert delivery.failure is None


async def test_envoy_follows_the_swap_by_itself(identities: Identities, short: Path) -> None:
    """As Envoy's ``watched_directory`` wants it: the link's directory sees one move."""
    delivery = FileDelivery(identities, "orders", short / "tls")
    assert await delivery.deliver()
    caller = f"spiffe://{TRUST_DOMAIN}/payments"
    secrets = envoy.from_files(short, short / "tls")
    configuration = envoy.bootstrap(short, short / "none.sock", *secrets, caller)

    async def shows_newest() -> bool:
        shown = await presented(short / "mtls.sock", identities)
        return shown == identities.svids["orders"].leaf

    async with envoy.running(short, configuration), running(delivery):
        await eventually_async(shows_newest)
        identities.rotate_leaf("orders")
        await eventually_async(shows_newest)
        identities.rotate_root()
        await eventually_async(shows_newest)


async def test_a_failed_reload_is_reported_and_tried_again(
    identities: Identities, short: Path
) -> None:
    """It fails until ``ready`` exists; nothing about the identity changes meanwhile."""
    ready, done = short / "ready", short / "done"
    code = (
        "import pathlib, sys\n"
        "if not pathlib.Path(sys.argv[1]).exists(): sys.exit('not ready')\n"
        "pathlib.Path(sys.argv[2]).touch()"
    )
    hook = ReloadHook((sys.executable, "-I", "-c", code, str(ready), str(done)))
    delivery = FileDelivery(identities, "orders", short / "tls", hook)
    async with running(delivery):
        await eventually(lambda: isinstance(delivery.failure, ReloadFailed))
        assert "not ready" in str(delivery.failure)
        assert (short / "tls" / "current" / "combined.pem").is_file()
        ready.touch()
        await eventually(lambda: delivery.failure is None)
    assert done.exists()


async def test_a_change_of_others_reloads_nothing(identities: Identities, short: Path) -> None:
    code = "import sys; open(sys.argv[1], 'a').write('x')"
    hook = ReloadHook((sys.executable, "-I", "-c", code, str(short / "reloads")))
    delivery = FileDelivery(identities, "orders", short / "tls", hook)
    reloads = short / "reloads"
    async with running(delivery):
        await eventually(lambda: identities.waits == 1)
        identities.rotate_leaf("payments")
        await eventually(lambda: identities.waits == 2)
        assert reloads.read_text() == "x"
        identities.rotate_leaf("orders")
        await eventually(lambda: identities.waits == 3)
        assert reloads.read_text() == "xx"


async def test_losing_the_identity_takes_the_files(identities: Identities, short: Path) -> None:
    delivery = FileDelivery(identities, "orders", short / "tls")
    async with running(delivery):
        await eventually((short / "tls" / "current" / "combined.pem").is_file)
        identities.revoke("orders")
        await eventually(lambda: not list((short / "tls").iterdir()))
    assert delivery.failure is None
    assert not await delivery.deliver()


async def test_an_svid_that_ended_before_the_next_came_leaves_the_files(
    identities: Identities, short: Path
) -> None:
    """Who restarts meanwhile still finds something to start with."""
    clock = Clock()
    combined = short / "tls" / "current" / "combined.pem"
    delivery = FileDelivery(identities, "orders", short / "tls", now=clock)
    assert await delivery.deliver()
    before = combined.read_bytes()
    identities.lapse("orders", clock)
    assert not await delivery.deliver()
    assert combined.read_bytes() == before
    renewed = identities.rotate_leaf("orders")
    assert await delivery.deliver()
    assert renewed.chain_pem() in combined.read_bytes()


async def test_a_new_run_takes_no_files_before_it_has_seen_an_svid(
    identities: Identities, short: Path
) -> None:
    """The authority may be slower than we are; who knows of a revocation calls ``withdraw``."""
    assert await FileDelivery(identities, "orders", short / "tls").deliver()
    identities.revoke("orders")
    restarted = FileDelivery(identities, "orders", short / "tls")
    assert not await restarted.deliver()
    assert (short / "tls" / "current" / "combined.pem").is_file()
    await restarted.withdraw()
    assert not list((short / "tls").iterdir())


async def test_files_that_cannot_be_written_are_reported_and_tried_again(
    identities: Identities, short: Path
) -> None:
    (short / "tls").touch()
    delivery = FileDelivery(identities, "orders", short / "tls")
    with pytest.raises(DeliveryError, match="cannot be written"):
        await delivery.deliver()
    async with running(delivery):
        await eventually(lambda: isinstance(delivery.failure, DeliveryError))
        (short / "tls").unlink()
        await eventually(lambda: delivery.failure is None)
    assert (short / "tls" / "current" / "combined.pem").is_file()


async def test_the_reload_is_repeated_by_the_next_run(identities: Identities, short: Path) -> None:
    """A crash may fall between the swap and the reload: a new run reloads once, unasked."""
    assert await FileDelivery(identities, "orders", short / "tls").deliver()
    code = "import sys; open(sys.argv[1], 'x')"
    hook = ReloadHook((sys.executable, "-I", "-c", code, str(short / "reloaded")))
    async with running(FileDelivery(identities, "orders", short / "tls", hook)):
        await eventually((short / "reloaded").exists)
