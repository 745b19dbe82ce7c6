"""The gateway shows a certificate from a file: what is verified is that chain, and the name."""

from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from tests.mesh import running_mesh
from tests.verify.live import arena_over
from watertight.attack.probe import Probe, Verdict
from watertight.dataplane.attacks.gateway import probes
from watertight.model.system import Gateway, Listen, Protocol, Route, Service, System
from watertight.verify.prover import prove

CHAIN = Path("chain.pem")
SYSTEM = System(
    "shop.test",
    {"storefront": Service("storefront", listens=Listen(Protocol.HTTP, 8000))},
    gateway=Gateway("shop.example", (Route("/", "storefront"),)),
)


def certificate_probe(system: System) -> Probe:
    assert system.gateway is not None
    from_file = replace(system.gateway, certificate=str(CHAIN), private_key="key.pem")
    named = replace(system, gateway=from_file)
    return next(p for p in probes(named) if p.id == "gateway.certificate")


async def test_a_chain_without_its_root_vouches_for_itself(tmp_path: Path) -> None:
    """As public authorities hand them out."""
    async with running_mesh(SYSTEM, project=tmp_path) as mesh, arena_over(mesh) as arena:
        probe = certificate_probe(mesh.system)
        shown = mesh.gateway_certificate["tls_certificate"]["certificate_chain"]["inline_string"]
        (tmp_path / CHAIN).write_text(shown)
        (held,) = (await prove(arena, [probe])).results
        assert held.verdict is Verdict.HELD, held
        foreign = arena.forger.foreign_authority.public_bytes(Encoding.PEM)
        (tmp_path / CHAIN).write_bytes(foreign)
        (broken,) = (await prove(arena, [probe])).results
        assert broken.verdict is Verdict.BROKEN, broken
