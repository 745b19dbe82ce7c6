"""A system call filter for apps: what network namespaces and file system views do not close.

A namespace of its own keeps a process from the host's IP network, but not from ``AF_VSOCK`` (the
hypervisor's), and io_uring makes sockets without calling socket(2). Key rings are inherited across
users. So an app makes UNIX, IP and netlink sockets only, and has neither io_uring nor key rings.
Everything else is allowed: this closes ways around the sandbox, it is no second one.

Sources: seccomp(2), linux/filter.h, linux/audit.h; system call numbers from asm/unistd.h of each
architecture.
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from watertight.errors import WatertightError
from watertight.runtime.linux import install_filter

ADDRESS_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK


class UnknownMachineError(WatertightError):
    """No filter is known for this processor architecture."""

    def __init__(self, machine: str) -> None:
        super().__init__(
            f"Apps cannot be confined on {machine}: its system call numbers are not known.",
            remedy=f"Run on one of: {', '.join(_MACHINES)}.",
        )


class _Machine(NamedTuple):
    audit: int
    socket: int
    denied: tuple[int, ...]
    """add_key, request_key, keyctl; io_uring_setup, io_uring_enter, io_uring_register."""
    other_abi_from: int | None
    """Numbers from here on are another ABI's names for the same calls (x32)."""


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 41, (248, 249, 250, 425, 426, 427), 0x40000000),
    "aarch64": _Machine(0xC00000B7, 198, (217, 218, 219, 425, 426, 427), None),
}

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def program(machine: str) -> bytes:
    """The filter as classic BPF instructions (struct sock_filter: code, jt, jf, k).

    Raises :class:`UnknownMachineError`.
    """
    if machine not in _MACHINES:
        raise UnknownMachineError(machine)
    audit, socket, denied, other_abi_from = _MACHINES[machine]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _REFUSE | errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if other_abi_from is not None:
        steps += [(_AT_LEAST, 0, 1, other_abi_from), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)]
    for number in denied:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)]
    steps += [
        (_EQUAL, 1, 0, socket),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),  # its low half; the kernel takes an int
    ]
    for family in ADDRESS_FAMILIES:
        steps += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    steps.append((_RETURN, 0, 0, _REFUSE | errno.EAFNOSUPPORT))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def confine() -> None:
    """Puts this process, and all that it starts, under the filter; there is no way back.

    It must have given up new privileges before. Raises :class:`UnknownMachineError` or
    :class:`watertight.runtime.linux.SystemCallError`.
    """
    install_filter(ctypes.create_string_buffer(program(os.uname().machine)))
