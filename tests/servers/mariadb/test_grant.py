"""Grants at a server that others run: what channels say, and nothing else is touched."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.gateway.certified import certified
from tests.sdk.process import Running
from tests.sdk.servers import mariadb, program
from tests.sdk.world import living_world
from tests.servers.mariadb.shop import SCHEMA, SHOP
from watertight.enforcers.resource import AdminRefused, ServerRefused
from watertight.errors import WatertightError
from watertight.model.load import load_text
from watertight.servers.mariadb.elsewhere import PASSWORD
from watertight.servers.mariadb.server import MariaDB

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(program("mariadbd") is None, reason="needs MariaDB"),
]
SYSTEM = load_text(
    SHOP.replace("{port}", "3306").replace("schema: schema.sql", "external: localhost")
)
DROP = (
    "grant billing % table shop bills: privileges is 'drop, insert, select' and not "
    "'insert, select'"
)
THEIRS = """
CREATE USER partner@'%' IDENTIFIED BY 'secret';
CREATE DATABASE theirs;
GRANT SELECT ON theirs.* TO partner@'%';
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Somebody's server, with a certificate that others have signed."""
    async with living_world() as world:
        credentials = world.base / "theirs"
        credentials.mkdir(0o755)
        certificate, key, ca = certified("localhost")
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for name, data in (
            ("certificate", certificate.public_bytes(Encoding.PEM)),
            ("bundle", ca.public_bytes(Encoding.PEM)),
            ("private_key", private),
        ):
            (credentials / f"{name}.pem").write_bytes(data)
            (credentials / f"{name}.pem").chmod(0o644)
        async with mariadb(world, credentials) as running:
            await sql(running, f"USE shop; {SCHEMA}; {THEIRS}")
            yield running


async def sql(server: Running, text: str) -> str:
    """As its administrator, on the spot."""
    by = ("--user=admin", "--password=admin", f"--socket={server.directory / 's'}")
    more = ("--batch", "--skip-column-names")
    return await server.run("mariadb", *by, *more, stdin=text.encode())


def admin(server: Running, *, host: str = "localhost") -> str:
    return f"mysql://admin@{host}:{server.port}?ca={server.directory.parent / 'theirs/bundle.pem'}"


async def grant(where: str, *, dry_run: bool = False) -> set[str]:
    return set(await MariaDB().grant(SYSTEM, SYSTEM.resources["store"], where, dry_run=dry_run))


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "admin")


async def test_an_administrator_grants_what_channels_say_and_touches_nothing_else(
    server: Running,
) -> None:
    wanted = {
        *(f"account {name} % is missing" for name in ("orders", "billing", "lobby")),
        "grant billing % column shop orders total is missing",
        "grant billing % table shop totals is missing",
        "grant billing % table shop bills is missing",
        "grant orders % table shop open_orders is missing",
        "grant orders % table shop orders is missing",
    }
    await sql(server, "DROP USER orders@'127.0.0.1'")
    assert await grant(admin(server), dry_run=True) == wanted
    assert await grant(admin(server)) == wanted
    assert await grant(admin(server)) == set()
    await sql(server, "GRANT DROP ON shop.bills TO billing@'%'; GRANT SELECT ON *.* TO lobby@'%'")
    assert await grant(admin(server)) == {
        "account lobby %: access is '1' and not set",
        DROP,
    }
    assert "theirs" in await sql(server, "SHOW GRANTS FOR partner@'%'")
    required = await sql(server, "SHOW GRANTS FOR orders@'%'")
    assert "REQUIRE SUBJECT '/O=shop.internal/OU=services/CN=orders'" in required


async def test_an_account_that_comes_before_ours_is_told(server: Running) -> None:
    """A server takes the account with the nearest host, and that one may ask for less."""
    await sql(server, "CREATE USER orders@'10.0.0.1' IDENTIFIED BY 'x'")
    try:
        assert await grant(admin(server), dry_run=True) == {"it has the account orders at 10.0.0.1"}
        with pytest.raises(ServerRefused, match=r"it has the account orders at 10\.0\.0\.1"):
            await grant(admin(server))
    finally:
        await sql(server, "DROP USER orders@'10.0.0.1'")


async def test_a_server_that_cannot_prove_its_name_is_told_nothing(server: Running) -> None:
    with pytest.raises(WatertightError, match=r"(?i)certificate|ssl"):
        await grant(admin(server, host="127.0.0.1"))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("host=localhost user=admin", "no way to a server"),
        ("mysql://admin@localhost", "no way to a server"),
        ("mysql://localhost?ca=x", "no way to a server"),
        ("mysql://admin@localhost/shop?ca=x", "no way to a server"),
        ("mysql://admin@localhost?ca=x&ssl=0", "no way to a server"),
        ("mysql://admin:secret@localhost?ca=x", "seen by everybody"),
        ("mysql://admin@localhost:x?ca=x", "no URL"),
        ("mysql://admin@localhost?ca=/nowhere", "no file /nowhere"),
    ],
)
async def test_an_administrator_who_cannot_be_is_refused(where: str, said: str) -> None:
    with pytest.raises(AdminRefused, match=said):
        await grant(where)
