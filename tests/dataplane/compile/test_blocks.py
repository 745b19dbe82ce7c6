"""The small pieces: durations and lifetimes."""

from hypothesis import given
from hypothesis import strategies as st

from watertight.dataplane.compile.blocks import seconds
from watertight.dataplane.compile.lifetimes import lifetimes


@given(st.floats(0, 1e6))
def test_a_duration_is_plain_decimal_seconds(amount: float) -> None:
    text = seconds(amount)
    assert text.endswith("s")
    assert set(text[:-1]) <= set("0123456789.")
    assert abs(float(text[:-1]) - amount) < 1e-6


@given(st.integers(1, 86_400))
def test_no_connection_lives_longer_than_an_svid(ttl_seconds: int) -> None:
    lives = lifetimes(ttl_seconds)
    assert 0 < lives.pool < lives.connection
    assert lives.connection + lives.drain + lives.stream <= ttl_seconds + 1e-6
    assert lives.passed <= ttl_seconds
