"""The pairs that we compare ourselves with are as secure as they are said to be."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from bench import certificates, pairs, stunnel, tools
from bench.certificates import Certificates

Pair = Callable[[Path, Certificates, str, pairs.Transport], AbstractContextManager[str]]

NAMES = {"nginx": pairs.nginx_pair, "haproxy": pairs.haproxy_pair}


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return certificates.make(tmp_path)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[str]:
    if tools.find("nginx") is None:
        pytest.skip("nginx is not installed; `make bench` installs it")
    with pairs.backend(tmp_path) as address:
        yield address


@pytest.fixture(params=NAMES)
def pair(request: pytest.FixtureRequest) -> Pair:
    if tools.find(request.param) is None:
        pytest.skip(f"{request.param} is not installed; `make bench` installs it")
    return NAMES[request.param]


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_the_pair_serves(
    pair: Pair, made: Certificates, backend: str, tmp_path: Path, transport: pairs.Transport
) -> None:
    with pair(tmp_path, made, backend, transport) as address:
        answer = httpx.get(f"http://{address}/hello", trust_env=False)
        assert (answer.status_code, answer.text) == (200, pairs.BODY)


def test_the_callee_judges_method_and_path(
    pair: Pair, made: Certificates, backend: str, tmp_path: Path
) -> None:
    with pair(tmp_path, made, backend, "unix") as address:
        for method, path in (("POST", "/hello"), ("GET", "/other"), ("DELETE", "/hello")):
            answer = httpx.request(method, f"http://{address}{path}", trust_env=False)
            assert answer.status_code == 403


def test_the_callee_wants_a_certificate_and_tls_1_3(
    pair: Pair, made: Certificates, backend: str, tmp_path: Path
) -> None:
    name = next(name for name, function in NAMES.items() if function is pair)
    with pair(tmp_path, made, backend, "unix"):
        wants_a_certificate_and_tls_1_3(made, "callee", str(tmp_path / f"{name}.sock"))


def test_two_stunnel_serve_and_want_a_certificate_and_tls_1_3(
    made: Certificates, backend: str, tmp_path: Path
) -> None:
    if tools.find("stunnel") is None:
        pytest.skip("stunnel is not installed; `make bench` installs it")
    with stunnel.pair(tmp_path, made, backend) as tunnel:
        answer = httpx.get(f"http://{tunnel.front}/hello", trust_env=False)
        assert (answer.status_code, answer.text) == (200, pairs.BODY)
        wants_a_certificate_and_tls_1_3(made, tunnel.middle)


def wants_a_certificate_and_tls_1_3(made: Certificates, where: str, uds: str | None = None) -> None:
    def ask(context: ssl.SSLContext) -> str:
        transport = httpx.HTTPTransport(verify=context, uds=uds)
        with httpx.Client(transport=transport) as client:
            answer = client.get(f"https://{where}/hello", extensions={"sni_hostname": "callee"})
            return answer.text if answer.is_success else "refused"

    right = ssl.create_default_context(cafile=made.authority)
    right.load_cert_chain(made.caller.certificate, made.caller.private_key)
    assert ask(right) == pairs.BODY
    try:
        assert ask(ssl.create_default_context(cafile=made.authority)) == "refused"
    except httpx.HTTPError as error:
        assert "certificate required" in str(error)  # noqa: PT017 - either way is a refusal
    right.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError):
        ask(right)
