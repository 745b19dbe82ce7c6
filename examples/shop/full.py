"""The shop with all that this machine can have.

Each file in ``more/`` adds one server, and the services that use it.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

MORE = Path(__file__).with_name("more")
NO_SERVER = ("WT-E1445", "WT-W1445")
"""What ``watertight lint`` says of a resource whose server is not installed."""


def parts() -> list[Path]:
    """All that could be added."""
    return sorted(MORE.glob("*.yaml"))


def merged(shop: Path, more: Iterable[Path]) -> str:
    """The declaration with what the files add."""
    whole = yaml.safe_load(shop.read_text())
    for file in more:
        added = yaml.safe_load(file.read_text())
        for part in ("services", "resources"):
            whole[part] |= added[part]
        whole["channels"] += added["channels"]
    return yaml.safe_dump(whole, sort_keys=False)


def write(shop: Path, more: Iterable[Path]) -> Path:
    """Writes ``full.yaml`` beside the declaration; what is relative in it stays so."""
    file = shop.with_name("full.yaml")
    file.write_text(merged(shop, more))
    return file


def left_out(shop: Path) -> Iterator[tuple[Path, str]]:
    """The parts whose server this machine does not have, each with what is missing."""
    for part in parts():
        file = write(shop, [part])
        lint = [sys.executable, "-m", "watertight.cli", "lint", "--output", "json", file]
        said = subprocess.run(lint, capture_output=True, text=True, check=False).stdout
        for finding in json.loads(said)["findings"]:
            if finding["code"] in NO_SERVER:
                yield part, finding["message"]


def services(part: Path) -> list[str]:
    """Those that a part adds."""
    return list(yaml.safe_load(part.read_text())["services"])


def told(declaration: Path) -> str:
    """What stands in a declaration, in a few words."""
    whole = yaml.safe_load(declaration.read_text())
    kinds = ", ".join(resource["kind"] for resource in whole["resources"].values())
    return f"{len(whole['services'])} services, and {kinds}"
