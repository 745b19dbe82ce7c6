"""A proxy that is silent at two looks in a row is ended; one that was only busy is not."""

import pytest

from watertight.control.hanging import Hanging
from watertight.errors import WatertightError


class Proxies:
    def __init__(self, *looks: set[str]) -> None:
        self.looks = iter(looks)
        self.ended: list[str] = []

    async def silent(self) -> frozenset[str]:
        return frozenset(next(self.looks))

    async def end(self, name: str) -> None:
        if name == "stubborn":
            raise WatertightError("it does not run")
        self.ended.append(name)


@pytest.mark.parametrize(
    ("looks", "ended"),
    [
        (({"a"}, {"a"}), ["a"]),
        (({"a"}, set(), {"a"}, set()), []),
        (({"a", "b"}, {"b", "c"}, {"a", "c"}), ["b", "c"]),
        # It is starting again at the next look, and has two more.
        (({"a"}, {"a"}, {"a"}), ["a"]),
        (({"a"}, {"a"}, {"a"}, {"a"}), ["a", "a"]),
    ],
)
async def test_who_is_silent_twice_in_a_row_is_ended(
    looks: list[set[str]], ended: list[str]
) -> None:
    proxies = Proxies(*looks)
    hanging = Hanging(proxies.silent, proxies.end)
    for _ in looks:
        await hanging.look()
    assert proxies.ended == ended


async def test_one_that_cannot_be_ended_keeps_no_other() -> None:
    proxies = Proxies({"stubborn", "a", "z"}, {"stubborn", "a", "z"})
    hanging = Hanging(proxies.silent, proxies.end)
    await hanging.look()
    with pytest.raises(WatertightError):
        await hanging.look()
    assert proxies.ended == ["a", "z"]
