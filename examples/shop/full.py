"""The shop with what needs RabbitMQ: its declaration, and what jobs.yaml adds to it."""

from pathlib import Path

import yaml

JOBS = Path(__file__).with_name("jobs.yaml")


def merged(shop: Path) -> str:
    """The declaration with what jobs.yaml adds."""
    whole, more = (yaml.safe_load(file.read_text()) for file in (shop, JOBS))
    for part in ("services", "resources"):
        whole[part] |= more[part]
    whole["channels"] += more["channels"]
    return yaml.safe_dump(whole, sort_keys=False)


def write(shop: Path) -> Path:
    """Writes ``full.yaml`` beside the declaration; what is relative in it stays so."""
    file = shop.with_name("full.yaml")
    file.write_text(merged(shop))
    return file
