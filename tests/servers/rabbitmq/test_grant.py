"""A real broker of somebody else's is given what channels grant, by its management API."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.identity.serving.polling import eventually_async
from tests.ports import free_port
from tests.rig import Rig, running_server
from tests.servers.rabbitmq.shop import SHOP
from watertight.enforcers.resource import AdminRefused, ServerRefused
from watertight.errors import WatertightError
from watertight.model.load import load_text
from watertight.model.system import Resource, System
from watertight.servers.rabbitmq.compile import PLUGINS
from watertight.servers.rabbitmq.control import control, evaluate
from watertight.servers.rabbitmq.elsewhere import PASSWORD
from watertight.servers.rabbitmq.server import RabbitMQ

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENFORCER = RabbitMQ()
ORDERS, SPY = "spiffe://shop.internal/orders", "spiffe://shop.internal/spy"
SECRET = "of the administrator"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(ENFORCER, SHOP) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def admin(rig: Rig) -> str:
    """The broker's management API, and who may use it."""
    port = free_port()
    await evaluate(
        rig.host,
        "application:load(rabbitmq_management)",
        "application:set_env(rabbitmq_management, tcp_config, "
        f'[{{port, {port}}}, {{ip, "127.0.0.1"}}])',
    )
    await enable(rig, GUARDED)
    await control(rig.host, "add_user", "admin", SECRET)
    await control(rig.host, "set_user_tags", "admin", "administrator")
    return f"http://admin@127.0.0.1:{port}"


GUARDED = "[rabbitmq_auth_mechanism_ssl, watertight_guard, rabbitmq_management].\n"


async def enable(rig: Rig, plugins: str) -> None:
    await rig.host.write({**rig.plan.files, PLUGINS: plugins})
    directory = rig.host.placement.server_directory(rig.resource)
    await evaluate(rig.host, f'rabbit_plugins:ensure("{directory / PLUGINS}")')


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, SECRET)


def of_others(text: str = SHOP) -> tuple[System, Resource]:
    """The shop's declaration, in which somebody else runs the broker."""
    elsewhere = text.replace("port: {port}", "external: mq.example")
    system = load_text(elsewhere)
    return system, system.resources["jobs"]


async def test_a_broker_of_others_is_given_what_channels_grant_and_nothing_else(
    rig: Rig, admin: str
) -> None:
    await control(rig.host, "set_permissions", "-p", "jobs", ORDERS, ".*", ".*", ".*")
    await control(rig.host, "clear_topic_permissions", "-p", "jobs", ORDERS)
    await control(rig.host, "add_user", SPY, "x")
    await control(rig.host, "set_permissions", "-p", "jobs", SPY, ".*", ".*", ".*")
    await control(rig.host, "add_user", "others", "x")
    await control(rig.host, "add_vhost", "elsewhere")
    await control(rig.host, "set_permissions", "-p", "elsewhere", ORDERS, ".*", ".*", ".*")
    found = await ENFORCER.grant(*of_others(), admin, dry_run=True)
    assert f"permissions of {SPY} jobs is not declared" in found
    assert f"topic permissions of {ORDERS} jobs events is missing" in found
    assert any(
        line.startswith(f"permissions of {ORDERS} jobs: configure is '.*'") for line in found
    )
    assert set(await ENFORCER.grant(*of_others(), admin)) == set(found)
    assert await ENFORCER.grant(*of_others(), admin) == ()
    # What is not ours stands.
    odd = await rig.enforcer.drift(rig.plan, rig.host)
    assert {line for line in odd if "other settings" not in line} == {
        f"{PLUGINS} was changed by hand",
        "user admin is not declared",
        f"user {SPY} is not declared",
        "virtual host elsewhere is not declared",
        f"permissions of {ORDERS} elsewhere is not declared",
        "user others is not declared",
    }


async def test_a_broker_that_cannot_hold_routing_keys_is_given_nothing(
    rig: Rig, admin: str
) -> None:
    """No grant of keys holds there; where each may publish every key, there is none to hold."""
    await enable(rig, GUARDED.replace(" watertight_guard,", ""))
    try:

        async def seen() -> bool:  # a node tells every few seconds what runs in it
            odd = await ENFORCER.grant(*of_others(), admin, dry_run=True)
            return any("CC and BCC" in line for line in odd)

        await eventually_async(seen)
        with pytest.raises(ServerRefused, match=r"3\.10.* without the plugin watertight_guard"):
            await ENFORCER.grant(*of_others(), admin)
        every = SHOP.replace('[orders.placed, "orders.*.eu"]', '["#"]').replace("billing.#", "#")
        assert any("topic" in line for line in await ENFORCER.grant(*of_others(every), admin))
    finally:
        await enable(rig, GUARDED)

    async def unseen() -> bool:
        return not await seen()

    await eventually_async(unseen)
    await ENFORCER.grant(*of_others(), admin)


async def test_an_exchange_that_was_made_otherwise_is_a_refusal_at_its_line(admin: str) -> None:
    changed = SHOP.replace("events: topic", "events: fanout")
    assert changed != SHOP
    with pytest.raises(ServerRefused, match=r"^watertight\.yaml:\d+:\d+: .*exchange jobs events"):
        await ENFORCER.grant(*of_others(changed), admin)


async def test_who_is_no_administrator_is_told(admin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "another")
    with pytest.raises(WatertightError, match="does not know this administrator"):
        await ENFORCER.grant(*of_others(), admin)
    monkeypatch.delenv(PASSWORD)
    with pytest.raises(AdminRefused, match="There is no password for admin"):
        await ENFORCER.grant(*of_others(), admin)


async def test_nobody_at_the_address_is_told(rig: Rig) -> None:
    with pytest.raises(WatertightError, match="management API of jobs cannot be asked"):
        await ENFORCER.grant(*of_others(), f"http://admin@127.0.0.1:{free_port()}")
    with pytest.raises(WatertightError, match="management API of jobs cannot be asked"):
        await ENFORCER.grant(*of_others(), f"https://admin@127.0.0.1:{rig.host.port}")


@pytest.mark.parametrize(
    ("admin", "says"),
    [
        ("https://admin:secret@mq.example:15671", "seen by everybody"),
        ("http://admin@mq.example:15672", "would be seen on the way"),
        ("https://mq.example:15671", "names no administrator"),
        ("mq.example", "names no administrator"),
        ("https://admin@[::", "no URL"),
    ],
)
async def test_an_administrators_channel_that_is_not_safe_is_refused(admin: str, says: str) -> None:
    with pytest.raises(AdminRefused, match=says) as refused:
        await ENFORCER.grant(*of_others(), admin)
    assert "secret" not in str(refused.value) + refused.value.remedy
