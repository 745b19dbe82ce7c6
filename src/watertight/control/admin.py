"""The admin API of a running system: JSON over a Unix socket that only the operator can open."""

import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, TypeAlias

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from watertight.control.plane import ControlPlane
from watertight.control.requests import What
from watertight.control.restarting import restart
from watertight.control.revocation import restore, revoke
from watertight.control.rotation import rotate
from watertight.control.status import snapshot
from watertight.errors import ExitCode, MachineRefused, WatertightError
from watertight.identity.requests import SVIDRequest
from watertight.identity.spiffe import SPIFFEID
from watertight.identity.svid import PEM
from watertight.model.findings import DeclarationError
from watertight.model.system import System

log = structlog.get_logger(__name__)

VERIFIER = "watertight/verifier"
"""No service can have a slash in its name."""

Body: TypeAlias = dict[str, Any]
Operation: TypeAlias = Callable[[Body], Awaitable[Body]]


class MalformedRequest(WatertightError):
    """A request that the command would not have sent."""

    exit_code = ExitCode.MISUSE


def admin_app(
    plane: ControlPlane, *, reload: Callable[[], Awaitable[System]], stop: Callable[[], None]
) -> Starlette:
    """The application. ``reload`` reads and applies the declaration; ``stop`` ends the system."""

    async def apply(_: Body) -> Body:
        system = await reload()
        return {
            "services": len(system.services),
            "versions": dict(plane.deployment.versions()),
            "servers": dict(plane.server_changes),
            "waiting": dict(await plane.servers.waiting()),
            "outdated": [
                pod.name
                for pod in await plane.supervisor.status()
                if any(process.outdated for process in pod.processes)
            ],
        }

    async def do_rotate(body: Body) -> Body:
        try:
            what = What(body["what"])
        except (KeyError, ValueError) as error:
            raise MalformedRequest(f"Rotate one of {', '.join(What)}.") from error
        rotated = await rotate(plane, what, body.get("workload"))
        return {"workloads": rotated.workloads, "retired_roots": rotated.retired_roots}

    async def do_restart(body: Body) -> Body:
        service, began = str(body.get("service")), time.monotonic()
        await restart(plane, service)
        seconds, revoked = round(time.monotonic() - began, 3), service in plane.revoked
        return {"service": service, "seconds": seconds, "revoked": revoked}

    async def do_revoke(body: Body) -> Body:
        workload = str(body.get("workload"))
        was_revoked = workload in plane.revoked
        return {**asdict(await revoke(plane, workload)), "was_revoked": was_revoked}

    async def do_restore(body: Body) -> Body:
        workload = str(body.get("workload"))
        was_revoked = await restore(plane, workload)
        return {"spiffe_id": plane.declared.spiffe_id(workload), "was_revoked": was_revoked}

    async def bundle(_: Body) -> Body:
        return {"roots": plane.keeper.bundle().pem().decode()}

    async def verifier(body: Body) -> Body:
        """An SVID for whoever proves this system: it signs evidence and may call nobody."""
        spiffe_id = SPIFFEID.workload(plane.keeper.trust_domain, VERIFIER)
        request = SVIDRequest(str(body.get("csr", "")).encode(), spiffe_id)
        chain = plane.keeper.authority.issue(request)
        return {
            "spiffe_id": str(spiffe_id),
            "chain": "".join(c.public_bytes(PEM).decode() for c in chain),
        }

    async def do_stop(_: Body) -> Body:
        stop()
        return {}

    async def status(_: Body) -> Body:
        return await snapshot(plane)

    async def revoked(_: Body) -> Body:
        return {"revoked": sorted(plane.revoked)}

    async def healthz(_: Body) -> Body:
        return {"pid": os.getpid()}

    return Starlette(
        routes=[
            Route("/healthz", _endpoint(healthz)),
            Route("/status", _endpoint(status)),
            Route("/revoked", _endpoint(revoked)),
            Route("/bundle", _endpoint(bundle)),
            Route("/verifier", _endpoint(verifier), methods=["POST"]),
            Route("/apply", _endpoint(apply), methods=["POST"]),
            Route("/rotate", _endpoint(do_rotate), methods=["POST"]),
            Route("/restart", _endpoint(do_restart), methods=["POST"]),
            Route("/revoke", _endpoint(do_revoke), methods=["POST"]),
            Route("/restore", _endpoint(do_restore), methods=["POST"]),
            Route("/stop", _endpoint(do_stop), methods=["POST"]),
        ]
    )


def _endpoint(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    """An HTTP face for one operation; our errors become documents, others are bugs and logged."""

    async def endpoint(request: Request) -> Response:
        try:
            body = await request.json() if await request.body() else {}
            return _answer(200, await operation(body))
        except json.JSONDecodeError:
            return _answer(400, {"message": "The body is not JSON.", "exit_code": ExitCode.MISUSE})
        except (WatertightError, OSError) as failure:
            error = failure if isinstance(failure, WatertightError) else MachineRefused(failure)
            found = error.findings if isinstance(error, DeclarationError) else ()
            document = {"message": error.message, "remedy": error.remedy}
            findings = [asdict(finding) for finding in found]
            return _answer(409, {**document, "findings": findings, "exit_code": error.exit_code})
        except Exception:
            log.exception("admin_operation_failed", path=request.url.path)
            return _answer(
                500,
                {
                    "message": "The control plane failed; this is a bug of ours.",
                    "remedy": "See .watertight/logs/control.log.",
                    "exit_code": ExitCode.COULD_NOT,
                },
            )

    return endpoint


def _answer(status: int, document: Body) -> Response:
    text = json.dumps(document, default=str)
    return Response(text, status_code=status, media_type="application/json")
