"""What an app may get over HTTP/2: each stream accounted for by who asks, by what, with what."""

from collections.abc import Callable
from dataclasses import dataclass, field

from watertight.attack.http import Answer
from watertight.attack.overheard_streams import HeardStream
from watertight.dataplane.attacks.requests import EMPTY_RPC
from watertight.dataplane.attacks.rpc.strike import FORGED, Marks

CALLER = "x-forwarded-client-cert"
IDENTITY = frozenset(
    {CALLER, "x-watertight-subject", "x-watertight-client", "x-forwarded-for", "x-envoy-internal"}
)
PER_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
"""RFC 9113 section 8.2.2."""
PSEUDO = frozenset({":method", ":scheme", ":authority", ":path"})
NEVER_TRAILERS = IDENTITY | PER_HOP | {"te", "content-length", "host", "authorization"}


class Disturbed(Exception):
    """One got what is another's, or the app what nobody judged; the text says what."""


@dataclass(frozen=True, slots=True)
class Known:
    """Who asks, and for what, as the app was told of an undisturbed call."""

    identity: frozenset[tuple[str, str]] = frozenset()
    call: tuple[str, ...] = ()
    """Method, path, authority; empty where it could not be read."""
    is_partial: bool = False

    @classmethod
    def by(cls, heard: HeardStream) -> "Known":
        """As one stream said."""
        identity = frozenset(f for f in heard.asked.fields if f[0] in IDENTITY)
        named = dict(heard.asked.fields)
        call = tuple(named.get(name, "") for name in (":method", ":path", ":authority"))
        return cls(identity, call, heard.is_partial)

    def agrees(self, other: "Known") -> bool:
        """Whether both name the same caller, as far as they could be read."""
        if not self.is_partial and not other.is_partial:
            return self.identity == other.identity
        mine, others = dict(self.identity), dict(other.identity)
        return all(mine[name] == others[name] for name in mine.keys() & others.keys())


@dataclass
class Account:
    """What both sides may say to the app, and what the victim was answered."""

    marks: Marks
    granted: Callable[[str, str], bool]
    """Whether the attacker may ask for this method and path."""
    attacker: Known = Known()
    victim: Known = Known()
    sent: set[bytes] = field(default_factory=set)
    """Bodies of the attacker's calls."""
    victims: dict[str, Answer | None] = field(default_factory=dict)
    """By mark, what the victim's calls were answered."""
    _seen: set[str] = field(default_factory=set)

    def judge(self, heard: HeardStream) -> None:
        """One stream that reached the app. Raises :class:`Disturbed`."""
        fields, trailers = heard.asked.fields, heard.asked.trailers
        if any(FORGED in value for _, value in (*fields, *trailers)):
            raise Disturbed("an identity of the attacker's writing reached the app")
        named = len(heard.header(CALLER))
        if named > 1 or (not named and not heard.is_partial):
            raise Disturbed("a call reached the app without one name of who calls")
        self._judge_form(heard)
        if mark := heard.value(self.marks.victim):
            self._judge_victim(heard, mark)
        else:
            self._judge_attacker(heard)

    def _judge_form(self, heard: HeardStream) -> None:
        names = [name for name, _ in heard.asked.fields]
        pseudo = [name for name in names if name.startswith(":")]
        if len(set(pseudo)) != len(pseudo) or set(pseudo) - PSEUDO:
            raise Disturbed(f"odd pseudo-header fields reached the app: {pseudo}")
        if odd := PER_HOP & set(names):
            raise Disturbed(f"{min(odd)} reached the app, which is of HTTP/1")
        if any(value != "trailers" for value in heard.header("te")):
            raise Disturbed("a `te` that asks for more than trailers reached the app")
        for name, value in (*heard.asked.fields, *heard.asked.trailers):
            if set("\r\n\0") & set(name + value) or name != name.lower() or " " in name:
                raise Disturbed(f"a field that is none reached the app: {name[:20]!r}")
        for name, _ in heard.asked.trailers:
            if name in NEVER_TRAILERS or name.startswith(":"):
                raise Disturbed(f"{name} reached the app in trailers")
        length = heard.header("content-length")
        if length and heard.asked.ended and length != (str(len(heard.asked.body)),):
            raise Disturbed("a body reached the app that is not as long as it says")

    def _judge_victim(self, heard: HeardStream, mark: str) -> None:
        self._seen.add(mark)
        self._judge_call(heard, self.victim)
        if heard.asked.reset:
            return  # sent again by the proxy, since the app had not taken it
        if not EMPTY_RPC.startswith(bytes(heard.asked.body)):
            raise Disturbed("bytes of another reached the app in the victim's call")
        answer = self.victims.get(mark)
        said = heard.answered
        if answer is not None and said.ended and not said.reset:
            status = answer.header("grpc-status")
            gave = dict((*said.fields, *said.trailers)).get("grpc-status", status)
            if (answer.body, status) != (bytes(said.body), gave):
                raise Disturbed("the victim was not answered what the app said to it")

    def _judge_attacker(self, heard: HeardStream) -> None:
        self._judge_call(heard, self.attacker)
        body = bytes(heard.asked.body)
        if self.marks.victim.encode() in body:
            raise Disturbed("the victim's call reached the app in the attacker's")
        if not any(sent.startswith(body) for sent in (*self.sent, EMPTY_RPC)):
            raise Disturbed("a body reached the app that nobody sent")

    def _judge_call(self, heard: HeardStream, known: Known) -> None:
        told = Known.by(heard)
        if not told.agrees(known):
            raise Disturbed("a call reached the app under another's name than its caller's")
        method, path, authority = told.call
        odd = [a for a, b in zip(told.call, known.call, strict=True) if a and b and a != b]
        judged = known is self.attacker and self.granted(method, path)
        if odd and not (judged and odd != [authority]):
            raise Disturbed(f"a call that nobody judged reached the app: {path[:60]!r}")

    def unseen(self) -> int:
        """How many calls of the victim were answered without having been seen to arrive."""
        return len(self.victims.keys() - self._seen)
