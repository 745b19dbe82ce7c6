"""A system call filter: what network namespaces and file system views do not close.

Three kinds of call are kept from every process of a pod. *Ways around the walls*: a network
namespace does not part ``AF_VSOCK`` (the hypervisor's), io_uring makes sockets without socket(2),
key rings are inherited across users. *Namespaces of its own*: in a user namespace that it makes, an
unprivileged process holds every capability, and with them most of the kernel. *The rest of what
kernels are broken by*, which no service needs: ``bpf``, ``userfaultfd``, ``perf_event_open``,
``ptrace`` (also of one's own children), mounting.

What has a fallback in common libraries is answered ENOSYS, as if the kernel were older (glibc then
takes clone(2) for clone3(2), whose flags a filter cannot read); all else EPERM.

Sources: seccomp(2), linux/filter.h, linux/audit.h, linux/sched.h; system call numbers from
asm/unistd.h of each architecture. Close to the list of "Seccomp security profiles for Docker".
"""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from watertight.errors import WatertightError
from watertight.runtime.linux import install_filter

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
IP_PROTOCOLS = (0, 1, 6, 17, 58)
"""Whichever fits the type, ICMP, TCP, UDP, ICMPv6; no SCTP, DCCP or MPTCP."""
_NETLINK_ROUTE = 0
"""What getifaddrs(3) and getaddrinfo(3) ask; the other protocols are administration."""
_PERSONALITIES = (0, 8, 0xFFFFFFFF)  # Linux, Linux 32-bit, "which is it?"
_SOL_SOCKET = 1
_SOCKET_FILTERS = (26, 50, 51, 52)
"""SO_ATTACH_FILTER, _BPF, _REUSEPORT_CBPF, _REUSEPORT_EBPF: most of their memory is charged to
nobody, and once they have reached ``net.core.bpf_jit_limit``, no process of the host gets another
filter, this one included."""
_PR_SET_SECCOMP = 22
_NEW_NAMESPACE = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_NEW_TIME_NAMESPACE = 0x80  # in clone(2) the same bit belongs to the exit signal

Step: TypeAlias = tuple[int, int, int, int]
"""struct sock_filter: code, jump if true, jump if false, operand."""


class UnknownMachineError(WatertightError):
    """No filter is known for this processor architecture."""

    def __init__(self, machine: str) -> None:
        super().__init__(
            f"Apps cannot be confined on {machine}: its system call numbers are not known.",
            remedy=f"Run on one of: {', '.join(_MACHINES)}.",
        )


class _Machine(NamedTuple):
    audit: int
    column: int
    """Where in the tables below its numbers stand."""
    other_abi_from: int | None
    """Numbers from here on are another ABI's names for the same calls (x32)."""


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 0, 0x40000000),
    "aarch64": _Machine(0xC00000B7, 1, None),
}

Numbers: TypeAlias = dict[str, tuple[int | None, int | None]]
"""Name → number on x86_64 and aarch64; None: it does not exist there."""

ABSENT: Numbers = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone3": (435, 435),
    # one table for the whole host (/proc/sys/fs/aio-max-nr), which one process can fill
    "io_setup": (206, 0),
    # filters have one bound for the whole host, too (net.core.bpf_jit_limit)
    "seccomp": (317, 277),
}
"""As if the kernel did not know them."""

FORBIDDEN: Numbers = {
    # another process's memory and descriptors, also those of one's own children
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # parts of the kernel that exploits go through
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "syslog": (103, 116),
    "lookup_dcookie": (212, 18),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # namespaces and the file system
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "open_by_handle_at": (304, 265),
    # the machine
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}
"""Refused whatever the arguments."""

_JUDGED: Numbers = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "unshare": (272, 97),
    "personality": (135, 92),
    "setsockopt": (54, 208),
    "prctl": (157, 167),
}
"""Refused for some arguments."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ARGUMENTS = (16, 24, 32)
"""The low half of each; the kernel takes an int, or only the low half of flags."""


def program(machine: str) -> bytes:
    """The filter as classic BPF instructions. Raises :class:`UnknownMachineError`."""
    if machine not in _MACHINES:
        raise UnknownMachineError(machine)
    audit, column, other_abi_from = _MACHINES[machine]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        _refuse(errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if other_abi_from is not None:
        steps += [(_AT_LEAST, 0, 1, other_abi_from), _refuse(errno.ENOSYS)]
    for table, answer in ((ABSENT, errno.ENOSYS), (FORBIDDEN, errno.EPERM)):
        for numbers in table.values():
            steps += _when(numbers[column], [_refuse(answer)])
    for name, judge in _judges().items():
        steps += _when(_JUDGED[name][column], judge)
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _judges() -> dict[str, list[Step]]:
    """For each call that is judged: steps that look at its arguments and always return."""
    return {
        "clone": [_argument(0), *_if_any(_NEW_NAMESPACE, errno.EPERM), _allow()],
        "unshare": [
            _argument(0),
            *_if_any(_NEW_NAMESPACE | _NEW_TIME_NAMESPACE, errno.EPERM),
            _allow(),
        ],
        "personality": [_argument(0), *_only(_PERSONALITIES, errno.EPERM)],
        "socketpair": [_argument(0), *_only((AF_UNIX,), errno.EAFNOSUPPORT)],
        "socket": _judge_socket(),
        "setsockopt": [
            _argument(1),
            *_unless(_SOL_SOCKET, [_allow()]),
            _argument(2),
            *_none_of(_SOCKET_FILTERS, errno.EPERM),
        ],
        "prctl": [_argument(0), *_none_of((_PR_SET_SECCOMP,), errno.EACCES)],
    }


def _judge_socket() -> list[Step]:
    ip = [_argument(2), *_only(IP_PROTOCOLS, errno.EPROTONOSUPPORT)]
    return [
        _argument(0),
        *_when(AF_UNIX, [_allow()]),
        *_when(AF_INET, ip),
        *_when(AF_INET6, ip),
        *_when(AF_NETLINK, [_argument(2), *_only((_NETLINK_ROUTE,), errno.EPROTONOSUPPORT)]),
        _refuse(errno.EAFNOSUPPORT),
    ]


def _argument(number: int) -> Step:
    return (_LOAD, 0, 0, _ARGUMENTS[number])


def _allow() -> Step:
    return (_RETURN, 0, 0, _ALLOW)


def _refuse(number: int) -> Step:
    return (_RETURN, 0, 0, _REFUSE | number)


def _when(value: int | None, steps: Sequence[Step]) -> list[Step]:
    """``steps``, which return, if what was loaded last is ``value``."""
    return [] if value is None else [(_EQUAL, 0, len(steps), value), *steps]


def _unless(value: int, steps: Sequence[Step]) -> list[Step]:
    """``steps``, which return, if what was loaded last is another one."""
    return [(_EQUAL, len(steps), 0, value), *steps]


def _none_of(values: Sequence[int], answer: int) -> list[Step]:
    refused = [step for value in values for step in _when(value, [_refuse(answer)])]
    return [*refused, _allow()]


def _if_any(bits: int, answer: int) -> list[Step]:
    return [(_ANY_BIT, 0, 1, bits), _refuse(answer)]


def _only(values: Sequence[int], answer: int) -> list[Step]:
    allowed = [step for value in values for step in _when(value, [_allow()])]
    return [*allowed, _refuse(answer)]


def confine() -> None:
    """Puts this process, and all that it starts, under the filter; there is no way back.

    It must have given up new privileges before. Raises :class:`UnknownMachineError` or
    :class:`watertight.runtime.linux.SystemCallError`.
    """
    install_filter(ctypes.create_string_buffer(program(os.uname().machine)))
