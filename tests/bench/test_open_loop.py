"""The open loop counts what a closed one would not see: the wait of those that came meanwhile."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from bench import open_loop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STALL_SECONDS = 0.4
PER_SECOND = 200


@contextlib.contextmanager
def server(answers: Callable[[socket.socket], None]) -> Iterator[str]:
    """Each connection has a thread, which runs ``answers`` until it returns or fails."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                answers(client)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=one, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def repeating(answer: bytes) -> Callable[[socket.socket], None]:
    """A server of one answer."""

    def answers(client: socket.socket) -> None:
        while client.recv(65_536):
            client.sendall(answer)

    return answers


def test_every_request_is_sent_and_answered() -> None:
    with server(repeating(ANSWER)) as address:
        seen = open_loop.run(address, seconds=0.5, per_second=PER_SECOND)
    assert (seen.sent, seen.errors) == (100, 0)
    assert 0 < seen.p50_ms <= seen.p99_ms


def test_a_stall_counts_for_all_that_were_due_in_it() -> None:
    """A closed loop would see 32 slow answers, and wait with the rest."""
    lock, stalled = threading.Lock(), threading.Event()

    def answers(client: socket.socket) -> None:
        while client.recv(65_536):
            with lock:  # whoever is first holds up everybody
                if not stalled.is_set():
                    stalled.wait(STALL_SECONDS)
                    stalled.set()
            client.sendall(ANSWER)

    with server(answers) as address:
        seen = open_loop.run(address, seconds=STALL_SECONDS, per_second=PER_SECOND)
    assert seen.errors == 0
    assert seen.p50_ms > STALL_SECONDS * 1000 / 4  # evenly spread from the whole stall to nothing


def test_what_is_no_200_is_an_error() -> None:
    with server(repeating(ANSWER.replace(b"200", b"503"))) as address:
        seen = open_loop.run(address, seconds=0.2, per_second=PER_SECOND)
    assert (seen.sent, seen.errors) == (40, 40)


def test_a_connection_that_is_closed_under_a_request_is_an_error_and_replaced() -> None:
    def answers(client: socket.socket) -> None:
        client.recv(65_536)

    with server(answers) as address:
        seen = open_loop.run(address, seconds=0.2, per_second=PER_SECOND)
    assert (seen.sent, seen.errors) == (40, 40)
