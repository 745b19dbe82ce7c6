"""What runs, as one document: what ``watertight status`` shows."""

import asyncio
import datetime as dt
import os
from pathlib import Path
from typing import Any

from watertight.control import modes
from watertight.control.issuers import facts
from watertight.control.plane import ControlPlane
from watertight.dataplane.admin import (
    ListenerFacts,
    ProxyUnreachable,
    answers,
    listener_facts,
)
from watertight.model.paths import data_path
from watertight.model.system import GATEWAY, Channel

FULL_BYTES = 1024 * 1024
"""With less than this left, a disk is as good as full."""


async def snapshot(plane: ControlPlane) -> dict[str, Any]:
    """Services, channels, authority: facts of this moment."""
    system = plane.declared
    pods = {pod.name: pod for pod in await plane.supervisor.status()}
    versions = plane.deployment.versions()
    failures = plane.keeper.failures()
    workloads = tuple(system.workloads())
    answering = await asyncio.gather(
        *(answers(plane.placement.admin_socket(name)) for name in workloads)
    )
    services = []
    for name, proxy_answers in zip(workloads, answering, strict=True):
        svid = plane.keeper.x509_svid(name)
        pod = pods.get(name)
        services.append(
            {
                "name": name,
                "spiffe_id": system.spiffe_id(name),
                "revoked": name in plane.revoked,
                "svid_expires_at": svid.expires_at if svid else None,
                "svid_expires_in_seconds": _seconds_left(svid.expires_at) if svid else None,
                "renewal_failure": failures.get(name),
                "proxy": {
                    "connected": plane.xds.connected(name),
                    "answers": proxy_answers,
                    "version": versions.get(name),
                },
                "processes": [
                    {
                        "name": process.name,
                        "state": process.state,
                        "restarts": process.restarts,
                        "up_seconds": round(process.up_seconds, 1),
                        "last_exit": process.last_exit,
                        "outdated": list(process.outdated),
                    }
                    for process in (pod.processes if pod else ())
                ],
            }
        )
    begun = plane.changing.begun
    drift = await _drift(plane)
    if changing := plane.changing.what or (begun != plane.changing.begun and "just now"):
        drift = {}  # half a change is none
    channels = await asyncio.gather(*(_channel(plane, channel) for channel in system.channels))
    return {
        "trust_domain": system.trust_domain,
        "isolation": plane.layout.capabilities.isolation,
        "finding": plane.layout.capabilities.finding,
        "budget_finding": plane.layout.capabilities.budget_finding,
        "changing": changing or "",
        "drift": drift,
        "waiting": {} if changing else dict(await plane.servers.waiting()),
        "services": services,
        "channels": channels,
        "gateway": _gateway(plane),
        "authority": _authority(plane),
        "written_down": plane.keeper.authority.is_written_down,
        "disk_full": _is_full(plane.layout.state),
    }


def _is_full(directory: Path) -> bool:
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    blocks = found.f_bavail if os.geteuid() else found.f_bfree  # some are kept for root
    return blocks * found.f_frsize < FULL_BYTES


async def _drift(plane: ControlPlane) -> dict[str, Any]:
    """At each server, and of our own files; no resource has a name with a space."""
    found = dict(await plane.drift_of_servers())
    if wide := await asyncio.to_thread(modes.loose, plane.layout):
        found["file modes"] = tuple(map(str, wide))
    return found


async def _channel(plane: ControlPlane, channel: Channel) -> dict[str, Any]:
    placement = plane.placement
    in_force = channel in plane.effective.channels
    try:
        facts = await listener_facts(
            placement.admin_socket(channel.target), placement.door(channel.target, channel.source)
        )
    except ProxyUnreachable:
        facts = ListenerFacts()
    return {
        "from": channel.source,
        "to": channel.target,
        "path": data_path(plane.declared, channel) if in_force else "revoked",
        "grants": [str(grant) for grant in channel.grants],
        "connections": facts.active_connections,
        "ciphers": facts.ciphers,
        "groups": facts.groups,
        "at": str(channel.at),
    }


def _gateway(plane: ControlPlane) -> dict[str, Any] | None:
    gateway = plane.declared.gateway
    if gateway is None:
        return None
    return {
        "hostname": gateway.hostname,
        "address": gateway.endpoint,
        "routes": len(gateway.routes),
        "running": GATEWAY in plane.supervisor.pods,
        "issuers": facts(plane.key_sets),
    }


def _authority(plane: ControlPlane) -> list[dict[str, Any]]:
    return [
        {
            "id": slot.id,
            "kind": slot.kind,
            "status": slot.status,
            "expires_at": slot.not_after,
            "expires_in_seconds": _seconds_left(slot.not_after),
        }
        for slot in plane.keeper.authority.status().slots
    ]


def _seconds_left(moment: dt.datetime) -> int:
    return int((moment - dt.datetime.now(dt.UTC)).total_seconds())
