"""Lists as YAML's flow style writes them, for hints that can be pasted."""

import json
from collections.abc import Iterable

import yaml


def as_list(words: Iterable[str]) -> str:
    """``[node, ok.js, "3001"]``: words that YAML would read as something else are quoted."""
    return f"[{', '.join(map(_item, words))}]"


def _item(word: str) -> str:
    try:
        plain = yaml.safe_load(f"[{word}]") == [word]
    except (yaml.YAMLError, ValueError):
        plain = False
    return word if plain else json.dumps(word, ensure_ascii=False)
