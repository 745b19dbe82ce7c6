"""The few Linux system calls that Python 3.11 has no name for, by ctypes.

Each raises :class:`SystemCallError`, which names the call and its arguments. Sources: the manual
pages of the same name in section 2, and capabilities(7), namespaces(7), user_namespaces(7).
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from enum import IntFlag
from pathlib import Path

from watertight.errors import WatertightError

_LIBC = ctypes.CDLL(None, use_errno=True)


class Namespace(IntFlag):
    """What may be had of one's own (clone flags, sched.h)."""

    MOUNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NETWORK = 0x40000000


class MountFlag(IntFlag):
    """Flags of mount(2) (linux/mount.h)."""

    READ_ONLY = 1
    NO_SUID = 2
    NO_DEVICES = 4
    NO_EXECUTION = 8
    REMOUNT = 32
    BIND = 4096
    RECURSIVE = 16384
    PRIVATE = 1 << 18


_MNT_DETACH = 2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_SYS_MOUNT_SETATTR = 442  # one number on every architecture that came after 2011, and on x86-64
_LOCKED_FLAGS = 0x2 | 0x4 | 0x8 | 0x400 | 0x800  # nosuid, nodev, noexec, noatime, nodiratime

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
CAP_NET_BIND_SERVICE = 10
_CAPABILITY_VERSION_3 = 0x20080522

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


class SystemCallError(WatertightError):
    """The kernel refused. ``errno`` says why, ``call`` which call with which arguments."""

    def __init__(self, call: str, number: int) -> None:
        name = errno.errorcode.get(number, str(number))
        super().__init__(
            f"The kernel refused {call}: {os.strerror(number)} ({name}).",
            remedy="`watertight status` says which isolation this host allows.",
        )
        self.call = call
        self.errno = number


def _checked(result: int, call: str) -> int:
    if result < 0:
        raise SystemCallError(call, ctypes.get_errno())
    return result


def unshare(namespaces: Namespace) -> None:
    """Moves this process (for PID: its next child) into new namespaces (unshare(2))."""
    _checked(_LIBC.unshare(ctypes.c_int(namespaces)), f"unshare({namespaces!r})")


def setns(descriptor: int, kind: Namespace) -> None:
    """Enters the namespace that ``descriptor`` (of /proc/PID/ns/…) names (setns(2))."""
    _checked(_LIBC.setns(descriptor, ctypes.c_int(kind)), f"setns({descriptor}, {kind!r})")


def mount(
    source: Path | str, target: Path, kind: str = "", flags: int = 0, options: str = ""
) -> None:
    """Mounts ``source`` on ``target`` (mount(2))."""
    result = _LIBC.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(result, f"mount({source}, {target}, {kind or 'bind'}, {flags:#x}, {options!r})")


def detach(target: Path) -> None:
    """Takes the mount at ``target`` and all below it out of this namespace (umount2(2))."""
    _checked(_LIBC.umount2(os.fsencode(target), _MNT_DETACH), f"umount2({target}, MNT_DETACH)")


def pivot_root(new: Path, old: Path) -> None:
    """Makes ``new`` the root and puts the old one on ``old`` (pivot_root(2))."""
    result = _LIBC.pivot_root(os.fsencode(new), os.fsencode(old))
    _checked(result, f"pivot_root({new}, {old})")


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def restrict_mount(target: Path, flags: MountFlag, *, recursive: bool = True) -> None:
    """Adds restrictions (READ_ONLY, NO_SUID, NO_DEVICES, NO_EXECUTION) to the mount at ``target``.

    mount_setattr(2), whose attributes have mount(2)'s numbers for these four. A kernel older than
    5.12 lacks it: there only the topmost mount is restricted.
    """
    attributes = _MountAttributes(set=int(flags))
    result = _LIBC.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    if result < 0 and ctypes.get_errno() == errno.ENOSYS:
        # A remount must repeat what is locked on a mount of a more privileged namespace.
        kept = os.statvfs(target).f_flag & _LOCKED_FLAGS
        mount("none", target, flags=kept | flags | MountFlag.REMOUNT | MountFlag.BIND)
        return
    _checked(result, f"mount_setattr({target}, {flags!r})")


def _prctl(option: int, argument: int, call: str, third: int = 0) -> int:
    words = [ctypes.c_ulong(value) for value in (argument, third, 0, 0)]
    return _checked(_LIBC.prctl(ctypes.c_int(option), *words), f"prctl({call})")


