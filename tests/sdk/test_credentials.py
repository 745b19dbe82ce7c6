"""The newest files that match are used, and never a mixture; bad ones leave the good in use."""

import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sdk.world import World
from watertight.sdk import CredentialsUnusable
from watertight.sdk.credentials import Credentials
from watertight.sdk.endpoints import Endpoint

FILES = ("certificate.pem", "private_key.pem", "bundle.pem")


@pytest.fixture
async def endpoint(world: World) -> Endpoint:
    """A channel."""
    return world.open("orders-db", "postgresql", 5432)


def swap(world: World, *sources: Path) -> Path:
    """Makes a new current set of the files of others: certificate, key, bundle."""
    directory = world.credentials("orders").parent
    made = directory / "sets" / f"by-hand-{len(list((directory / 'sets').iterdir()))}"
    made.mkdir()
    for name, source in zip(FILES, sources, strict=True):
        shutil.copy2(source / name, made / name)
    link = directory / ".new"
    link.symlink_to(made)
    link.replace(directory / "current")
    return made


async def test_nothing_is_loaded_twice(endpoint: Endpoint) -> None:
    credentials = Credentials(endpoint)
    assert credentials.current() is credentials.current()


async def test_a_new_svid_is_used_at_once(world: World, endpoint: Endpoint) -> None:
    credentials = Credentials(endpoint)
    before = credentials.current()
    await world.rotate("orders")
    after = credentials.current()
    assert after.directory == world.credentials("orders").resolve() != before.directory
    assert after.context is not before.context
    assert after is credentials.current()


async def test_a_file_that_is_replaced_in_place_is_seen(world: World, endpoint: Endpoint) -> None:
    """Others may deliver without our link: what counts is what stands there."""
    plain = world.base / "plain"
    plain.mkdir()
    for name in FILES:
        shutil.copy2(world.credentials("orders") / name, plain / name)
    world.write()
    credentials = Credentials(endpoint)
    before = credentials.current()
    os.utime(world.credentials("orders") / "bundle.pem", ns=(1, 1))
    assert credentials.current() is not before


@pytest.mark.parametrize("bad", ["mixed", "no key", "no bundle", "garbage", "withdrawn"])
async def test_bad_files_are_kept_out(
    world: World, endpoint: Endpoint, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    credentials, ours = Credentials(endpoint), world.credentials("orders")
    good, other = credentials.current(), world.credentials("billing")
    if bad == "mixed":
        swap(world, ours, other, ours)
    elif bad == "withdrawn":
        shutil.rmtree(ours.parent)
    else:
        made = swap(world, other, other, other)
        name = {"no key": "private_key.pem", "no bundle": "bundle.pem"}.get(bad, "certificate.pem")
        (made / name).unlink()
        if bad == "garbage":
            (made / name).write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    with caplog.at_level(logging.WARNING, "watertight.sdk"):
        for _ in range(3):
            assert credentials.current() is good
    assert [record.name for record in caplog.records] == ["watertight.sdk"]
    with pytest.raises(CredentialsUnusable, match="watertight status"):
        Credentials(endpoint).current()
    world.deliver("orders")
    assert credentials.current() is not good


async def test_the_error_holds_no_key(world: World, endpoint: Endpoint) -> None:
    swap(world, *[world.credentials(name) for name in ("orders", "billing", "orders")])
    with pytest.raises(CredentialsUnusable, match="KEY_VALUES_MISMATCH") as caught:
        Credentials(endpoint).current()
    assert "PRIVATE" not in str(caught.value)


async def test_a_swap_in_between_is_never_a_mixture(
    world: World, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Two threads take the current set over and over while it is swapped thirty times."""
    credentials, done = Credentials(endpoint), threading.Event()

    def take() -> int:
        taken = set()
        while not done.is_set():
            taken.add(credentials.current().directory)
        return len(taken)

    with ThreadPoolExecutor(2) as pool:
        takers = [pool.submit(take) for _ in range(2)]
        try:
            for _ in range(30):
                await world.rotate("orders")
        finally:
            done.set()
        assert all(taker.result() > 10 for taker in takers)
    assert caplog.records == []
