"""Who has a port is named, and what stands against an address is told apart."""

import os
import socket

import pytest

from tests.ports import free_port
from watertight.runtime.taken import obstacle


@pytest.mark.parametrize(
    ("has", "wanted"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("::1", "::1"),
        ("::", "127.0.0.1"),
    ],
)
def test_the_program_that_listens_there_is_named(has: str, wanted: str) -> None:
    family = socket.AF_INET6 if ":" in has else socket.AF_INET
    with socket.create_server((has, 0), family=family, dualstack_ipv6=has == "::") as other:
        found = obstacle(wanted, other.getsockname()[1])
    assert found is not None
    assert "is taken: " in found.why
    assert f"(process {os.getpid()}) listens there" in found.why


def test_one_that_would_share_the_port_is_found_too() -> None:
    """As Envoy does (SO_REUSEPORT): two of them would take each other's connections."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        assert obstacle("127.0.0.1", other.getsockname()[1]) is not None


def test_a_port_that_nobody_has_is_free_and_stays_so() -> None:
    port = free_port()
    assert obstacle("127.0.0.1", port) is None
    assert obstacle("127.0.0.1", port) is None
    with socket.create_server(("127.0.0.2", port)):
        assert obstacle("127.0.0.1", port) is None


def test_an_address_of_another_host_is_told() -> None:
    found = obstacle("192.0.2.1", 8443)  # RFC 5737: of no host
    assert found is not None
    assert found.why == "is no address of this host"
