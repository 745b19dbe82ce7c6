"""Generated attacks: the same seed makes the same, and a counterexample is made small."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from watertight.attack.choices import MOST_CHOICES, Choices, shrink


def drawn(choices: Choices) -> list[int]:
    return [choices.below(10) for _ in range(50)]


def test_a_seed_makes_the_same_choices_again_and_another_seed_others() -> None:
    assert drawn(Choices("one")) == drawn(Choices("one")) != drawn(Choices("two"))
    assert set(drawn(Choices("one"))) <= set(range(10))


def test_what_was_chosen_can_be_chosen_again_and_then_the_plainest() -> None:
    first = Choices("one")
    made = drawn(first)
    again = Choices(again=first.made)
    assert drawn(again) == made
    assert again.below(10) == 0
    assert Choices(again=[7]).one(("a", "b")) == "b"
    assert not Choices(again=[]).rarely(3)


def test_choices_end_so_that_every_attack_does() -> None:
    choices = Choices("one")
    for _ in range(MOST_CHOICES):
        choices.below(2)
    assert not any(choices.below(2) for _ in range(100))


async def test_a_counterexample_is_made_as_small_as_it_can_be() -> None:
    async def still(made: Sequence[int]) -> bool:
        return sum(made) >= 9 and any(number > 4 for number in made)

    smaller = await shrink([3, 1, 0, 8, 2, 2, 2, 9, 0], still, tries=500)
    assert await still(smaller)
    assert len(smaller) <= 2
    assert sum(smaller) == 9


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
async def test_what_is_made_smaller_is_still_one_and_within_its_tries(made: list[int]) -> None:
    tried = 0

    async def still(candidate: Sequence[int]) -> bool:
        nonlocal tried
        tried += 1
        return max(candidate, default=0) == max(made)

    smaller = await shrink(made, still, tries=40)
    assert max(smaller, default=0) == max(made)
    assert tried <= 40
