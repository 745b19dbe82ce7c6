"""A Unix socket for a gRPC server: private from its first moment, never stolen from the living."""

import os
import socket as sockets
import stat
from pathlib import Path

import grpc

from watertight.dataplane.xds.verdicts import CannotListen

MAX_PATH_BYTES = 107
"""unix(7): ``sun_path`` has 108 bytes, the last of them NUL."""


def bind(server: grpc.aio.Server, socket: Path, owner: tuple[int, int] | None) -> None:
    """Binds a server that is not yet started to ``socket``, mode 0600, owned by (uid, gid).

    A socket that a dead process left is replaced. Raises :class:`CannotListen`.
    """
    if len(os.fsencode(socket)) > MAX_PATH_BYTES:
        raise CannotListen(
            socket,
            f"a Unix socket's path has at most {MAX_PATH_BYTES} bytes",
            "Use a shorter run directory.",
        )
    _remove_stale(socket)
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as error:
        raise CannotListen(
            socket, str(error), "Does its directory exist, and may we write to it?"
        ) from error
    finally:
        os.umask(mask)
    socket.chmod(0o600)
    if owner is not None:
        os.chown(socket, *owner)


def _remove_stale(socket: Path) -> None:
    try:
        if not stat.S_ISSOCK(socket.lstat().st_mode):
            raise CannotListen(socket, "something else is in its place", "Remove that.")
        with sockets.socket(sockets.AF_UNIX) as client:
            client.connect(os.fspath(socket))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        socket.unlink(missing_ok=True)
        return
    except OSError as error:
        raise CannotListen(socket, str(error), "May we reach it?") from error
    raise CannotListen(
        socket, "another process serves it", "Is Watertight already running for this system?"
    )
