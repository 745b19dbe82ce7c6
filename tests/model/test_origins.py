"""Origins as browsers write them, and nothing that only looks like one."""

import pytest

from watertight.model import codes
from watertight.model.gateway_values import parse_header_name, parse_origin
from watertight.model.values import Malformed


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "http://localhost:5173",
        "https://[2001:db8::1]:8443",
        "https://xn--bcher-kva.example",
        "capacitor://localhost",
        "chrome-extension://abcdefghijklmnop",
        "*",
    ],
)
def test_origins(origin: str) -> None:
    assert parse_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("app.example", "https://", "https://app.example/", "https://app.example:443"),
        *("http://app.example:80", "https://App.example", "https://*.app.example", "null", ""),
        *("https://user@app.example", "https://app.example, https://b.example", "https://a b"),
        *("https://app.example:0", "https://app.example:123456", "https://app.example\n", None, 7),
    ],
)
def test_what_is_none(text: object) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_origin(text)
    assert refusal.value.code == codes.BAD_ORIGIN


def test_names_of_headers() -> None:
    assert parse_header_name("X-Request-ID") == "x-request-id"
    for wrong in ("", "a b", "a,b", "*", "x:", None, 3):
        with pytest.raises(Malformed):
            parse_header_name(wrong)
