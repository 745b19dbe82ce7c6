"""Writes ``docs/reference/``: commands, declaration, probes, all from the code itself.

python tools/reference.py           # what `make reference` does
python tools/reference.py --check   # fails if a page is not what the code says
"""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from watertight.attack.probe import Deep, Probe
from watertight.cli.app import app, load
from watertight.enforcers.registry import enforcers, shapes
from watertight.model.load import load_text
from watertight.model.schema import json_schema

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = REPOSITORY / "docs" / "reference"
SHOP = REPOSITORY / "examples" / "shop"
PROBES_ARE = (
    "What `watertight verify` tries. The attempts are those on one channel of "
    "[the shop](../../examples/shop/watertight.yaml) with "
    "[all servers](../../examples/shop/more); `refused` and `served` are what must "
    "come of them. A probe that could not run is `not_run` and never counts as held.\n"
)
MADE = "<!-- Made by `make reference` from the code: edit that. -->\n"


def commands() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="watertight")
    parts = ["# Commands\n", MADE, f"{group.help}\n", f"{group.epilog}\n"]
    for name in group.list_commands(context):
        command = load(name)
        parts += _command(name, command, typer.Context(command, info_name=name, parent=context))
    return "\n".join(parts)


def _command(name: str, command: Any, context: typer.Context) -> Iterator[str]:
    yield f"## `watertight {name}`\n"
    yield f"{(command.help or '').strip()}\n"
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"```\nwatertight {name} {pieces}\n```\n"
    rows = [_parameter(parameter, context) for parameter in command.get_params(context)]
    if any(rows):
        yield "| | |\n|---|---|"
        yield "\n".join(row for row in rows if row) + "\n"


def _parameter(parameter: Any, context: typer.Context) -> str:
    record = parameter.get_help_record(context)
    if record is None or "--help" in record[0]:
        return ""
    name, text = (part.replace("|", "\\|").replace("\n", " ") for part in record)
    return f"| `{name}` | {' '.join(text.split())} |"


def declaration() -> str:
    """Every key of the declaration, as its JSON Schema says."""
    schema = json_schema(shapes())
    parts = ["# The declaration\n", MADE, f"{schema.get('description', '')}\n"]
    parts.append("`watertight schema` prints the JSON Schema that this page is made from.\n")
    parts += _object("watertight.yaml", schema)
    definitions = schema.get("$defs", {})
    for name in sorted(definitions, key=lambda name: "." in name):  # those of kinds come last
        if definitions[name].get("type") == "object":
            parts += _object(_noun(name), definitions[name])
    return "\n".join(parts)


def _object(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"## {name}\n"
    common = [key for key, value in schema.get("properties", {}).items() if value is True]
    whose = "channel" if "from" in common else "resource"
    also = f" Besides the keys of [a {whose}](#{whose}):" if common else ""
    if schema.get("description") and name != "watertight.yaml":
        yield f"{' '.join(schema['description'].split())}{also}\n"
    required = schema.get("required", [])
    yield "| key | type | |\n|---|---|---|"
    for key, value in schema.get("properties", {}).items():
        if value is True:
            continue
        text = " ".join(str(value.get("description", "")).split()).replace("|", "\\|")
        star = " (required)" if key in required else ""
        default = "" if "enum" in value else _default(value.get("default"), text)
        yield f"| `{key}`{star} | {_type(value)} | {text}{default} |"
    yield ""


def _default(value: Any, said: str) -> str:
    """What holds where a key is left out, unless the text says so or there is nothing."""
    if value is None or isinstance(value, (dict, list)) or "unless stated" in said:
        return ""
    shown = str(value).lower() if isinstance(value, bool) else value
    return f" Default: `{shown}`."


def _noun(definition: str) -> str:
    """``ChannelShape`` is what the schema calls a channel, ``kafka.channel`` one to that kind."""
    kind, _, part = definition.rpartition(".")
    if not kind:
        return definition.removesuffix("Shape").lower()
    known = {"resource": f"a resource of kind {kind}", "channel": f"a channel to {kind}"}
    return known.get(part, f"{part.removesuffix('Keys').lower()} of {kind}")


def _link(noun: str) -> str:
    return f"[{noun}](#{noun.replace(' ', '-')})"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _link(_noun(str(schema["$ref"]).rpartition("/")[2]))
    for many in ("anyOf", "oneOf"):
        if many in schema:
            kinds = (_type(one) for one in schema[many] if one.get("type") != "null")
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(dict.fromkeys(f"`{value}`" for value in schema["enum"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    kinds = schema.get("type", "anything")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def probes() -> str:
    """Every probe, as tried on the shop: what is attempted and what must come of it."""
    full = runpy.run_path(str(SHOP / "full.py"))
    shop = load_text(full["merged"](SHOP / "watertight.yaml", full["parts"]()))
    parts = [
        "# Probes\n",
        MADE,
        PROBES_ARE,
    ]
    for kind, enforcer in sorted(enforcers().items()):
        first: dict[str, Probe] = {}
        search = getattr(enforcer(), "deep_probes", None)
        generated = search(shop, Deep(1, 60.0)) if search else ()
        for probe in (*enforcer().probes(shop), *generated):
            first.setdefault(probe.id, probe)
        parts.append(f"## {kind}\n\n| id | kind | for example | expected |\n|---|---|---|---|")
        for name, probe in sorted(first.items()):
            attempt = probe.attempt.replace("|", "\\|")
            parts.append(
                f"| `{name}` | {probe.kind} | {probe.channel}: {attempt} | {probe.expected} |"
            )
    return "\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """File name → text of every page."""
    return {"commands.md": commands(), "declaration.md": declaration(), "probes.md": probes()}


def main() -> int:
    """Writes the pages, or with ``--check`` only compares."""
    stale = []
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        file = PAGES / name
        if not file.exists() or file.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                file.write_text(text)
    if "--check" in sys.argv and stale:
        print(f"Not what the code says: {', '.join(stale)}. Run: make reference", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
