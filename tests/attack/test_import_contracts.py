"""The contract that holds attackers and kinds of servers says no to what it does not name."""

import pytest
from grimp import ImportGraph

from tools.import_contracts import OnlyContract

ALLOWED = "house.attack"
SOURCES = ["house.servers.*.attacks"]


def contract() -> OnlyContract:
    return OnlyContract(
        name="attackers",
        session_options={"root_packages": ["house"]},
        contract_options={
            "source_modules": SOURCES,
            "allowed_modules": [ALLOWED],
            "allowed_beside": ["declaration"],
        },
    )


@pytest.mark.parametrize(
    ("imported", "kept"),
    [
        ("house.attack.wire", True),
        ("house.servers.one.declaration", True),
        ("house.servers.one.attacks.session", True),
        ("os", True),
        ("house.servers.one.compile", False),
        ("house.servers.two.declaration", False),
        ("house.servers.one.declarations", False),
    ],
)
def test_only_what_it_names_may_be_imported(imported: str, kept: bool) -> None:
    graph = ImportGraph()
    for module in (ALLOWED, "house", "house.servers", "house.servers.one.attacks"):
        graph.add_module(module)
    attacker = "house.servers.one.attacks.grants"
    graph.add_import(importer=attacker, imported=imported)
    found = contract().check(graph, verbose=False)
    assert found.kept is kept
    assert found.metadata["broken"] == ([] if kept else [f"{attacker} imports {imported}"])
