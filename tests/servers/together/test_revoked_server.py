"""The identity of a server is revoked: nobody reaches it, and everything else goes on."""

import pytest

from tests.folders import public_folder
from tests.planes import probes_of, proven, sealed
from watertight.attack.probe import Verdict
from watertight.control.plane import ControlPlane
from watertight.control.revocation import restore, revoke
from watertight.control.status import snapshot

SYSTEM = """
trust_domain: shop.internal
services:
  web: {{run: [sleep, "3600"]}}
resources:
  server: {server}
channels:
  - {{from: web, to: server, {grant}}}
"""
KINDS = {
    "nats": ("{kind: nats, streams: {ORDERS: [orders.>]}}", "publish: [orders.placed]"),
    "postgresql": (
        "{kind: postgresql, database: shop, schema: schema.sql}",
        "tables: {sales: [select]}",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_is_revoked_and_trusted_again(kind: str) -> None:
    server, grant = KINDS[kind]
    with public_folder() as directory:
        declaration = directory / "watertight.yaml"
        declaration.write_text(SYSTEM.format(server=server, grant=grant))
        (directory / "schema.sql").write_text("create table sales (id int);\n")
        async with sealed(declaration) as plane:
            await revoke(plane, "server")
            await _nobody_is_let_in(plane)
        async with sealed(declaration) as plane:  # it is still revoked, and keeps nobody waiting
            await _nobody_is_let_in(plane)
            await restore(plane, "server")
            assert "use" in await _all_holds(plane)


async def _nobody_is_let_in(plane: ControlPlane) -> None:
    seen = await snapshot(plane)
    assert seen["drift"] == seen["waiting"] == {}
    assert "use" not in await _all_holds(plane)


async def _all_holds(plane: ControlPlane) -> set[str]:
    """The kinds of the probes that did."""
    probes = probes_of(plane, ("envoy", plane.declared.resources["server"].kind))
    results = await proven(plane, probes)
    assert {r.id: r.observed for r in results if r.verdict is not Verdict.HELD} == {}
    return {probe.kind for probe in probes}
