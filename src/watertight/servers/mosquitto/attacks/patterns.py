"""How MQTT reads a pattern of topics, as the attacker reads it. Pure."""

import re
from collections.abc import Sequence


def covered(patterns: Sequence[str], asked: str) -> bool:
    """Whether one of the patterns covers all that is asked for (MQTT 5, section 4.7).

    Read here once more, and not as who sets the rights reads it: an error would be in both.
    """
    return any(re.fullmatch(_expression(pattern), asked, re.DOTALL) for pattern in patterns)


def _expression(pattern: str) -> str:
    no_broker_topic = r"(?!\$)" if pattern[:1] in ("+", "#") else ""
    if pattern == "#":
        return no_broker_topic + ".*"
    head = pattern.removesuffix("/#")
    levels = (r"[^/#]*" if level == "+" else re.escape(level) for level in head.split("/"))
    return no_broker_topic + "/".join(levels) + ("(/.*)?" if head != pattern else "")
