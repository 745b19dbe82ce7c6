"""Two other issuers of X.509-SVIDs, each a server of its own: step-ca and SPIRE.

Both are asked as their manuals say: step-ca over HTTPS with a one-time token of a JWK provisioner,
SPIRE over gRPC on its own Unix socket (MintX509SVID). Both keep books: step-ca in the database
that ``step ca init`` would choose, SPIRE in SQLite. Keys are P-256 everywhere. Each server has one
processor (``GOMAXPROCS=1``).
"""

import base64
import contextlib
import datetime as dt
import http.client
import itertools
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import certificates, tools
from tests.ports import free_port

TRUST_DOMAIN = "bench.internal"
IDENTITY = f"spiffe://{TRUST_DOMAIN}/orders"
MODULES = {
    "step-ca": "github.com/smallstep/certificates/cmd/step-ca@v0.30.2",
    "spire-server": "github.com/spiffe/spire/cmd/spire-server@v1.13.3",
}
BUILD_SECONDS = 900
READY_SECONDS = 30.0
CLIENTS = 4
TOKENS_PER_SECOND = 3000
MINT = "/spire.api.server.svid.v1.SVID/MintX509SVID"
TTL_SECONDS = 3600


@dataclass(frozen=True)
class Issuer:
    """A running server. ``client`` makes a function that asks it once, and raises unless it did."""

    pid: int
    client: Callable[[], Callable[[], None]]


