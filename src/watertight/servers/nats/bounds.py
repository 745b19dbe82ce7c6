"""How many messages a stream may hold, so that what the server must remember of them fits its
memory. Pure.

JetStream keeps every subject of a stream in memory, also of one on disk (nats-server issue 8485),
and reads them all in again when it starts. So who may publish to subjects of his own choice fills
the server's memory long before ``max_size``, and a server that was killed for it is killed again.
Measured on nats-server 2.15, messages of one byte with random subjects: 370 bytes for a subject
of 31 characters, 840 for 207, 2,860 for 907.
"""

from collections.abc import Mapping

from watertight.model.system import Resource, System
from watertight.servers.nats.declaration import Server, Stream, publishers

MAX_LINE_BYTES = 1024
"""What a client may say in one line, and so the longest subject (4,096 in nats-server). CONNECT
is a line, too: clients send some 300 bytes."""
SUBJECT_BYTES = 3 << 10
"""What one message may cost in memory: a subject as long as a line."""
SHARE = 4
"""A quarter of the memory is for what streams hold."""
LEAST_MESSAGES = 1000


def is_open(system: System, resource: Resource, stream: Stream) -> bool:
    """Whether somebody may choose new subjects of it at will. Else their number is declared, and
    a message costs no memory."""
    named = publishers(system, resource, stream).values()
    return any({"*", ">"} & set(s.split(".")) for subjects in named for s in subjects)


def most_messages(system: System, resource: Resource, wanted: Server) -> Mapping[str, int]:
    """Stream → how many messages it may hold; -1: as many as have room on the disk.

    What is declared, holds; the others have equal parts of what that leaves.
    """
    every = [s for s in wanted.streams.values() if is_open(system, resource, s)]
    unstated = [s for s in every if s.max_messages is None]
    left = room(resource) - sum(s.max_messages or 0 for s in every)
    part = max(LEAST_MESSAGES, left // max(1, len(unstated)))
    found = {s.name: s.max_messages or -1 for s in wanted.streams.values()}
    return {**found, **{s.name: part for s in unstated}}


def over_memory(system: System, resource: Resource, wanted: Server) -> int:
    """How many messages its streams with open subjects may hold, if that is more than fits; 0."""
    most = most_messages(system, resource, wanted)
    every = sum(most[s.name] for s in wanted.streams.values() if is_open(system, resource, s))
    return every if every > room(resource) else 0


def room(resource: Resource) -> int:
    """How many messages of all streams with open subjects fit the server's memory."""
    return resource.limits.memory_bytes // SHARE // SUBJECT_BYTES
