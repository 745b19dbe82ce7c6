"""Generated AMQP: nothing is done that no grant names, nobody loses a message, holes are found."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import aio_pika
import pytest
import pytest_asyncio

from tests.identity.serving.polling import eventually_async
from tests.rig import Rig, not_held, running_server
from tests.servers.rabbitmq.clients import connected
from tests.servers.rabbitmq.courier import Route, allows, courier, leads
from tests.servers.rabbitmq.sabotages import NOTHING, RIGHT_WRITE, UNGUARDED, USER
from tests.servers.rabbitmq.shop import SHOP
from watertight.attack.choices import Choices
from watertight.attack.login import Login
from watertight.attack.probe import Deep, Verdict
from watertight.model.load import load_text
from watertight.model.system import System
from watertight.servers.rabbitmq.attacks import deep, frames
from watertight.servers.rabbitmq.attacks.deep import methods
from watertight.servers.rabbitmq.attacks.deep.grammar import MODES, OLDER, TRANSACTION, generate
from watertight.servers.rabbitmq.attacks.deep.oracle import REPLIES, World
from watertight.servers.rabbitmq.attacks.deep.work import LISTENS, Colleague
from watertight.servers.rabbitmq.attacks.dialect import RabbitMQDialect
from watertight.servers.rabbitmq.attacks.sessions import Caller
from watertight.servers.rabbitmq.control import control
from watertight.servers.rabbitmq.declaration import broker, grants
from watertight.servers.rabbitmq.server import RabbitMQ

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALIKE = SHOP.replace("queues: [", "queues: [news, events, ")
"""Queues that are called as exchanges are: a permission is to a name, whatever it is of."""
FOUND = re.compile(r"python3 -c .* \(as \w+\)", re.DOTALL)
CASES = 40


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with running_server(RabbitMQ(), ALIKE) as running:
        yield running


def caller_of(system: System, service: str) -> Caller:
    (channel,) = [c for c in system.channels if c.source == service]
    login = Login(system, system.resources["jobs"], service)
    return Caller(RabbitMQDialect(), login, grants(channel))


def world(service: str = "orders", *, expendable: bool = False) -> World:
    system = load_text(ALIKE.replace("{port}", "5671"))
    callers = tuple(caller_of(system, channel.source) for channel in system.channels)
    (caller,) = [c for c in callers if c.login.service == service]
    return World(caller, broker(system.resources["jobs"]), callers, expendable)


async def test_the_plainest_attack_is_one_permitted_message_and_attacks_differ() -> None:
    plain = generate(Choices(again=[]), world())
    assert [step.what for step in plain.steps] == [
        "publish to 'events' with the key 'orders.placed'"
    ]
    assert plain.steps[0].may
    made = [generate(Choices(f"{n}"), world()) for n in range(400)]
    assert len({step.what for attack in made for step in attack.steps}) > 500
    assert {step.may for attack in made for step in attack.steps} == {True, False}
    assert {attack.header for attack in made} == {frames.HEADER, *OLDER}


async def test_where_applications_use_the_broker_nothing_is_delivered_or_taken() -> None:
    """Every message is in a transaction that nobody commits, and no granted queue is read."""
    made = [generate(Choices(f"{n}"), world("billing")) for n in range(150)]
    for attack in made:
        if any(step.sends for step in attack.steps):
            assert attack.mode == TRANSACTION
        for step in attack.steps:
            assert "tx.commit" not in step.what
            assert not (step.may and step.what.startswith(("get", "purge")))
            assert not (step.may and re.match(r"consume from '(?!amq)\w", step.what))
    free = [generate(Choices(f"{n}"), world("billing", expendable=True)) for n in range(150)]
    assert {attack.mode for attack in free} == set(MODES)
    assert any(step.may and step.what.startswith("get") for a in free for step in a.steps)


async def test_nothing_is_done_that_no_grant_names(rig: Rig) -> None:
    searches = list(deep.probes(rig.system, Deep(1, 60, cases=CASES)))
    assert len(searches) == 5
    results = await rig.run(searches)
    assert not_held(results) == {}
    assert all(" methods done that may be" in result.observed for result in results)
    assert await rig.enforcer.drift(rig.plan, rig.host) == []


ROUTES = {
    ("billing", "lobby", "clerk"): Route("orders", "to.parcels", "parcels", "parcels", "packer"),
    ("orders", "lobby", "clerk"): Route("billing", "desk", "parcels", "parcels", "packer"),
    ("packer", "lobby"): Route("orders", "events", "orders.placed", "invoices", "clerk"),
}


def default(chosen: Sequence[Any], all_of: Iterable[Any]) -> list[Any]:
    """These in every run, the others in the exhaustive one."""
    slow = pytest.mark.slow
    return [pytest.param(one, marks=() if one in chosen else slow, id=str(one)) for one in all_of]


@pytest.mark.parametrize("attackers", default([("billing", "lobby", "clerk")], ROUTES))
async def test_no_message_is_lost_and_none_comes_that_no_grant_explains(
    rig: Rig, attackers: Sequence[str]
) -> None:
    """Here everything is expendable: what is sent arrives, and what may be read is read."""
    await attacked_beside_others(rig, attackers, Deep(2, 60, cases=CASES))


async def attacked_beside_others(rig: Rig, attackers: Sequence[str], limits: Deep) -> None:
    route = ROUTES[tuple(attackers)]
    declared = broker(rig.system.resources["jobs"])
    searches = deep.probes(rig.system, limits, expendable=True)
    async with courier(rig, route) as seen:
        chosen = [p for p in searches if p.channel.removesuffix(" -> jobs") in attackers]
        assert not_held(await rig.run(chosen)) == {}
    assert seen.marks == [f"mark {n}" for n in range(len(seen.marks))]
    assert len(seen.marks) - seen.sent in (0, 1)  # the last one may have come unconfirmed
    explained = leads(declared, route.queue)
    for text in filter(None, seen.others):  # an empty one says nothing of itself
        service, exchange, key = json.loads(text)
        granted = caller_of(rig.system, service).granted
        assert allows(granted, declared, exchange, key), text
        assert explained(exchange, key), text
    assert await rig.enforcer.drift(rig.plan, rig.host) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_nothing_is_done_that_no_grant_names_in_a_long_search(rig: Rig) -> None:
    for seed in range(3, 6):
        results = await rig.run(list(deep.probes(rig.system, Deep(seed, 100, 1_500))))
        assert not_held(results) == {}
        for attackers in ROUTES:
            await attacked_beside_others(rig, attackers, Deep(seed, 100, 500))


def permissions(configure: str, write: str, read: str) -> Sequence[str]:
    return ("set_permissions", "-p", "jobs", USER, configure, write, read)


HOLES = {
    "no guard": (UNGUARDED[0], ""),
    "any routing key": (("clear_topic_permissions", "-p", "jobs", USER), "publish to 'events'"),
    "any exchange": (permissions(NOTHING, ".*", NOTHING), "publish to "),
    "declaring": (permissions(".*", RIGHT_WRITE, NOTHING), "declare the "),
    "reading": (permissions(NOTHING, RIGHT_WRITE, ".*"), "from "),
    "the end of a name": (
        permissions(NOTHING, r"^(events|to\.parcels)$", NOTHING),
        "permitted, but 404",
    ),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("hole", default(["any routing key"], HOLES))
async def test_a_hole_is_found_and_told_as_a_script_that_runs(rig: Rig, hole: str) -> None:
    command, says = HOLES[hole]
    await control(rig.host, *command)
    try:
        searches = deep.probes(rig.system, Deep(3, 60, cases=3_000))
        (found,) = await rig.run([p for p in searches if p.channel == "orders -> jobs"])
        assert found.verdict is Verdict.BROKEN
        assert says in found.observed
        assert "of seed 3)" in found.observed
        said = await asyncio.to_thread(run_script, rig, found.observed)
        assert not re.search("ACCESS_REFUSED|Error", said), said
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)
    said = await asyncio.to_thread(run_script, rig, found.observed)
    assert "ACCESS_REFUSED" in said, said


def run_script(rig: Rig, observed: str) -> str:
    """What the printed script prints, run as ``orders``."""
    told = FOUND.search(observed)
    assert told, observed
    python, *arguments = shlex.split(told[0].removesuffix(" (as orders)"))
    assert python == "python3"
    own = rig.host.placement.credentials("orders")
    environment = {
        **os.environ,
        "JOBS_AMQP_URL": f"amqps://127.0.0.1:{rig.host.port}/jobs",
        "JOBS_CA": str(own / "bundle.pem"),
        "JOBS_CERT": str(own / "certificate.pem"),
        "JOBS_KEY": str(own / "private_key.pem"),
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


async def test_a_colleague_that_cannot_work_any_more_is_noticed(rig: Rig) -> None:
    """Whatever the attack was: here it is the operator, who takes away what was granted."""
    user = USER.replace("orders", "billing")
    await control(rig.host, "set_permissions", "-p", "jobs", user, *[NOTHING] * 3)
    try:
        searches = deep.probes(rig.system, Deep(3, 60, cases=5))
        (found,) = await rig.run([p for p in searches if p.channel == "orders -> jobs"])
    finally:
        await rig.enforcer.apply(rig.plan, rig.host)
    assert found.verdict is Verdict.BROKEN
    assert found.observed.startswith("billing is told 403")


async def test_an_answer_that_nobody_may_give_is_noticed(rig: Rig) -> None:
    """Whoever reads a request knows where its sender awaits the answer."""
    colleague = Colleague(rig.arena, caller_of(rig.system, "orders"))
    await colleague.begin()
    assert await colleague.works() == ""
    line = colleague.line
    assert line is not None
    said = methods.properties({"reply_to": REPLIES})
    publish = methods.method(LISTENS, methods.PUBLISH, b"\0\0", "to.parcels", "parcels", b"\0")
    await line.wire.send(publish + methods.content(LISTENS, said, b"x"))
    user = USER.replace("orders", "packer")
    await control(rig.host, "set_permissions", "-p", "jobs", user, NOTHING, ".*", "^parcels$")
    try:
        async with connected(rig, "packer") as packer:
            channel = await packer.channel()
            queue = await channel.get_queue("parcels", ensure=False)
            request = await queue.get(no_ack=True, timeout=20)
            while request is not None and not request.reply_to:  # of the tests before
                request = await queue.get(no_ack=True, timeout=20)
            assert request is not None
            await channel.default_exchange.publish(aio_pika.Message(b"y"), str(request.reply_to))

            async def noticed() -> bool:
                return await colleague.works() == "is sent a message that nobody may send it"

            await eventually_async(noticed)
    finally:
        await colleague.leave()
        await rig.enforcer.apply(rig.plan, rig.host)
