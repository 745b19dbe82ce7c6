"""The command that makes software read its new files."""

import asyncio
import contextlib
import os
import signal
import tempfile
from dataclasses import dataclass
from typing import IO

from watertight.identity.errors import IdentityError

_TAIL_BYTES = 500


class ReloadFailed(IdentityError):
    """The reload command could not be run, took too long, or did not exit 0.

    The new files stand all the same; the software may still use the old ones.
    """


@dataclass(frozen=True, slots=True)
class ReloadHook:
    """What to run once new files stand: an argv, never a shell.

    It gets ``PATH`` and nothing else of our environment, which may hold the passphrase of the
    authority's keys.
    """

    argv: tuple[str, ...]
    timeout_seconds: float = 30.0


async def reload(hook: ReloadHook) -> None:
    """Runs the hook to its end; raises :class:`ReloadFailed` with what it said on stderr."""
    # A file and not a pipe: a daemon that the hook leaves behind may keep its stderr for ever.
    with tempfile.TemporaryFile() as complaints:
        try:
            process = await asyncio.create_subprocess_exec(
                *hook.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=complaints,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
            )
        except OSError as error:
            raise ReloadFailed(
                f"The reload command {hook.argv[0]!r} cannot be run: {error.strerror}."
            ) from error
        status = await _wait(process, hook)
        if status != 0:
            raise ReloadFailed(
                f"The reload command {hook.argv[0]!r} ended with status {status}.",
                remedy=f"It said: {_tail(complaints)}",
            )


async def _wait(process: asyncio.subprocess.Process, hook: ReloadHook) -> int:
    try:
        async with asyncio.timeout(hook.timeout_seconds):
            return await process.wait()
    except TimeoutError as error:
        raise ReloadFailed(
            f"The reload command {hook.argv[0]!r} did not end in {hook.timeout_seconds:g} s."
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # Its own session, hence its own group.
            await process.wait()


def _tail(complaints: IO[bytes]) -> str:
    complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - _TAIL_BYTES))
    return complaints.read().decode(errors="replace").strip() or "nothing"
