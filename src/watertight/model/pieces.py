"""What a channel grants at a resource, piece by piece, whatever keys its kind has."""

from collections.abc import Iterator, Mapping, Sequence


def pieces(said: object, *where: str) -> Iterator[str]:
    """``publish orders.placed``, ``buckets settings read``, ``reply true``."""
    if isinstance(said, Mapping):
        for key, value in said.items():
            yield from pieces(value, *where, str(key))
    elif isinstance(said, Sequence) and not isinstance(said, str):
        for value in said:
            yield from pieces(value, *where)
    else:
        shown = str(said).lower() if isinstance(said, bool) else str(said)
        yield " ".join([*where, shown])