def program(name: str, *, build: bool) -> str | None:
    """Where a server's program lies, built from its Go module if there is Go; None if nowhere."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "watertight-bench"
    if found := tools.find(name):
        return found
    kept = cache / name
    if not kept.exists() and build and (go := tools.find("go")):
        print(f"bench: builds {MODULES[name]}", file=sys.stderr)
        cache.mkdir(parents=True, exist_ok=True)
        _build(go, MODULES[name], kept)
    return str(kept) if kept.exists() else None


def _build(go: str, module: str, file: Path) -> None:
    """As a tool of an empty module, since ``go install`` refuses modules that replace others."""
    package = module.partition("@")[0]
    with tempfile.TemporaryDirectory(prefix="wt-bench-") as name:
        for words in (
            ["mod", "init", "bench.internal/tools"],
            ["get", "-tool", module],
            ["build", "-o", str(file), package],
        ):
            done = subprocess.run(
                [go, *words], cwd=name, capture_output=True, text=True,
                timeout=BUILD_SECONDS, check=False,
            )  # fmt: skip
            if done.returncode:
                print(f"bench: go {' '.join(words)}: {done.stderr[-500:]}", file=sys.stderr)
                return


def certificate_request() -> bytes:
    """A DER request for ``IDENTITY`` with a new key; all three issuers take it."""
    name = x509.UniformResourceIdentifier(IDENTITY)
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def processor_seconds(pid: int) -> float:
    """What a process has spent, of its own and in the kernel (proc(5), /proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def per_processor_second(issuer: Issuer, seconds: float) -> float:
    """How many SVIDs it issues for a second of its processor, asked by ``CLIENTS`` at once."""
    asks = [issuer.client() for _ in range(CLIENTS)]
    for ask in asks:
        ask()  # connects
    counts, failures = [0] * CLIENTS, list[Exception]()
    end = time.monotonic() + seconds

    def drive(number: int) -> None:
        try:
            while time.monotonic() < end:
                asks[number]()
                counts[number] += 1
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            failures.append(error)

    before = processor_seconds(issuer.pid)
    threads = [threading.Thread(target=drive, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / max(processor_seconds(issuer.pid) - before, 0.01)


@contextlib.contextmanager
def _served(
    argv: list[str], directory: Path, client: Callable[[], Callable[[], None]]
) -> Iterator[int]:
    log = directory / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, "GOMAXPROCS": "1", "STEPPATH": str(directory)},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                client()()
                break
            except (OSError, RuntimeError, grpc.RpcError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{argv[0]} does not serve: {error}; {log.read_text()[-800:]}"
                    ) from error
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- SPIRE --------------------------------------------------------------------------------------


@contextlib.contextmanager
def spire(path: str, directory: Path, seconds: float) -> Iterator[Issuer]:  # noqa: ARG001 - alike
    """A SPIRE server with an authority of its own."""
    with tempfile.TemporaryDirectory(prefix="wt-spire-", dir="/tmp") as short:  # sun_path is short
        socket_file = f"{short}/api.sock"
        configuration = directory / "server.conf"
        configuration.write_text(f"""
server {{
  bind_address = "127.0.0.1"
  bind_port = "{free_port()}"
  trust_domain = "{TRUST_DOMAIN}"
  data_dir = "{directory}"
  socket_path = "{socket_file}"
  log_level = "WARN"
  ca_key_type = "ec-p256"
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{directory}/datastore.sqlite3"
    }}
  }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
}}
""")
        request = _bytes_field(1, certificate_request())
        request += bytes([2 << 3]) + _varint(TTL_SECONDS)

        def client() -> Callable[[], None]:
            # A subchannel pool of its own, or all clients would share one connection.
            channel = grpc.insecure_channel(
                f"unix:{socket_file}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
            mint = channel.unary_unary(
                MINT, request_serializer=lambda message: message, response_deserializer=bytes
            )

            def ask() -> None:
                if b"spiffe://" not in mint(request, timeout=30):
                    raise RuntimeError("SPIRE minted nothing.")

            return ask

        argv = [path, "run", "-config", str(configuration)]
        with _served(argv, directory, client) as pid:
            yield Issuer(pid, client)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _bytes_field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


# --- step-ca ------------------------------------------------------------------------------------


@contextlib.contextmanager
def step_ca(path: str, directory: Path, seconds: float) -> Iterator[Issuer]:
    """A step-ca; all the tokens that it may be shown in ``seconds`` are made before they count."""
    root, intermediate = certificates.make_intermediate(directory)
    port, provisioner = free_port(), ec.generate_private_key(ec.SECP256R1())
    address = f"127.0.0.1:{port}"
    configuration = directory / "ca.json"
    configuration.write_text(
        json.dumps(
            {
                "root": str(root),
                "crt": str(intermediate.certificate),
                "key": str(intermediate.private_key),
                "address": address,
                "dnsNames": ["127.0.0.1"],
                "logger": {"format": "text"},
                "db": {"type": "badgerv2", "dataSource": str(directory / "db")},
                "authority": {
                    "disableIssuedAtCheck": True,  # the tokens are older than the server
                    "provisioners": [{"type": "JWK", "name": "bench", "key": _jwk(provisioner)}],
                },
            }
        )
    )
    csr = x509.load_der_x509_csr(certificate_request()).public_bytes(serialization.Encoding.PEM)
    tokens = iter(
        [
            _token(provisioner, f"https://{address}/1.0/sign")
            for _ in range(round(seconds * TOKENS_PER_SECOND) + 100)
        ]
    )
    lock = threading.Lock()
    context = ssl.create_default_context(cafile=str(root))

    def client() -> Callable[[], None]:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)

        def ask() -> None:
            with lock:
                token = next(tokens)
            body = json.dumps({"csr": csr.decode(), "ott": token})
            connection.request("POST", "/1.0/sign", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != http.client.CREATED:
                raise RuntimeError(f"step-ca answered {answer.status}: {said[:300]!r}")

        return ask

    with _served([path, str(configuration)], directory, client) as pid:
        yield Issuer(pid, client)


_SERIAL = itertools.count()


def _token(key: ec.EllipticCurvePrivateKey, audience: str) -> str:
    now = dt.datetime.now(dt.UTC)
    claims = {
        "iss": "bench", "aud": audience, "sub": IDENTITY, "sans": [IDENTITY],
        "iat": now, "nbf": now, "exp": now + dt.timedelta(hours=1),
        "jti": f"{uuid.uuid4()}-{next(_SERIAL)}",
    }  # fmt: skip
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "bench"})


def _jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x, y = (
        base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode()
        for n in (numbers.x, numbers.y)
    )
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench",
            "x": x, "y": y}  # fmt: skip


PEERS = {"step-ca": ("step-ca", step_ca), "SPIRE": ("spire-server", spire)}
"""Name → program, and how it is run."""


def version(path: str) -> str:
    """The version of the module that a program was built from, if Go is there to say."""
    go = tools.find("go")
    if go is None:
        return "unknown"
    done = subprocess.run(
        [go, "version", "-m", path], capture_output=True, text=True, timeout=30, check=False
    )
    wanted = {m.partition("@")[0].partition("/cmd/")[0] for m in MODULES.values()}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] in {"mod", "dep"} and words[1] in wanted:
            return words[2]
    return "unknown"
