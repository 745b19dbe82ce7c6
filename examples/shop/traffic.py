"""Real traffic through the shop's gateway: what a customer and a program do, and what is refused.

    python examples/shop/traffic.py --ca ca.pem [--rounds 20]

Trusts only the authorities in the file given. Prints one line a step and exits 1 if any step
answered otherwise than it should.
"""

import argparse
import re
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import login

HOSTNAME = "shop.example"


@dataclass(frozen=True)
class Step:
    """One request as it went: what was done, what should come back, and what came."""

    what: str
    expected: int
    observed: int
    milliseconds: float

    @property
    def good(self) -> bool:
        return self.expected == self.observed

    def __str__(self) -> str:
        sign = "ok " if self.good else "BAD"
        wanted = "" if self.good else f" (expected {self.expected})"
        return f"  {sign}  {self.observed}{wanted}  {self.milliseconds:7.1f} ms  {self.what}"


class Outside:
    """A client of the gateway that knows its address, its name and its authority."""

    def __init__(self, address: str, ca: str) -> None:
        self._client = httpx.Client(
            base_url=f"https://{address}",
            verify=ssl.create_default_context(cafile=ca),
            headers={"host": HOSTNAME},
            timeout=30,  # a gateway waits for a service that is away, and says so then
            trust_env=False,
        )
        self.last: httpx.Response | None = None

    def step(self, what: str, expected: int, method: str, path: str, **options: object) -> Step:
        """One request. The name in the certificate must be the gateway's own."""
        before = time.perf_counter()
        self.last = self._client.request(
            method, path, extensions={"sni_hostname": HOSTNAME}, **options
        )
        spent = (time.perf_counter() - before) * 1000
        return Step(f"{method} {path}: {what}", expected, self.last.status_code, spent)

    def close(self) -> None:
        self._client.close()


def bearer(*scopes: str) -> dict[str, str]:
    return {"authorization": f"Bearer {login.token(*scopes)}"}


def customer(outside: Outside) -> Iterator[Step]:
    """A person with a browser: looks, orders, looks again."""
    yield outside.step("the shop window, prices over gRPC", 200, "GET", "/")
    yield outside.step("one product", 200, "GET", "/products/kettle")
    form = {"sku": "kettle", "quantity": "1", "customer": "ada@example.org"}
    yield outside.step("an order from the form", 303, "POST", "/checkout", data=form)
    answer = outside.last
    if answer is not None and answer.status_code == httpx.codes.SEE_OTHER:
        yield outside.step("how it stands", 200, "GET", answer.headers["location"])


def program(outside: Outside) -> Iterator[Step]:
    """A program with a token: places an order and reads it back."""
    order = {"sku": "cup", "quantity": 2, "customer": "bot@example.org"}
    write, read = bearer("orders:write"), bearer("orders:read")
    yield outside.step("an order", 201, "POST", "/api/orders", json=order, headers=write)
    answer = outside.last
    if answer is not None and answer.status_code == httpx.codes.CREATED:
        number = answer.json()["id"]
        yield outside.step("read back", 200, "GET", f"/api/orders/{number}", headers=read)


def books(outside: Outside) -> Iterator[Step]:
    """What was sold, from the database."""
    read = bearer("orders:read")
    yield outside.step("what was sold", 200, "GET", "/api/turnover", headers=read)


def stranger(outside: Outside) -> Iterator[Step]:
    """What is not declared does not work."""
    yield outside.step("no token", 401, "GET", "/api/orders/1")
    read = bearer("orders:read")
    yield outside.step("a token without the scope", 403, "POST", "/api/orders", headers=read)
    yield outside.step("a path nobody declared", 404, "GET", "/healthz")


def table(steps: list[Step]) -> str:
    spent = sorted(step.milliseconds for step in steps)
    wrong = sum(not step.good for step in steps)
    middle = spent[len(spent) // 2]
    return (
        f"{len(steps)} requests, {wrong} wrong, median {middle:.1f} ms, slowest {spent[-1]:.1f} ms"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="drives traffic through the shop's gateway")
    parser.add_argument("--gateway", default="127.0.0.1:8443", help="address:port")
    parser.add_argument("--ca", required=True, help="PEM file of the authorities to trust")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-books", action="store_true", help="no database runs behind it")
    arguments = parser.parse_args()
    if not re.fullmatch(r"[^/@]+:\d+", arguments.gateway):
        parser.error("--gateway is address:port")
    if not Path(arguments.ca).is_file():
        parser.error(f"there is no {arguments.ca}: is the shop up?")
    outside = Outside(arguments.gateway, arguments.ca)
    steps: list[Step] = []
    extra = () if arguments.no_books else (books,)
    try:
        for number in range(arguments.rounds):
            for part in (customer, program, stranger, *extra):
                for step in part(outside):
                    steps.append(step)
                    if number == 0 or not step.good:
                        print(step, flush=True)
    except httpx.HTTPError as error:
        print(
            f"  the gateway at {arguments.gateway}: {type(error).__name__}: {error}",
            file=sys.stderr,
        )
        return 1
    finally:
        outside.close()
    print(f"  {table(steps)}")
    return int(any(not step.good for step in steps))


if __name__ == "__main__":
    sys.exit(main())
