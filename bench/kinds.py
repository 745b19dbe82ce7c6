"""The kinds of server that ``bench.resources`` measures: a declaration and its plaintext twin."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import plaintext
from bench.plaintext import DATABASE, Where

RESOURCE = "server"
NATIVE, UNMODIFIED = "native", "unmodified"
"""Two services: one that speaks TLS itself, one whose proxy does."""
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS items (id int PRIMARY KEY, note text); "
    "INSERT INTO items SELECT n, 'item ' || n FROM generate_series(0, 999) AS n "
    "ON CONFLICT DO NOTHING;"
)
"""As many rows as the driver asks for."""


@dataclass(frozen=True)
class Kind:
    """One kind of server."""

    kind: str
    """In the declaration, and in the driver."""
    title: str
    operations: str
    """What is counted."""
    keys: str
    """Of the resource, in YAML."""
    grants: str
    """Of each channel, in YAML."""
    originate: bool
    """Whether a proxy can speak its TLS for a client."""
    plaintext: Callable[[Path, Path], AbstractAsyncContextManager[Where]]
    """Directory, the server's program → a server in the clear."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What stands beside the declaration."""

    @property
    def declaration(self) -> str:
        """A system of this one resource."""
        callers = {NATIVE: ""} | ({UNMODIFIED: ", originate: true"} if self.originate else {})
        services = "".join(f"  {name}: {{run: [sleep, infinity]}}\n" for name in callers)
        channels = "".join(
            f"  - {{from: {name}, to: {RESOURCE}, {self.grants}{more}}}\n"
            for name, more in callers.items()
        )
        keys = f"{{kind: {self.kind}{self.keys}}}"
        return (
            f"trust_domain: bench.internal\nservices:\n{services}"
            f"resources:\n  {RESOURCE}: {keys}\nchannels:\n{channels}"
        )


KINDS = (
    Kind(
        kind="postgresql",
        title="PostgreSQL",
        operations="SELECTs",
        keys=f", database: {DATABASE}, schema: schema.sql",
        grants="tables: {items: [select]}",
        originate=True,
        plaintext=partial(plaintext.postgresql, schema=SCHEMA),
        files={"schema.sql": SCHEMA + "\n"},
    ),
    Kind(
        kind="nats",
        title="NATS",
        operations="messages",
        keys="",
        grants="publish: [items]",
        originate=False,
        plaintext=plaintext.nats,
    ),
    Kind(
        kind="rabbitmq",
        title="RabbitMQ",
        operations="messages",
        keys=", exchanges: {items: fanout}",
        grants="publish: {items: any}",
        originate=True,
        plaintext=plaintext.rabbitmq,
    ),
)
