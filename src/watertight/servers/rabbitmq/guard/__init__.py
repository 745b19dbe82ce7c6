"""The broker's own part of the enforcement: a plugin, for what its permissions cannot say, and for
its memory.

Its source is one of the server's files; the broker's host compiles it, with the broker's Erlang.
"""

from pathlib import Path

NAME = "watertight_guard"
SOURCE = f"{NAME}.erl"
MEMORY = "watertight_memory"
APPLICATION = f"{NAME}.app"
FILES = {
    name: (Path(__file__).parent / name).read_text(encoding="utf-8")
    for name in (SOURCE, f"{MEMORY}.erl", APPLICATION)
}
DIRECTORY = NAME
"""Where it is put, compiled, below a directory of plugins."""
BUILD = (
    'rm -rf "$3" && mkdir -p "$3/ebin" && '
    f'"$1" +deterministic -o "$3/ebin" "$2/{SOURCE}" "$2/{MEMORY}.erl" && '
    f'cp "$2/{APPLICATION}" "$3/ebin"'
)
"""For a shell; the compiler, the sources' directory, and where it is put."""
