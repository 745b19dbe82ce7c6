"""What the kernel holds of answers on netlink sockets that nobody reads.

It is charged to no control group, and a process may have as many such sockets as files: with a few
hundred of them a service has gigabytes of its host. They cannot be refused, for ``getifaddrs(3)``
asks by one. So a pod's init looks how much it is (docs/explanation/bounds.md).

Sources: netlink(7), socket(7); the kernel's net/netlink/af_netlink.c (``netlink_seq_show``).
"""

import os

LOOK_SECONDS, CLOSE_LOOK_SECONDS = 0.2, 0.02
"""Until the next look: as a rule, and once there is a quarter of what may be. A core fills some
350 MB/s."""
MOST_UNREAD_BYTES = 16 << 20
"""Of all sockets of a pod. An answer to ``getifaddrs(3)`` has a few KiB, and is read at once."""
MOST_SOCKETS = 2_000
"""That have an address; more are too many to look at so often."""
_UNREAD = 4
"""The column ``Rmem``."""
_ROW_BYTES = 128
"""At least as long as a row is."""


class NetlinkWatch:
    """The netlink sockets of the network namespace that it was made in."""

    def __init__(self, most_bytes: int = MOST_UNREAD_BYTES) -> None:
        self._most_bytes = most_bytes
        self._table = os.open("/proc/self/net/netlink", os.O_RDONLY | os.O_CLOEXEC)

    def look(self) -> tuple[float, str]:
        """Seconds until the next look; and what there is too much of, or nothing."""
        text = self._read()
        rows = text.splitlines()[1:]
        unread = sum(int(row.split()[_UNREAD]) for row in rows)
        if len(rows) > MOST_SOCKETS:
            return CLOSE_LOOK_SECONDS, f"more than {MOST_SOCKETS} netlink sockets"
        if unread > self._most_bytes:
            return CLOSE_LOOK_SECONDS, f"{unread >> 20} MiB of netlink answers that nobody reads"
        near = unread > self._most_bytes // 4 or len(rows) > MOST_SOCKETS // 4
        return CLOSE_LOOK_SECONDS if near else LOOK_SECONDS, ""

    def _read(self) -> bytes:
        """Whole rows; no more than are too many."""
        os.lseek(self._table, 0, os.SEEK_SET)
        text, most_bytes = b"", (MOST_SOCKETS + 20) * _ROW_BYTES
        while len(text) < most_bytes and (chunk := os.read(self._table, most_bytes)):
            text += chunk
        return text[: text.rfind(b"\n") + 1]
