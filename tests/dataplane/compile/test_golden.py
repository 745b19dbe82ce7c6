"""The plan of a whole shop, readable: a change of the compiler shows as a diff of these files.

``WATERTIGHT_UPDATE_GOLDEN=1 pytest tests/dataplane/compile/test_golden.py`` writes them anew.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dataplane.compile.systems import KEYS, PLACEMENT, SHOP
from watertight.dataplane.compile import compile_envoy
from watertight.dataplane.resources import ProxyPlan

GOLDEN = Path(__file__).parent / "golden"
PLAN = compile_envoy(SHOP, PLACEMENT, KEYS)


def readable(proxy: ProxyPlan) -> str:
    """One proxy's resources, in order, each with the line that it comes from."""
    shown: list[dict[str, Any]] = [
        {"resource": f"{resource.type.name} {resource.name}", "at": str(resource.at)}
        | {"body": {k: v for k, v in resource.body.items() if k != "name"}}
        for resource in proxy.resources
    ]
    # Through JSON-like copies: YAML anchors for shared parts would hide what is sent.
    return yaml.dump(shown, Dumper=_Plain, sort_keys=False, width=100)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize("workload", sorted(PLAN.proxies))
def test_the_plan_is_as_it_was(workload: str) -> None:
    path = GOLDEN / f"{workload}.yaml"
    now = readable(PLAN.proxies[workload])
    if os.environ.get("WATERTIGHT_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(now)
    assert now == path.read_text()


def test_the_bootstrap_is_as_it_was() -> None:
    path = GOLDEN / "bootstrap.yaml"
    now = yaml.dump(PLAN.proxies["orders"].bootstrap, Dumper=_Plain, sort_keys=False, width=100)
    if os.environ.get("WATERTIGHT_UPDATE_GOLDEN"):
        path.write_text(now)
    assert now == path.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*PLAN.proxies, "bootstrap"}
