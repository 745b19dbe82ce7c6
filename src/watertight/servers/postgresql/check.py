"""What is wrong with the declaration of a PostgreSQL database, and with the channels to it."""

from collections.abc import Iterator

from watertight.enforcers.resource import channels_to, keys
from watertight.model import codes
from watertight.model.document import DocumentPath, quoted
from watertight.model.findings import Severity
from watertight.model.rules import Flaw
from watertight.model.system import Channel, Resource, System
from watertight.servers.postgresql.declaration import (
    DEFAULT_SCHEMA,
    MAX_NAME_BYTES,
    RESERVED_PREFIX,
    DatabaseKeys,
    GrantKeys,
    bytes_of_a_session,
    channel_keys,
    parse_object,
)
from watertight.servers.postgresql.limits import (
    check_memory,
    check_shares,
    most_sessions,
    shares,
)
from watertight.servers.postgresql.uses import granted

_TAKEN_ROLES = {"none", "public"}


def check(system: System, resource: Resource) -> Iterator[Flaw]:
    """What is wrong with the database's own keys, and with the channels to it."""
    own = ("resources", resource.name)
    database, wrong = keys(DatabaseKeys, own, resource.options)
    yield from wrong
    asked: list[int | None] = []
    for path, channel in channels_to(system, resource.name):
        yield from _role(path, channel)
        shape, flaws = keys(GrantKeys, path, channel.options)
        yield from flaws
        if shape is None:
            continue
        asked.append(shape.connections)
        yield from _twice(path, channel)
        if database is not None:
            yield from _makes(system, resource, database, path, channel)
        if not granted(channel) and not shape.temporary:
            yield Flaw(
                codes.GRANTS_NOTHING,
                path,
                f"{quoted(channel.source)} may log in to {quoted(resource.name)}, "
                "and do nothing there.",
                "Grant it `tables`, `sequences`, `schemas` or `functions`.",
                Severity.WARNING,
            )
    if database is not None:
        where = (*own, "connections") if "connections" in resource.options else own
        yield from check_shares(resource.name, where, shares(database.connections, asked))
        if not resource.external:
            yield from check_memory(
                resource.name,
                own,
                most_sessions(database.connections, asked),
                bytes_of_a_session(resource, database, asked),
                resource.limits,
            )


def _makes(
    system: System, resource: Resource, database: DatabaseKeys, path: DocumentPath, channel: Channel
) -> Iterator[Flaw]:
    """A service that may make things where others look for names without a schema."""
    if "create" not in (p for p, _ in channel_keys(channel).schemas.get(DEFAULT_SCHEMA, ())):
        return
    name, where = quoted(channel.source), (*path, "schemas", DEFAULT_SCHEMA)
    remedy = (
        "Give it a schema of its own (`schemas: {NAME: [create, usage]}`), which its sessions find "
        "by `options=-csearch_path%3DNAME`."
    )
    runs = ["its `schema` file"] if database.schema_file else []
    runs += ["the scripts of its extensions"] if database.extensions else []
    others = [c.source for c in system.incoming(resource.name) if c.source != channel.source]
    if runs and not resource.external:
        yield Flaw(
            codes.MAKES_WHERE_OWNER_LOOKS,
            where,
            f"{name} may make things in {quoted(DEFAULT_SCHEMA)}, which is searched by "
            f"{' and '.join(runs)}: its code would run as the owner of {quoted(resource.name)}.",
            remedy,
        )
    elif others:
        yield Flaw(
            codes.MAKES_WHERE_SERVICES_LOOK,
            where,
            f"{name} may make things in {quoted(DEFAULT_SCHEMA)}, where others look for names: its "
            f"code runs as whoever finds it ({', '.join(sorted(others))}).",
            remedy,
            Severity.WARNING,
        )


def _role(path: DocumentPath, channel: Channel) -> Iterator[Flaw]:
    name = channel.source
    if name in _TAKEN_ROLES or name.startswith(RESERVED_PREFIX):
        yield Flaw(
            codes.RESOURCE_NAME,
            (*path, "from"),
            f"PostgreSQL has no role {quoted(name)} to give: it keeps that name for itself.",
            "Give the service another name.",
        )
    elif len(name.encode()) > MAX_NAME_BYTES:
        yield Flaw(
            codes.RESOURCE_NAME,
            (*path, "from"),
            f"{quoted(name)} has {len(name.encode())} bytes; "
            f"a role of PostgreSQL has at most {MAX_NAME_BYTES}.",
            "Give the service a shorter name.",
        )


def _twice(path: DocumentPath, channel: Channel) -> Iterator[Flaw]:
    """``orders`` and ``public.orders`` are one table."""
    for part in ("tables", "sequences", "functions"):
        seen: dict[tuple[str, str], str] = {}
        for key in channel.options.get(part, {}):
            first = seen.setdefault(parse_object(key), key)
            if first != key:
                yield Flaw(
                    codes.RESOURCE_GRANT,
                    (*path, part, key),
                    f"{quoted(key)} is {quoted(first)}, which stands here already.",
                    "Put all its grants into one.",
                    on_key=True,
                )
