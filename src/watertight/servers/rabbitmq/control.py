"""Talking to a running broker: by its own command, and by a plain Erlang that asks it.

Either starts an Erlang of its own each time; a plain one takes two fifths of the processor time.
"""

import itertools
import re
from pathlib import Path

from watertight.enforcers.resource import ServerHost
from watertight.errors import WatertightError
from watertight.servers.rabbitmq.locate import ERLANG, ON_LOOPBACK

TIMEOUT_SECONDS = 60.0


class BrokerRefused(WatertightError):
    """The broker, or its command, does not do what it is asked."""


class CookieRefused(BrokerRefused):
    """The command has another cookie than the broker: somebody has changed the file."""


_COOKIE = re.compile(
    r"TCP connection succeeded but Erlang distribution failed|failed_to_start_child,\s*:?auth\b"
)
"""What is said then: that the command is refused, or that the file cannot be read."""


async def control(host: ServerHost, *words: str) -> str:
    """What ``rabbitmqctl`` says. Raises :class:`BrokerRefused`."""
    command = str(Path(host.process.argv[0]).with_name("rabbitmqctl"))
    done = await host.run((command, "-q", *words), timeout_seconds=TIMEOUT_SECONDS)
    if done.status:
        refused = CookieRefused if _COOKIE.search(done.output) else BrokerRefused
        raise refused(
            f"{host.resource}: `rabbitmqctl {words[0]}` fails: {_reason(done.output)}",
            remedy=f"The end of its log:\n{host.log()}",
        )
    return done.output


def _reason(output: str) -> str:
    """Its first paragraph: what follows are pages of diagnostics."""
    _, _, told = output.partition("Error:")
    paragraph = (told or output).strip().partition("\n\n")[0]
    return " ".join(paragraph.split())[:300] or "it gives no reason"


_REFUSED = 3
_NAMES = 64
"""Of those who ask, taken in turn: a broker keeps each name that it ever heard (an atom) for good,
and who asks at the same time must have another one."""
_numbers = itertools.count()
_ASK = f"""\
Node = list_to_atom(os:getenv("RABBITMQ_NODENAME")),
[Asked] = init:get_plain_arguments(),
{{ok, Tokens, _}} = erl_scan:string(Asked),
{{ok, Parsed}} = erl_parse:parse_exprs(Tokens),
{{Status, Said}} = case net_kernel:connect_node(Node) of
    true ->
        case rpc:call(Node, erl_eval, exprs, [Parsed, []]) of
            {{value, Value, _}} -> {{0, Value}};
            Failed -> {{1, Failed}}
        end;
    _ ->
        Port = list_to_integer(os:getenv("RABBITMQ_DIST_PORT")),
        case gen_tcp:connect({{127, 0, 0, 1}}, Port, [], 2000) of
            {{ok, _}} -> {{{_REFUSED}, "the broker refuses the cookie"}};
            {{error, Why}} -> {{2, {{Node, Why}}}}
        end
end,
io:format("~p~n", [Said]),
halt(Status).
"""
"""Whose connection is taken and who is no peer all the same has another cookie."""


async def evaluate(host: ServerHost, *expressions: str) -> str:
    """What the broker makes of Erlang expressions, all in one call; the value of the last.

    Raises :class:`BrokerRefused`.
    """
    name = f"watertight-{next(_numbers) % _NAMES}@localhost"
    node = ("-noinput", "-dist_listen", "false", "-sname", name, *ON_LOOPBACK.split())
    asked = f"{', '.join(expressions)}."
    done = await host.run(
        (ERLANG, *node, "-eval", _ASK, "-extra", asked), timeout_seconds=TIMEOUT_SECONDS
    )
    if done.status:
        refused = done.status == _REFUSED or _COOKIE.search(done.output)
        raise (CookieRefused if refused else BrokerRefused)(
            f"{host.resource}: the broker does not answer: {_reason(done.output)}",
            remedy=f"The end of its log:\n{host.log()}",
        )
    return done.output.strip()
