"""A tap behind a door: a packet socket on the loopback of a pod (packet(7)), one port, read-only.

It sees what no answer can tell: each byte that a proxy sent to the app, and each that the app
answered. It belongs to the operator (CAP_NET_RAW over the pod's network namespace), never to an
attacker. Packets on loopback are queued for it before the other side can have read them, so that
whoever has an answer in hand finds here all that led to it.
"""

import asyncio
import contextlib
import ctypes
import os
import re
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from watertight.attack.witness import Conversation

KEPT_BYTES = 1_048_576
"""Of each direction of a connection."""
MOST_CONNECTIONS = 4_096
MOST_BYTES = 256 * 1_048_576
"""Of all connections; those that were silent longest are forgotten, and that is told."""
PACKET_BYTES = 262_144
BUFFER_BYTES = 8 * 1_048_576
OWN_ADDRESSES = (b"\x7f\0\0\1", b"\0" * 15 + b"\1")
"""127.0.0.1 and ::1: where apps listen; callees are found at other loopback addresses."""
REQUEST_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.[01]\r\n")


def begins_request(payload: bytes) -> bool:
    """Whether a packet begins with a request in HTTP/1."""
    return bool(REQUEST_LINE.match(payload))


ETH_P_ALL = 0x0003
SO_RCVBUFFORCE = 33
SO_ATTACH_FILTER = 26
SOL_PACKET = 263
PACKET_STATISTICS = 6
MODULUS = 0xFFFFFFFF
"""Of sequence numbers, as a mask (RFC 9293 section 3.4)."""
FIN, SYN, RST = 0x01, 0x02, 0x04


