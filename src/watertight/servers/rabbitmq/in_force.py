"""What a running broker runs with, which need not be what its files say now.

RabbitMQ reads its files when it starts. Somebody may have changed one, started it again, and put
the file back; or changed a setting of the running broker. So apply writes down what a broker looks
like that it has just started with the right files, and whatever differs from that is drift.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.rabbitmq import guard
from watertight.servers.rabbitmq.control import BrokerRefused, evaluate
from watertight.servers.rabbitmq.erlang import binary
from watertight.servers.rabbitmq.facts import DEFINITIONS

RECORD = "in-force.json"
FILES = "files"
APPLICATIONS = "[rabbit, rabbit_common, kernel, ssl, public_key, mnesia, ra, os_mon, syslog]"
"""Erlang applications whose settings decide what a broker does; with them, those of its plugins."""
_ASKED = re.compile(r'<<"([A-Za-z0-9+/=]*)">>')
_HASH = "base64:encode(crypto:hash(sha256, term_to_binary(Term, [deterministic])))"


@dataclass(frozen=True, slots=True)
class State:
    """A broker as it is."""

    version: str
    definitions: Mapping[str, Any]
    runs_with: Mapping[str, str]
    """Part of its settings → hash."""
    recorded: Mapping[str, str]
    """The same, as they were when apply had started it, and ``files``; empty if never."""


def record_of(plan: ServerPlan, host: ServerHost) -> str:
    """Where the record lies: among what is the server's own."""
    return str(host.placement.server_data(plan.resource) / RECORD)


def files_of(plan: ServerPlan) -> str:
    """A hash of every file that a broker reads only when it starts."""
    read = sorted((name, text) for name, text in plan.files.items() if name != DEFINITIONS)
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()


async def look(plan: ServerPlan, host: ServerHost) -> State:
    """All of it in one call of the broker's command. Raises :class:`BrokerRefused`."""
    said = await evaluate(
        host,
        f"Hash = fun(Term) -> {_HASH} end",
        f"Applications = lists:usort({APPLICATIONS} ++ rabbit_plugins:active())",
        "Settings = [{A, Hash(lists:sort(application:get_all_env(A)))} || A <- Applications]",
        _BESIDES,
        f"Recorded = case file:read_file({binary(record_of(plan, host))}) of "
        "{ok, Text} -> Text; _ -> <<>> end",
        "base64:encode(iolist_to_binary(rabbit_json:encode(#{"
        "version => iolist_to_binary(rabbit_misc:version()), "
        "definitions => rabbit_definitions:all_definitions(), "
        "runs_with => maps:from_list(Settings ++ Besides), recorded => Recorded})))",
    )
    match = _ASKED.fullmatch(said)
    if match is None:
        raise BrokerRefused(f"{host.resource}: the broker does not say what it is: {said[:200]}")
    found = json.loads(base64.b64decode(match[1]))
    return State(
        found["version"], found["definitions"], found["runs_with"], _read(found["recorded"])
    )


_BESIDES = f"""\
Listening = [{{element(3, L), element(5, L), element(6, L)}} \
|| L <- rabbit_networking:active_listeners()], \
Environment = [V || V <- os:getenv(), \
lists:prefix("RABBITMQ_", V) orelse lists:prefix("ERL_", V)], \
Besides = [{{plugins, Hash(lists:sort(rabbit_plugins:active()))}}, \
{{listeners, Hash(lists:sort(Listening))}}, \
{{environment, Hash(lists:sort(Environment))}}, \
{{arguments, Hash(lists:sort(init:get_arguments()))}}, \
{{memory, Hash({{vm_memory_monitor:get_vm_memory_high_watermark(), \
vm_memory_monitor:get_check_interval(), is_pid(whereis({guard.MEMORY}))}})}}, \
{{cookie, Hash(erlang:get_cookie())}}, \
{{interceptors, Hash(lists:sort(rabbit_registry:lookup_all(channel_interceptor)))}}, \
{{guard, Hash(catch [M:module_info(md5) || M <- [{guard.NAME}, {guard.MEMORY}]])}}]"""


def _read(text: str) -> Mapping[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def not_in_force(plan: ServerPlan, state: State) -> list[str]:
    """What the broker runs with that its files do not say, a line each."""
    if not state.recorded:
        return ["nobody knows with what files the broker was started"]
    if state.recorded.get(FILES) != files_of(plan):
        return ["the broker was started with other files"]
    parts = sorted({*state.runs_with, *state.recorded} - {FILES})
    odd = [part for part in parts if state.runs_with.get(part) != state.recorded.get(part)]
    what = "the broker runs with other settings than its files say"
    return [f"{what}: {', '.join(odd)}"] if odd else []


async def record(plan: ServerPlan, host: ServerHost, state: State) -> None:
    """Writes down how a broker looks that was just started with the plan's files."""
    text = json.dumps({**state.runs_with, FILES: files_of(plan)})
    said = await evaluate(host, f"file:write_file({binary(record_of(plan, host))}, {binary(text)})")
    if said != "ok":
        raise BrokerRefused(f"{host.resource}: what it runs with cannot be written down: {said}")
