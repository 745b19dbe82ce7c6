"""System calls that no service needs, tried from inside: namespaces, tracing, sharp tools."""

import errno
import os
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from watertight.attack.arena import Arena
from watertight.attack.probe import Observation, Probe, not_run, refused, served
from watertight.dataplane.attacks.make import attack
from watertight.model.system import System

Call: TypeAlias = tuple[int, ...]
"""Number on x86_64, number on aarch64, then the arguments."""

_ZEROS = -1
_NEW_USER, _CHILD_ENDED = 0x10000000, 17  # CLONE_NEWUSER, SIGCHLD (sched.h, signal.h)
_UNSEEN = 0xFFFFFFFFFFFFFFFF  # -1
_VSOCK, _ALG, _PACKET, _STREAM, _RAW = 40, 38, 17, 1, 3

NAMESPACES: Mapping[str, Call] = {
    "unshare": (272, 97, _NEW_USER),
    "clone": (56, 220, _NEW_USER | _CHILD_ENDED, 0, 0, 0, 0),
    # Zeros are no valid structure: EINVAL says that the call was taken up.
    "clone3": (435, 435, _ZEROS, 88),
    "setns": (308, 268, 0, 0),
}
TOOLS: Mapping[str, Call] = {
    "ptrace": (101, 117, 0, 0, 0, 0),
    "process_vm_readv": (310, 270, 1, 0, 0, 0, 0, 0),
    "bpf": (321, 280, 0, _ZEROS, 48),
    "perf_event_open": (298, 241, _ZEROS, 0, _UNSEEN, _UNSEEN, 0),
    "userfaultfd": (323, 282, 1),
    "io_uring_setup": (425, 425, 4, _ZEROS),
    "io_setup": (206, 0, 1, _ZEROS),
    # Zeros are no filter: EINVAL says that it was looked at.
    "SO_ATTACH_FILTER": (54, 208, 0, 1, 26, _ZEROS, 16),
    "seccomp": (317, 277, 1, 0, _ZEROS),
    "keyctl": (250, 219, 0, 0xFFFFFFFD, 0),
    "mount": (165, 40, _ZEROS, _ZEROS, _ZEROS, 4096, 0),
    "open_by_handle_at": (304, 265, 0, _ZEROS, 0),
    "personality": (135, 92, 0x0040000),
    "AF_VSOCK": (41, 198, _VSOCK, _STREAM, 0),
    "AF_ALG": (41, 198, _ALG, 5, 0),
    "AF_PACKET": (41, 198, _PACKET, _RAW, 0),
}
_REFUSALS = (
    errno.EPERM,
    errno.ENOSYS,
    errno.EACCES,
    errno.EAFNOSUPPORT,
    errno.EPROTONOSUPPORT,
)
_COLUMNS = {"x86_64": 0, "aarch64": 1}


def probes(system: System) -> Iterator[Probe]:
    """For every service that runs here."""
    tries = {
        "isolation.user-namespace": ("a user namespace of its own", NAMESPACES),
        "isolation.kernel": (", ".join(TOOLS), TOOLS),
    }
    for name, service in system.services.items():
        if service.run:
            for identifier, (what, calls) in tries.items():
                attempt = f"{what}, from inside {name}"
                yield attack(identifier, f"{name} -> host", attempt, _call, name, calls)


async def _call(arena: Arena, service: str, calls: Mapping[str, Call]) -> Observation:
    column = _COLUMNS.get(os.uname().machine)
    if column is None:
        return not_run(f"the system calls of {os.uname().machine} are not known here")
    numbered = {name: [call[column], *call[2:]] for name, call in calls.items()}
    answer = await (await arena.inside(service)).call(
        "kernel", calls=numbered, refusals=list(_REFUSALS)
    )
    if "error" in answer:
        return not_run(answer["error"])
    if answer["taken"]:
        return served(f"the kernel takes up {', '.join(answer['taken'])}")
    return refused(", ".join(f"{name}: {why}" for name, why in answer["refused"].items()))
