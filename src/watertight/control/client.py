"""How the command talks to the running control plane: HTTP over its Unix socket."""

import os
from pathlib import Path
from typing import Any

import httpx

from watertight.errors import ExitCode, WatertightError
from watertight.unix_http import transport

ADMIN_SOCKET = "admin.sock"
TIMEOUT_SECONDS = 120.0
"""An apply waits for every proxy and every new service; nothing here waits for ever."""


class NotRunning(WatertightError):
    """No control plane answers for this declaration."""


class Refused(WatertightError):
    """The control plane answered that it could not, or would not."""


class AdminClient:
    """A client of one running system's admin API."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._http = httpx.Client(
            transport=transport(socket),
            base_url="http://watertight",
            timeout=TIMEOUT_SECONDS,
        )

    def pid(self) -> int | None:
        """The process id of the control plane; None if none answers."""
        try:
            pid: int = self._http.get("/healthz", timeout=2).raise_for_status().json()["pid"]
        except (httpx.HTTPError, ValueError, KeyError):
            return None
        return pid

    def get(self, path: str) -> dict[str, Any]:
        """A document of the running system. Raises NotRunning or Refused."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A change to the running system. Raises NotRunning or Refused."""
        return self._ask("POST", path, body)

    def _is_of_another_user(self) -> bool:
        try:
            self._socket.stat()
        except OSError as error:
            return isinstance(error, PermissionError)
        return not os.access(self._socket, os.W_OK)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.ConnectError as error:
            if self._is_of_another_user():
                raise NotRunning(
                    f"{self._socket} is not yours to open.",
                    remedy="Run it as the user who runs `watertight up`.",
                ) from error
            raise NotRunning(
                "The system is not running.", remedy="Start it with `watertight up`."
            ) from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise NotRunning(
                "The control plane ended before it answered.",
                remedy="Run `watertight up` again: it takes over what runs.",
            ) from error
        except httpx.TimeoutException as error:
            raise Refused(
                f"The control plane did not answer within {TIMEOUT_SECONDS:.0f} s.",
                remedy="See .watertight/logs/control.log.",
            ) from error
        try:
            document: dict[str, Any] = answer.json()
        except ValueError as error:
            raise Refused(
                f"What answers at {self._socket} is not this version's control plane "
                f"(status {answer.status_code} to {method} {path}).",
                remedy="Stop it with the version that started it.",
            ) from error
        if answer.is_success:
            return document
        refusal = Refused(document.get("message", ""), remedy=document.get("remedy", ""))
        refusal.exit_code = ExitCode(document.get("exit_code", ExitCode.COULD_NOT))
        raise refusal
