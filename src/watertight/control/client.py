"""How the command talks to the running control plane: HTTP over its Unix socket."""

import json
import os
from collections.abc import Collection
from http import HTTPStatus
from pathlib import Path
from typing import Any

from watertight.control.exchange import Unreachable, exchange
from watertight.errors import ExitCode, WatertightError
from watertight.model.findings import DeclarationError, Finding, Severity
from watertight.model.system import GATEWAY, Position
from watertight.model.units import counted
from watertight.runtime.files import STATE_DIRECTORY

ADMIN_SOCKET = "admin.sock"
TIMEOUT_SECONDS = 120.0
"""An apply waits for every proxy and every new service; nothing here waits for ever."""
PING_SECONDS = 2.0
ANSWER_SECONDS = 15.0
"""Within which a control process says that it is there, whatever else it does."""


class NotRunning(WatertightError):
    """No control plane answers for this declaration."""


class Stopped(NotRunning):
    """Nothing of its system runs."""


class Refused(WatertightError):
    """The control plane answered that it could not, or would not."""


class GoesOn(WatertightError):
    """Nobody waits for the answer any more; the change is made all the same."""


class AdminClient:
    """A client of one running system's admin API. One connection a request."""

    def __init__(self, socket: Path, project: Path | None = None) -> None:
        """``project``: the folder, where who does not answer is looked for."""
        self._socket = socket
        self._project = project

    def pid(self) -> int | None:
        """The process id of the control plane; None if none answers."""
        try:
            status, content = exchange(self._socket, "GET", "/healthz", None, PING_SECONDS)
            pid: int = json.loads(content)["pid"]
        except (Unreachable, OSError, ValueError, KeyError):
            return None
        return pid if status == HTTPStatus.OK else None

    def revoked(self) -> frozenset[str] | None:
        """Whom the running system distrusts; None if nobody answers."""
        try:
            status, content = exchange(self._socket, "GET", "/revoked", None, PING_SECONDS)
            names = frozenset(map(str, json.loads(content)["revoked"]))
        except (Unreachable, OSError, ValueError, KeyError):
            return None
        return names if status == HTTPStatus.OK else None

    def get(self, path: str) -> dict[str, Any]:
        """A document of the running system. Raises NotRunning or Refused."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A change to the running system. Raises NotRunning, Refused, or GoesOn after ^C."""
        try:
            return self._ask("POST", path, body)
        except KeyboardInterrupt:
            raise GoesOn(
                "Interrupted. What was asked for goes on in the control process.",
                remedy="`watertight status` shows what came of it.",
            ) from None

    def silence(self, method: str = "GET") -> "NotRunning":
        """Why nobody answers, and what to do about it."""
        closed = self._closed_to_us()
        if closed is not None:
            return NotRunning(
                f"{closed} is not yours to open.",
                remedy="Run it as the user who runs `watertight up`.",
            )
        return _why_nobody_answers(self._project, method)

    def _closed_to_us(self) -> Path | None:
        """What another user keeps from us: then it cannot be told whether anything runs."""
        if self._project is not None:
            state = self._project / STATE_DIRECTORY
            if state.exists() and not os.access(state, os.R_OK | os.X_OK):
                return state
        try:
            self._socket.stat()
        except OSError as error:
            return self._socket if isinstance(error, PermissionError) else None
        return None if os.access(self._socket, os.W_OK) else self._socket

    def _greet(self) -> None:
        """Raises NotRunning if the control process takes connections and says nothing."""
        try:
            exchange(self._socket, "GET", "/healthz", None, ANSWER_SECONDS)
        except TimeoutError as error:
            raise _hangs(self._project) from error

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        sent = None if body is None else json.dumps(body).encode()
        try:
            self._greet()
            status, content = exchange(self._socket, method, path, sent, TIMEOUT_SECONDS)
        except Unreachable as error:
            raise self.silence(method) from error
        except TimeoutError as error:
            raise Refused(
                f"The control plane has not answered within {TIMEOUT_SECONDS:.0f} s. "
                "What was asked for goes on.",
                remedy="`watertight status` says what is under way; "
                ".watertight/logs/control.log says more.",
            ) from error
        except OSError as error:
            raise NotRunning(
                "The control plane ended before it answered.",
                remedy="Run `watertight up` again: it takes over what runs.",
            ) from error
        try:
            document: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise Refused(
                f"What answers at {self._socket} is not this version's control plane "
                f"(status {status} to {method} {path}).",
                remedy="Stop it with the version that started it.",
            ) from error
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return document
        refusal: WatertightError = Refused(
            document.get("message", ""), remedy=document.get("remedy", "")
        )
        if found := document.get("findings"):
            refusal = DeclarationError([_finding(finding) for finding in found])
        refusal.exit_code = ExitCode(document.get("exit_code", ExitCode.COULD_NOT))
        raise refusal


def _hangs(project: Path | None) -> NotRunning:
    from watertight.runtime.runs import holder  # noqa: PLC0415 - seldom needed

    process = holder(project / STATE_DIRECTORY) if project is not None else None
    return NotRunning(
        f"The control process ({process or 'unknown'}) has not answered for {ANSWER_SECONDS:.0f} s:"
        " it hangs, or was stopped. The programs go on without it.",
        remedy=f"`kill -CONT {process or 'PID'}` wakes one that was stopped. Else `watertight down`"
        f" ends it by force; or `kill -KILL {process or 'PID'}`, and `watertight up --detach` takes"
        " over what runs.",
    )


def _why_nobody_answers(project: Path | None, method: str) -> NotRunning:
    """Programs need no control process: they go on without it, and with what it told them."""
    from watertight.runtime.runs import holder, still_run  # noqa: PLC0415 - seldom needed

    if project is not None and (process := holder(project / STATE_DIRECTORY)) is not None:
        return NotRunning(
            f"The control process ({process}) does not answer: the system is starting or stopping.",
            remedy="Try again in a moment; .watertight/logs has what it says. "
            "`watertight down` stops it.",
        )
    left = still_run(project) if project is not None else ()
    if not left:
        return Stopped("The system is not running.", remedy="Start it with `watertight up`.")
    gone = f"The control process is gone, but {those_that_run(left)} still run."
    if method == "GET":
        return NotRunning(
            gone, remedy="`watertight up` takes them over, `watertight down` ends them."
        )
    return NotRunning(
        f"{gone} Nothing was changed: what was declared and revoked before stays in force.",
        remedy="`watertight up --detach` takes them over; then do this again.",
    )


def those_that_run(pods: Collection[str]) -> str:
    """``3 programs and the gateway``."""
    programs = len(set(pods) - {GATEWAY})
    words = [counted(programs, "program")] if programs else []
    return " and ".join([*words, *(["the gateway"] if GATEWAY in pods else [])])


def _finding(document: dict[str, Any]) -> Finding:
    severity = Severity(document["severity"])
    return Finding(**{**document, "at": Position(**document["at"]), "severity": severity})
