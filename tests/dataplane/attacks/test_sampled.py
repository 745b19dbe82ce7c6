"""What a sample keeps of a look at many is as patient as that look is for so many."""

from watertight.dataplane.attacks.exhaust import probes
from watertight.model.system import Service, System


def of(*names: str) -> System:
    return System("s.internal", services={n: Service(n, run=("sleep", "1")) for n in names})


def test_fewer_services_are_asked_with_the_patience_for_them() -> None:
    few = {p.id: p for p in probes(of("a", "b")) if p.narrowed}
    every = {p.id: p for p in probes(of("a", "b", "c", "d")) if p.narrowed}
    assert set(every) == {"exhaust.host", "exhaust.netlink"}
    for name, probe in every.items():
        assert probe.narrowed is not None
        kept = probe.narrowed({"a -> host", "b -> host"})
        assert (kept.pairs, kept.patience) == (few[name].pairs, few[name].patience)
        assert kept.patience > len(kept.pairs)
