"""A real Envoy gets its secrets at the identity door, and picks up every rotation (S4, S6, S7)."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.identity.serving import envoy
from tests.identity.serving.authority import (
    TRUST_DOMAIN,
    Identities,
    new_issuer,
    new_root,
    new_svid,
)
from tests.identity.serving.envoy import GREETING, Envoy
from tests.identity.serving.polling import eventually_async

CALLER = f"spiffe://{TRUST_DOMAIN}/payments"
NAMES = [("default", "ROOTCA"), (f"spiffe://{TRUST_DOMAIN}/orders", "ALL")]


@pytest.fixture(params=NAMES, ids=["default-ROOTCA", "id-ALL"])
async def proxy(request: pytest.FixtureRequest, door: Path, short: Path) -> AsyncIterator[Envoy]:
    """An Envoy of ``orders`` that serves ``payments``."""
    certificate, roots = (envoy.from_door(name) for name in request.param)
    configuration = envoy.bootstrap(short, door, certificate, roots, CALLER)
    async with envoy.running(short, configuration) as running:
        yield running


async def updates(proxy: Envoy) -> int:
    counters = await proxy.statistics("ssl_context_update_by_sds")
    return sum(counters.values())


async def test_envoy_serves_with_its_svid_and_follows_a_rotation(
    proxy: Envoy, identities: Identities
) -> None:
    caller = identities.svids["payments"]
    await eventually_async(lambda: _greeted(proxy, identities))
    said, presented = await proxy.greets(caller, identities.bundle().pem())
    assert (said, presented) == (GREETING, identities.svids["orders"].leaf)

    before = await updates(proxy)
    renewed = identities.rotate_leaf("orders")
    await eventually_async(lambda: _updated(proxy, before))
    assert (await proxy.greets(caller, identities.bundle().pem()))[1] == renewed.leaf

    identities.rotate_root()
    await eventually_async(lambda: _greeted(proxy, identities))
    # Callers with the old root's SVIDs are still served: both roots are in the bundle.
    assert (await proxy.greets(caller, identities.bundle().pem()))[0] == GREETING
    rejected = await proxy.statistics("sds.*update_rejected")
    assert rejected
    assert not any(rejected.values())


async def _greeted(proxy: Envoy, identities: Identities) -> bool:
    """Whether the newest SVIDs on both sides work."""
    try:
        said, presented = await proxy.greets(
            identities.svids["payments"], identities.bundle().pem()
        )
    except OSError:
        return False
    return said == GREETING and presented == identities.svids["orders"].leaf


async def _updated(proxy: Envoy, before: int) -> bool:
    return await updates(proxy) > before


async def test_envoy_refuses_whom_the_secrets_do_not_vouch_for(
    proxy: Envoy, identities: Identities
) -> None:
    """The same listener says no: to the right CA's wrong name, and the right name of a wrong CA."""
    await eventually_async(lambda: _greeted(proxy, identities))
    roots = identities.bundle().pem()
    for stranger in (identities.svids["orders"], new_svid(new_issuer(new_root()), "payments")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await proxy.greets(stranger, roots)
