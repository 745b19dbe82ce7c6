"""Envoy's own opinion of a plan, before any proxy sees it: ``envoy --mode validate``.

The plan is rendered as one static configuration: what would come by ADS stands in it. Two things
it cannot tell: whether files and sockets exist, and whether a peer will answer.
"""

import copy
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from watertight.dataplane.binary import envoy_binary
from watertight.dataplane.resources import ProxyPlan, ResourceType
from watertight.errors import ExitCode, WatertightError
from watertight.model.system import NOWHERE, Position

TIMEOUT_SECONDS = 60.0
_LONGEST_DETAIL = 600
_CONSTRAINT = "Proto constraint validation failed"
_CONFIGURATION = re.compile(r"^.*?error initializing config(?:uration)? '[^']*':\s*", re.DOTALL)


class PlanRefused(WatertightError):
    """Envoy does not accept a proxy's plan; ``detail`` is what it said."""

    exit_code = ExitCode.FOUND_WRONG

    def __init__(self, workload: str, detail: str, at: Position) -> None:
        super().__init__(
            f"{at}: Envoy refuses the configuration of `{workload}`: {detail}",
            remedy="This is a defect of the compiler: please report it with this message.",
        )
        self.workload = workload
        self.detail = detail
        self.at = at


def render(plan: ProxyPlan, secrets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The plan as one static bootstrap that needs no control plane.

    ``secrets``: SDS name → body of the Secret, as ``identity.sds`` makes them.
    """
    body = copy.deepcopy(dict(plan.bootstrap))
    body.pop("dynamic_resources", None)
    static = body.setdefault("static_resources", {})
    named = {
        kind: {r.name: r.body for r in plan.resources if r.type is kind} for kind in ResourceType
    }
    static["secrets"] = [copy.deepcopy(dict(secret)) for secret in secrets.values()]
    static.setdefault("clusters", []).extend(_bodies(plan, ResourceType.CLUSTER))
    static["listeners"] = _bodies(plan, ResourceType.LISTENER)
    for part in (static["listeners"], static["clusters"]):
        _inline(part, named)
    return body


def validate(plan: ProxyPlan, secrets: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises :class:`PlanRefused` unless Envoy accepts every resource of the plan."""
    with tempfile.TemporaryDirectory(prefix="watertight-validate-") as directory:
        config = Path(directory) / "envoy.json"
        # Secrets may stand in it: made for the owner only, gone with the directory.
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(render(plan, secrets), file)
        answer = subprocess.run(
            [envoy_binary(), "--mode", "validate", "-l", "error", "-c", config],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            start_new_session=True,  # ^C is for us to answer
        )
    if answer.returncode != 0:
        raise PlanRefused(plan.workload, _detail(answer), _position(plan, answer.stderr))


def _bodies(plan: ProxyPlan, kind: ResourceType) -> list[Any]:
    return [copy.deepcopy(dict(r.body)) for r in plan.resources if r.type is kind]


def _inline(node: Any, named: Mapping[ResourceType, Mapping[str, Any]]) -> None:
    """Puts routes, filters and secrets where a subscription by ADS stands."""
    for owner in _mappings(node):
        rds = owner.get("rds")
        if rds is not None and rds["route_config_name"] in named[ResourceType.ROUTE]:
            del owner["rds"]
            owner["route_config"] = named[ResourceType.ROUTE][rds["route_config_name"]]
        if "config_discovery" in owner and owner["name"] in named[ResourceType.EXTENSION]:
            del owner["config_discovery"]
            owner["typed_config"] = named[ResourceType.EXTENSION][owner["name"]]["typed_config"]
        if "sds_config" in owner:
            del owner["sds_config"]


def _mappings(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in list(node.values()):
            yield from _mappings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _mappings(value)


def _detail(answer: subprocess.CompletedProcess[str]) -> str:
    """The reason without the message that Envoy prints before it: secrets may stand in that."""
    if answer.returncode < 0:
        return f"it was ended by {signal.Signals(-answer.returncode).name}."
    text = _CONFIGURATION.sub("", answer.stderr)
    reason = " ".join(text[max(text.rfind(_CONSTRAINT), 0) :].split())
    return f"{reason[:_LONGEST_DETAIL]}." if reason else f"exit status {answer.returncode}."


def _position(plan: ProxyPlan, message: str) -> Position:
    """The line of the resource that Envoy's message names first, else that of the first one.

    A resource's own name comes before those of the ones that it refers to.
    """
    places = {
        place: resource.at
        for resource in plan.resources
        for quoted in (f'"{resource.name}"', f"'{resource.name}'")
        if (place := message.find(quoted)) >= 0
    }
    if places:
        return places[min(places)]
    return plan.resources[0].at if plan.resources else NOWHERE
