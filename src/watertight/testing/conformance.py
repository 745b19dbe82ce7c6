"""What every kind of server must do, as one suite: a kind's test file subclasses it.

    class TestConformance(Conformance):
        enforcer = Shelf
        declaration = LIBRARY
        dialect = ShelfDialect()
        by_hand = {...}
        weakenings = (...)

One server is started for the class; what a test changes there, it puts back.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding

from watertight.attack.login import Dialect, Login, as_itself, right, tried_to_enter
from watertight.attack.probe import Outcome, Probe, Verdict
from watertight.attack.tls import Hello, TLSWire
from watertight.attack.wire import Closed
from watertight.enforcers.resource import ResourceEnforcer, ServerPlan
from watertight.errors import WatertightError
from watertight.servers.converge import DOES_NOT_RUN
from watertight.servers.kind import Part, Way
from watertight.testing.open_door import open_door
from watertight.testing.rig import SANDBOXED, Rig, not_held, running_server
from watertight.testing.weakening import Weakening

PATIENCE_SECONDS = 60.0
"""How long what must happen may take on a busy machine."""
POLL_SECONDS = 0.05
DOOR = ("tls.", "identity.", "sessions.")
"""Attacks on what a door that takes anybody in does not hold."""
DOORS = "reach.doors"
EXPIRY = "sessions.resumption-after-expiry"
LONG = "sessions."
"""Seconds each: tried only where they must break."""
FEW = 4
BAD_TO_WORSE = (Verdict.HELD, Verdict.NOT_RUN, Verdict.BROKEN)
ADDED = "added-by-hand.conf"


class Conformance:
    """Subclass it, and say what is true of the kind."""

    enforcer: ClassVar[Callable[[], ResourceEnforcer]]
    """The class that the entry point names."""
    declaration: ClassVar[str]
    """With one resource, ``port: {port}``, and a service without a channel."""
    beside: ClassVar[Mapping[str, str]] = {}
    """Files beside the declaration: name → text."""
    dialect: ClassVar[Dialect]
    by_hand: ClassVar[Mapping[Any, str]]
    """Whatever somebody does at the running server (``do`` understands it) → what drift says."""
    weakenings: ClassVar[Sequence[Weakening]]
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Probe → where it is bitten, if by nothing here."""
    refusal: ClassVar[str] = r"watertight\.yaml:\d+:\d+: "
    """What is said of a plan that the server refuses, as a regular expression."""
    one_by_one: ClassVar[bool] = False
    """Whether attacks on a weakened server take away what other attacks need."""
    beyond_door: ClassVar[Collection[str]] = frozenset()
    """Probes of TLS, identity and sessions that hold though the door takes anybody in."""

    pytestmark = pytest.mark.asyncio(loop_scope="class")

    # What a kind says.

    async def do(self, rig: Rig, *things: Any) -> None:
        """Does what somebody might by hand, as the server's operator."""
        raise NotImplementedError

    async def speak(self, rig: Rig, session: TLSWire, login: Login) -> None:
        """One thing in an open session that only a client who is in may do. Raises ``Closed``."""
        raise NotImplementedError

    def refused(self, rig: Rig) -> Sequence[ServerPlan]:
        """Plans that the server refuses, in which something else is granted, too."""
        raise NotImplementedError

    async def is_out(self, _rig: Rig, session: TLSWire, _login: Login) -> None:
        """Returns once a session has ended that was there when its service was revoked."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while await session.receive(PATIENCE_SECONDS):
                    pass
            except Closed:
                return

    @classmethod
    def server(cls) -> AbstractAsyncContextManager[Rig]:
        """The server under test."""
        return running_server(cls.enforcer(), cls.declaration, cls.beside)

    @classmethod
    def door(cls, rig: Rig, service: str) -> AbstractAsyncContextManager[None]:
        """In place of the service's door, one that takes anybody in as that service."""
        return open_door(rig, service)

    # What they have in common.

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    @classmethod
    async def rig(cls) -> AsyncIterator[Rig]:
        """One server for all tests of the class."""
        async with cls.server() as running:
            yield running

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A test for each weakening."""
        if "weakening" in metafunc.fixturenames:
            metafunc.parametrize("weakening", self.weakenings, ids=lambda one: one.name)

    def login(self, rig: Rig, service: str | None = None) -> Login:
        """Of a service; of the first that has a channel."""
        first = next(iter(rig.system.incoming(rig.resource))).source
        return Login(rig.system, rig.system.resources[rig.resource], service or first)

    async def enter(self, rig: Rig, login: Login) -> TLSWire:
        """A session of the service's own. Raises ``Closed``."""
        return await as_itself(rig.arena, self.dialect, login)

    async def drift(self, rig: Rig) -> list[str]:
        """What the server is not."""
        return list(await rig.enforcer.drift(rig.plan, rig.host))

    async def apply(self, rig: Rig) -> tuple[str, ...]:
        """What was not so."""
        return (await rig.enforcer.apply(rig.plan, rig.host)).changed

    async def rotate(self, rig: Rig) -> None:
        """Has the server take up the credential files that stand."""
        await rig.enforcer.rotate(rig.plan, rig.host)

    async def verdicts(self, rig: Rig, probes: Collection[Probe]) -> dict[str, Verdict]:
        """Probe → verdict, the worst of its attempts."""
        rounds = [[probe] for probe in probes] if self.one_by_one else [probes]
        seen: dict[str, Verdict] = {}
        for some in rounds:
            if self.one_by_one and all(seen.get(p.id) is Verdict.BROKEN for p in some):
                continue
            for result in await rig.run(some):
                before = seen.get(result.id, Verdict.HELD)
                seen[result.id] = max(before, result.verdict, key=BAD_TO_WORSE.index)
        return seen

    async def broken_among(self, rig: Rig, probes: Collection[Probe]) -> set[str]:
        """Those that break."""
        seen = await self.verdicts(rig, probes)
        return {name for name, verdict in seen.items() if verdict is Verdict.BROKEN}

    async def broken(self, rig: Rig, ids: Collection[str], channel: str = "") -> set[str]:
        """Of these probes, those that break on a channel; on the first of the declaration."""
        on = channel or self.login(rig).channel
        return await self.broken_among(
            rig, [p for p in rig.probes if p.channel == on and p.id in ids]
        )

    # The suite.

    async def test_a_second_apply_changes_nothing(self, rig: Rig) -> None:
        """And what is as it must be is no drift."""
        assert await self.apply(rig) == ()
        assert await self.drift(rig) == []

    async def test_every_permitted_use_works_and_every_attack_holds(self, rig: Rig) -> None:
        """None is left out; also that no session is taken up again once its SVID has expired."""
        results = await rig.run(rig.probes)
        assert not_held(results) == {}
        assert {EXPIRY} <= {result.id for result in results}
        assert await self.drift(rig) == [], "the probes left something behind"

    async def test_what_is_changed_by_hand_is_drift_and_taken_back(self, rig: Rig) -> None:
        """Users, grants, plugins: whatever the kind names."""
        await self.do(rig, *self.by_hand)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._unsaid(await self.drift(rig)):  # noqa: ASYNC110  some servers read a log
                await asyncio.sleep(POLL_SECONDS)
        assert await self.apply(rig) != ()
        assert await self.drift(rig) == []

    def _unsaid(self, drift: Collection[str]) -> list[str]:
        return [line for line in self.by_hand.values() if not any(line in said for said in drift)]

    async def test_each_file_changed_by_hand_is_drift_and_taken_back(self, rig: Rig) -> None:
        """One that is missing, one that was added, and each that says something else."""
        directory = rig.host.placement.server_directory(rig.resource)
        for name in rig.plan.files:
            (directory / name).unlink()
        assert {f"{name} is missing" for name in rig.plan.files} <= set(await self.drift(rig))
        for name, text in rig.plan.files.items():
            (directory / name).write_text(f"{text}\n")
        (directory / ADDED).write_text("")
        said = {f"{name} was changed by hand" for name in rig.plan.files}
        assert said | {f"{ADDED} was added by hand"} <= set(await self.drift(rig))
        assert {*rig.plan.files, ADDED} <= set(await self.apply(rig))
        assert await self.drift(rig) == []

    async def test_a_refused_apply_leaves_what_was_granted(self, rig: Rig) -> None:
        """To those who have it, and to nobody else."""
        plans = self.refused(rig)
        assert plans
        for plan in plans:
            with pytest.raises(WatertightError, match=self.refusal):
                await rig.enforcer.apply(plan, rig.host)
            assert await self.drift(rig) == []
        channel = self.login(rig).channel
        uses = [p for p in rig.probes if p.channel == channel and p.kind == "use"]
        assert set((await self.verdicts(rig, uses)).values()) == {Verdict.HELD}

    async def test_a_weakened_server_turns_exactly_these_probes_red(
        self, rig: Rig, weakening: Weakening
    ) -> None:
        """And apply finds and mends what was done by hand."""
        if weakening.files is not None:
            await rig.restart_with(weakening.files(rig.plan.files))
        try:
            if weakening.by_hand:
                await self.do(rig, *weakening.by_hand)
            assert await self.broken_among(rig, self.about(rig, weakening)) == weakening.breaks
        finally:
            if weakening.files is not None:
                await rig.restart_with({})  # such a server may turn its operator away for long
            changed = await self.apply(rig)  # which looks whether it took
        assert changed or not weakening.by_hand

    def about(self, rig: Rig, weakening: Weakening) -> list[Probe]:
        """The probes that are tried on a weakened server."""
        channel = weakening.channel or self.login(rig).channel
        named = weakening.breaks | weakening.holds
        seen: Counter[str] = Counter()
        found = []
        for probe in rig.probes:
            if probe.channel == channel:
                seen[probe.id] += 1
                few = seen[probe.id] <= FEW and not probe.id.startswith(LONG)
                if probe.id in named or (probe.kind == weakening.others and few):
                    found.append(probe)
        return found

    async def test_a_door_that_takes_anybody_in_is_found(self, rig: Rig) -> None:
        """By every attack on TLS, on identities and on sessions."""
        login = self.login(rig)
        strangers = {p.channel for p in rig.probes if p.id == DOORS}
        assert strangers, "the declaration has no service without a channel"
        attacks = [p for p in rig.probes if self.at_door(p, login.channel)]
        async with self.door(rig, login.service):
            assert await self.broken_among(rig, attacks) == {p.id for p in attacks}
            for stranger in strangers:
                assert await self.broken(rig, {DOORS}, stranger) == {DOORS}

    def at_door(self, probe: Probe, channel: str) -> bool:
        """Whether such a door must break it."""
        mine = probe.channel == channel and probe.id.startswith(DOOR)
        return mine and probe.id not in self.beyond_door

    async def test_every_probe_is_bitten(self, rig: Rig) -> None:
        """By a weakening, by the open door, or elsewhere: one that never went red says nothing."""
        every = {p.id for p in rig.probes if not p.id.startswith(SANDBOXED)}
        bitten = {name for one in self.weakenings for name in one.breaks}
        bitten |= {p.id for p in rig.probes if self.at_door(p, self.login(rig).channel)} | {DOORS}
        assert every - bitten <= set(self.elsewhere) <= every

    async def test_a_new_leaf_is_served_as_the_kind_says(self, rig: Rig) -> None:
        """And an open session goes on, unless the kind says that it is started again."""
        login = self.login(rig)
        session, pid = await self.enter(rig, login), rig.host.pid
        await rig.keeper.rotate_issuer()
        rig.deliver()
        await self.rotate(rig)
        await self.goes_on(rig, session, login, pid, Part.LEAF)

    async def test_a_new_root_is_taken_up_and_the_old_one_is_trusted_no_more(
        self, rig: Rig
    ) -> None:
        """Published, signing, and the old one ended: three times new roots."""
        login = self.login(rig)
        session, pid = await self.enter(rig, login), rig.host.pid
        forged = await rig.arena.forge(right(login))
        await rig.rotate_root()
        await self.goes_on(rig, session, login, pid, Part.ROOT)
        hello = Hello(credential=forged, alpn=self.dialect.alpn)
        seen = await tried_to_enter(rig.arena, self.dialect, login, hello)
        assert seen.outcome is Outcome.REFUSED, seen

    async def goes_on(self, rig: Rig, session: TLSWire, login: Login, pid: int, part: Part) -> None:
        """The server serves what stands in its files, and does with sessions what it says."""
        takes: Mapping[Part, Way] = getattr(rig.enforcer, "takes", {})
        restarts = takes.get(part) is Way.RESTART
        assert (rig.host.pid != pid) == restarts
        if restarts:
            await self.is_out(rig, session, login)
        else:
            await self.speak(rig, session, login)
        await session.close()
        again = await self.enter(rig, login)
        svid = rig.keeper.x509_svid(rig.resource)
        assert svid is not None
        assert again.tls.getpeercert(binary_form=True) == svid.leaf.public_bytes(Encoding.DER)
        await self.speak(rig, again, login)
        await again.close()

    async def test_who_is_revoked_is_cut_and_does_not_come_back(
        self, rig: Rig, record_property: Callable[[str, object], None]
    ) -> None:
        """Its sessions end at once, those of others go on."""
        login = self.login(rig)
        other = self.login(rig, [c.source for c in rig.system.incoming(rig.resource)][1])
        left = rig.compile(rig.system.without_identities(frozenset({login.service})))
        one, theirs = await self.enter(rig, login), await self.enter(rig, other)
        now = asyncio.get_running_loop().time
        began = now()
        await rig.enforcer.revoke(left, rig.host, login.service)
        await self.is_out(rig, one, login)
        record_property("revoked_seconds", now() - began)
        await self.speak(rig, theirs, other)
        for session in (one, theirs):
            await session.close()
        await self.stays_out(rig, login)
        await rig.enforcer.apply(left, rig.host)
        await self.stays_out(rig, login)
        await self.apply(rig)
        back = await self.enter(rig, login)
        await self.speak(rig, back, login)
        await back.close()

    async def stays_out(self, rig: Rig, login: Login) -> None:
        """Whoever was revoked is not let in."""
        with pytest.raises(Closed):
            await (await self.enter(rig, login)).close()

    async def test_a_server_that_was_stopped_is_drift_and_comes_back(self, rig: Rig) -> None:
        """As it was."""
        await rig.host.stop()
        assert await self.drift(rig) == [DOES_NOT_RUN]
        await self.apply(rig)
        assert await self.drift(rig) == []
        assert await self.apply(rig) == ()