def forbid_new_privileges() -> None:
    """No program started from here on gains rights by set-user-ID or file capabilities."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def die_with_parent(signal_number: int) -> None:
    """The kernel sends this signal to us when our parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal_number, "PR_SET_PDEATHSIG")


def hide_memory() -> None:
    """Nobody without CAP_SYS_PTRACE may look at our memory, descriptors or root (proc(5))."""
    _prctl(_PR_SET_DUMPABLE, 0, "PR_SET_DUMPABLE, 0")


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def install_filter(instructions: "ctypes.Array[ctypes.c_char]") -> None:
    """Puts this process under a seccomp filter of classic BPF instructions, 8 bytes each."""
    filters = _FilterProgram(len(instructions) // 8, ctypes.addressof(instructions))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, "PR_SET_SECCOMP", ctypes.addressof(filters))


def adopt_orphans() -> None:
    """Descendants whose parent ended become our children (a 'subreaper')."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def rename(text: str) -> None:
    """What ps(1) shows of this process, as far as its arguments had room for it (proc(5))."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end
    if 0 < start < end:
        room = end - start
        ctypes.memmove(start, os.fsencode(text)[: room - 1].ljust(room, b"\0"), room)


def drop_bounding_set(*, but: int | None = None) -> None:
    """Empties the capability bounding set: even user 0 gains nothing by exec (needs SETPCAP)."""
    for capability in range(64):
        if capability == but:
            continue
        try:
            present = _prctl(_PR_CAPBSET_READ, capability, f"PR_CAPBSET_READ, {capability}")
        except SystemCallError as error:
            if error.errno == errno.EINVAL:  # one past the last that this kernel knows
                return
            raise
        if present:
            _prctl(_PR_CAPBSET_DROP, capability, f"PR_CAPBSET_DROP, {capability}")


def drop_capabilities() -> None:
    """Empties the ambient, effective, permitted and inheritable sets (capset(2))."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, "PR_CAP_AMBIENT_CLEAR_ALL")
    _set_capabilities(0)


def keep_capabilities() -> None:
    """The next change of user leaves the permitted set as it is."""
    _prctl(_PR_SET_KEEPCAPS, 1, "PR_SET_KEEPCAPS")


def keep_only(capability: int) -> None:
    """Gives up all capabilities but one, which the next program has too (an ambient one)."""
    _set_capabilities(1 << capability)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, "PR_CAP_AMBIENT_RAISE", capability)


def _set_capabilities(mask: int) -> None:
    """Effective, permitted and inheritable, each in a low and a high word."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("6I", low, low, low, high, high, high)
    _checked(_LIBC.capset(header, data), f"capset({mask:#x})")


def bring_up_loopback() -> None:
    """Brings ``lo`` of this network namespace up, with 127.0.0.0/8 and ::1 (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh22x", b"lo", 0)
        try:
            answer = fcntl.ioctl(control, _SIOCGIFFLAGS, request)
            (flags,) = struct.unpack_from("h", answer, 16)
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))
        except OSError as error:
            raise SystemCallError("ioctl(lo, SIOCSIFFLAGS, IFF_UP)", error.errno or 0) from error


def map_only_this_user(uid: int, gid: int) -> None:
    """In a new user namespace: maps ``uid`` and ``gid`` to themselves and nothing else.

    user_namespaces(7): an unprivileged process may map only its own ids, and the group only after
    setgroups(2) is given up.
    """
    write_setting(Path("/proc/self/setgroups"), "deny")
    write_setting(Path("/proc/self/uid_map"), f"{uid} {uid} 1")
    write_setting(Path("/proc/self/gid_map"), f"{gid} {gid} 1")


def narrow_tcp(most_bytes: int) -> None:
    """In this network namespace no TCP socket buffers more, in either direction (tcp(7)).

    The kernel lets each grow to 4 and 6 MiB and more, for long lines, and all share what is set
    aside for TCP on the host.
    """
    for name, usual in (("tcp_rmem", 131_072), ("tcp_wmem", 16_384)):
        write_setting(Path("/proc/sys/net/ipv4") / name, f"4096 {usual} {most_bytes}")


def open_all_ports() -> None:
    """In this network namespace anybody may listen below port 1024 too (ip-sysctl.rst)."""
    write_setting(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start"), "0")


def write_setting(path: Path, value: str) -> None:
    """Writes one of the kernel's settings."""
    try:
        path.write_text(value, encoding="ascii")
    except OSError as error:
        raise SystemCallError(f"write({path}, {value!r})", error.errno or 0) from error