def open_tap(port: int) -> socket.socket:
    """A packet socket of this process's network namespace. Raises ``OSError`` without the right."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    try:
        prepare(made, port)
    except BaseException:
        made.close()
        raise
    return made


def prepare(tap: socket.socket, port: int) -> None:
    """Makes an unbound packet socket hear one TCP port on loopback, and nothing before that."""
    # As much as anybody may have (net.core.rmem_max), and more where that is ours to say: root's.
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    with contextlib.suppress(OSError):
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    program = b"".join(struct.pack("HBBI", *line) for line in _only(port))
    kept = ctypes.create_string_buffer(program, len(program))
    pointed = struct.pack("HP", len(program) // 8, ctypes.addressof(kept))
    tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointed)
    tap.bind(("lo", ETH_P_ALL))
    tap.setblocking(False)


def _only(port: int) -> list[tuple[int, int, int, int]]:
    """Classic BPF: packets received (loopback shows each twice), TCP, from or to the port."""
    load, load_half, load_indexed, header_length = 0x30, 0x28, 0x48, 0xB1
    equal, mask, done = 0x15, 0x54, 0x06
    packet_type = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE
    port_of_packet = [
        (load, 0, 0, packet_type),
        (equal, 0, 18, 0),  # PACKET_HOST, else: drop
        (load, 0, 0, 0),
        (mask, 0, 0, 0xF0),
        (equal, 0, 7, 0x40),  # IPv4, else: IPv6?
        (load, 0, 0, 9),
        (equal, 0, 13, socket.IPPROTO_TCP),
        (header_length, 0, 0, 0),
        (load_indexed, 0, 0, 0),
        (equal, 9, 0, port),  # keep
        (load_indexed, 0, 0, 2),
        (equal, 7, 8, port),  # keep, else: drop
        (equal, 0, 7, 0x60),  # IPv6, else: drop
        (load, 0, 0, 6),
        (equal, 0, 5, socket.IPPROTO_TCP),
        (load_half, 0, 0, 40),
        (equal, 2, 0, port),
        (load_half, 0, 0, 42),
        (equal, 0, 1, port),
    ]
    keep, drop = (done, 0, 0, PACKET_BYTES), (done, 0, 0, 0)
    return [*port_of_packet, keep, drop]


class _Direction:
    """One half of a connection, put together in order."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.total = 0
        self.ended = False
        self.cut = False
        self._known = False
        self._next = 0
        """The sequence number awaited, once it is known."""
        self._waiting: dict[int, bytes] = {}

    def take(self, sequence: int, payload: bytes, flags: int) -> None:
        if flags & SYN:
            self._known, self._next = True, (sequence + 1) & MODULUS
        elif payload:
            if not self._known:
                self._known, self._next = True, sequence
            self._waiting[sequence] = payload
            self._join()
        if flags & (FIN | RST):
            self.ended = True

    def forget(self) -> None:
        """What was said so far does not matter."""
        self.data.clear()
        self.total = 0
        self.cut = False

    def next_part(self) -> "_Direction":
        """What follows, with nothing kept yet."""
        part = _Direction()
        part._known, part._next, part._waiting = self._known, self._next, self._waiting
        return part

    def _join(self) -> None:
        while (sequence := self._due()) is not None:
            payload = self._waiting.pop(sequence)
            self._keep(payload[(self._next - sequence) & MODULUS :])

    def _due(self) -> int | None:
        """A waiting packet that starts at what is awaited, or before it."""
        behind = (s for s in self._waiting if (self._next - s) & MODULUS < MODULUS // 2)
        return next(behind, None)

    def _keep(self, new: bytes) -> None:
        self._next = (self._next + len(new)) & MODULUS
        self.total += len(new)
        room = KEPT_BYTES - len(self.data)
        self.data += new[:room]
        self.cut = self.cut or len(new) > room


class _Connection:
    def __init__(self, begins: Callable[[bytes], bool]) -> None:
        self._begins = begins
        self.asked = _Direction()
        self.answered = _Direction()
        self._exchanges: list[tuple[int, int]] = []
        """Where requests seem to begin: in what was asked, and in what was answered until then."""
        self.aligned = False
        """Whether it is known where a message began: its first byte was seen, or a request's."""
        self.heard_at = 0
        """The tap's moment of its last packet."""

    @property
    def kept_bytes(self) -> int:
        """How much of it is held."""
        return len(self.asked.data) + len(self.answered.data)

    def take(self, *, asking: bool, sequence: int, payload: bytes, flags: int) -> None:
        if flags & SYN:
            self.aligned = True
        elif not self.aligned and asking and self._begins(payload):
            self.aligned = True  # a pooled connection: what was asked before has been answered
            self._exchanges.clear()
            self.asked.forget()
            self.answered.forget()
        if asking and self._begins(payload):
            self._exchanges.append((len(self.asked.data), len(self.answered.data)))
        (self.asked if asking else self.answered).take(sequence, payload, flags)

    def told(self, marker: bytes) -> Conversation:
        """From the request on whose packet the marker stands first."""
        found = self.asked.data.find(marker)
        asked, answered = 0, 0
        for at, then in self._exchanges:
            # Asked before the app had answered, it is no new request: then it follows another.
            if at > found:
                break
            if then > answered or at == 0:
                asked, answered = at, then
        return Conversation(
            asked=bytes(self.asked.data[asked:]),
            answered=bytes(self.answered.data[answered:]),
            answered_bytes=self.answered.total,
            whole=not (self.asked.cut or self.answered.cut),
            ended=self.answered.ended,
            asked_cut=self.asked.cut,
        )

    def is_full(self) -> bool:
        """Whether the next request should be kept in a part of its own."""
        return max(self.asked.total, self.answered.total) > KEPT_BYTES // 2

    def next_part(self) -> "_Connection":
        """The same connection from here on, with nothing kept yet."""
        part = _Connection(self._begins)
        part.aligned = True
        part.asked, part.answered = self.asked.next_part(), self.answered.next_part()
        return part


class _Ear:
    """Takes packets from the socket as they come, in a thread.

    The event loop is late at times, and the kernel keeps little where it is not root's to say.
    """

    def __init__(self, tap: socket.socket, call: Callable[[], object]) -> None:
        """``call`` is called, in the thread, where packets wait in vain for :meth:`heard`."""
        self._tap = tap
        self._call = call
        self._called = False
        self._heard: deque[bytes | None] = deque()
        self._order = threading.Lock()
        self._closed = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._listen, name="tap", daemon=True)
        self._thread.start()

    def heard(self) -> Iterator[bytes | None]:
        """All packets that have come, in their order; None where one could not be taken."""
        self._called = False
        self._drain()
        while self._heard:
            yield self._heard.popleft()

    def close(self) -> None:
        """Hears no more."""
        os.eventfd_write(self._closed, 1)
        self._thread.join()
        os.close(self._closed)

    def _listen(self) -> None:
        waiting = select.poll()
        waiting.register(self._tap, select.POLLIN)
        waiting.register(self._closed, select.POLLIN)
        hears = True
        while hears and self._closed not in (descriptor for descriptor, _ in waiting.poll()):
            hears = self._drain()
            if self._heard and not self._called:
                self._called = True
                self._call()

    def _drain(self) -> bool:
        """Whether the socket can be listened to further."""
        with self._order:
            while True:
                try:
                    self._heard.append(self._tap.recv(PACKET_BYTES))
                except BlockingIOError:
                    return True
                except OSError:
                    self._heard.append(None)
                    return False


