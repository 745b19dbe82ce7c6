"""The search for attacks that nobody listed: its oracle, its script, and that it finds one."""

import shlex
import subprocess

import pytest

from tests.dataplane.attacks.range import not_held
from tests.dataplane.attacks.raw import straight_through
from tests.dataplane.attacks.scene import GRANTS, scene
from watertight.attack.choices import Choices
from watertight.attack.overheard import requests_in
from watertight.attack.probe import Deep, Verdict
from watertight.dataplane.attacks import deep
from watertight.dataplane.attacks.deep.grammar import (
    Sender,
    Sent,
    generate,
    generate_framed,
)
from watertight.dataplane.attacks.deep.oracle import may_arrive, readings
from watertight.dataplane.attacks.deep.script import as_command

SENDER = Sender("app:80", GRANTS, (("user-agent", "test"),), "wt1a")
CASES = 60


@pytest.mark.parametrize(
    "target",
    [
        "/public/a/../b/../../admin",
        "/public/%2e%2e/admin",
        "/public/..;/admin",
        "/public/a%2f..%2f..%2fadmin",
        "/public\\a",
        "/public/%00/admin",
        "/public/a%5c..%5c..%5cadmin",
        "//admin",
        "/public/",
        "/public/a/",
        "*",
        "app:80",
        "http://app/public/a",
    ],
)
def test_a_path_that_could_be_read_as_another_may_not_arrive(target: str) -> None:
    assert not may_arrive(GRANTS, "GET", target)


@pytest.mark.parametrize("target", ["/public/a", "/public/a?b=/../c", "/public/a;b", "/public/%61"])
def test_what_can_only_be_read_as_granted_may_arrive(target: str) -> None:
    assert may_arrive(GRANTS, "GET", target)
    assert not may_arrive(GRANTS, "DELETE", target)


def test_dot_segments_are_taken_out_as_the_rfc_says() -> None:
    assert "/a/g" in readings("/a/b/c/./../../g")
    assert "/c" in readings("/a/%2e%2e/../c")


def test_the_plainest_attack_is_a_granted_request() -> None:
    sent = generate(Choices(again=[]), SENDER)
    (heard,) = requests_in(b"".join(p for p in sent.pieces if isinstance(p, bytes)))
    assert may_arrive(GRANTS, heard.method, heard.target)
    framed = generate_framed(Choices(again=[]), SENDER)
    assert (":path", "/public/watertight-probe") in framed.fields


def test_attacks_differ_and_every_seed_makes_one() -> None:
    made = {generate(Choices(f"{n}"), SENDER).pieces for n in range(300)}
    assert len(made) > 250
    assert len({str(generate_framed(Choices(f"{n}"), SENDER)) for n in range(300)}) > 250


def test_a_counterexample_is_a_curl_where_curl_can_say_it() -> None:
    sent = generate(Choices(again=[]), SENDER)
    words = shlex.split(as_command(sent, "app", 80))
    assert words[:2] == ["curl", "-sik"]
    assert words[-1] == "http://app:80/"
    assert "probe-mark: wt1a" in words


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\nhost: a\r\n\r\n", b"\xff", b""])
def test_else_it_is_a_script_that_sends_the_very_bytes(data: bytes) -> None:
    command = as_command(Sent((data, 0.1, data), 1), "app", 80, tls="shop.example")
    program = shlex.split(command)
    assert program[:2] == ["python3", "-c"]
    subprocess.run(["python3", "-c", f"compile({program[2]!r}, 'x', 'exec')"], check=True)  # noqa: S607
    assert program[2].count(f"s.sendall({data!r})") == 2


async def test_nothing_arrives_that_may_not() -> None:
    """A short search; ``make test-all`` makes a longer one."""
    async with scene("http.server") as careful:
        searches = list(deep.probes(careful.mesh.system, Deep(1, 60, cases=CASES)))
        assert {p.id for p in searches} == {"deep.http1", "deep.http2"}
        assert not_held(await careful.run(searches)) == {}


@pytest.mark.slow
async def test_nothing_arrives_that_may_not_in_a_long_search() -> None:
    async with scene("http.server") as careful:
        searches = list(deep.probes(careful.mesh.system, Deep(2, 120, cases=3_000)))
        assert not_held(await careful.run(searches)) == {}


async def test_a_search_finds_what_nobody_reads_on_the_way() -> None:
    async with scene("http.server") as open_to_all:
        searches = [
            p
            for p in deep.probes(open_to_all.mesh.system, Deep(1, 60))
            if p.channel == "mallory -> app"
        ]
        async with open_to_all.mesh.sabotage(straight_through("mallory", "app", open_to_all.app)):
            (found,) = await open_to_all.run(searches)
        assert found.verdict is Verdict.BROKEN
        assert "seed 1: curl " in found.observed or "seed 1: python3 " in found.observed