class Tap:
    """Implements ``attack.witness.Witness`` over a packet socket; close it when done."""

    def __init__(
        self,
        tap: socket.socket,
        port: int,
        begins: Callable[[bytes], bool] = begins_request,
    ) -> None:
        """``begins``: whether a packet to the app begins where a message does."""
        self._socket = tap
        self._port = port
        self._begins = begins
        self._connections: dict[bytes, _Connection] = {}
        self._moment = 0
        """How many packets were heard, and times that some were missed."""
        self._missed_at = 0
        self._kept_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._ear = _Ear(tap, lambda: self._loop.call_soon_threadsafe(self._hear))

    def conversations(self, marker: bytes = b"") -> Sequence[Conversation]:
        """See ``Witness``."""
        self._hear()
        return [
            connection.told(marker)
            for connection in self._connections.values()
            if connection.aligned and marker in connection.asked.data
        ]

    def moment(self) -> int:
        """See ``Witness``."""
        self._hear()
        self._count_dropped()
        return self._moment

    def missed_since(self, moment: int) -> bool:
        """See ``Witness``."""
        self._hear()
        self._count_dropped()
        return self._missed_at > moment

    def _count_dropped(self) -> None:
        with contextlib.suppress(OSError):  # closed: told by what hears
            counted = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            if struct.unpack("II", counted)[1] > 0:
                self._miss()

    def _miss(self) -> None:
        self._moment += 1
        self._missed_at = self._moment

    def close(self) -> None:
        """Lets go of the socket; never raises."""
        self._ear.close()
        self._socket.close()

    def _hear(self) -> None:
        for packet in self._ear.heard():
            if packet is None:
                self._miss()
                continue
            with contextlib.suppress(IndexError, struct.error):  # not a whole header
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        if packet[0] >> 4 == 4:
            start = (packet[0] & 0x0F) * 4
            end = int.from_bytes(packet[2:4], "big") or len(packet)
            source, target = packet[12:16], packet[16:20]
        else:
            start, end = 40, len(packet)
            source, target = packet[8:24], packet[24:40]
        ports = struct.unpack_from("!HH", packet, start)
        (sequence,) = struct.unpack_from("!I", packet, start + 4)
        header, flags = (packet[start + 12] >> 4) * 4, packet[start + 13]
        payload = packet[start + header : end]
        asking = ports[1] == self._port
        app, client = (target, source) if asking else (source, target)
        if app not in OWN_ADDRESSES:
            return
        name = client + struct.pack("!H", ports[0] if asking else ports[1]) + app
        if asking and flags & SYN and (earlier := self._connections.pop(name, None)):
            # The same port again is another connection.
            self._connections[name + self._moment.to_bytes(8, "big")] = earlier
        connection = self._connections.pop(name, None) or _Connection(self._begins)
        if asking and connection.is_full() and self._begins(payload):
            # A pooled connection that others use, too: what follows must still be seen.
            self._connections[name + self._moment.to_bytes(8, "big")] = connection
            connection = connection.next_part()
        before = connection.kept_bytes
        connection.take(asking=asking, sequence=sequence, payload=payload, flags=flags)
        self._moment += 1
        connection.heard_at = self._moment
        self._connections[name] = connection  # the last one: what is silent longest stands first
        self._kept_bytes += connection.kept_bytes - before
        while len(self._connections) > MOST_CONNECTIONS or self._kept_bytes > MOST_BYTES:
            self._forget(next(iter(self._connections)))

    def _forget(self, name: bytes) -> None:
        connection = self._connections.pop(name)
        self._kept_bytes -= connection.kept_bytes
        self._missed_at = max(self._missed_at, connection.heard_at)
