"""Stands in for the company's login service: it has a signing key, publishes the public half as
`jwks.json` for the gateway, and issues access tokens (RFC 9068) for five minutes.

    python examples/shop/login.py prepare
    python examples/shop/login.py token --scope orders:read

The key is made here, on first use, and lies in `.login/` (0600), which git ignores: beside the
project's folder and not in it, since what is in the project the shop's services may read. It is for
this demo only: nothing but this demo's declaration trusts it.
"""

import argparse
import json
import os
import time
import uuid
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

HERE = Path(__file__).resolve().parent
SIGNING_KEY = HERE.parent / ".login" / "signing-key.json"
JWKS = HERE / "jwks.json"
ISSUER = "https://login.shop.example"
AUDIENCE = "shop"
LIFETIME_SECONDS = 300


def signing_key() -> ECKey:
    """The demo's ES256 key; made on first use."""
    if not SIGNING_KEY.exists():
        SIGNING_KEY.parent.mkdir(mode=0o700, exist_ok=True)
        key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
        descriptor = os.open(SIGNING_KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(key.as_dict(private=True), file)
    return ECKey.import_key(json.loads(SIGNING_KEY.read_text()))


def prepare() -> Path:
    """Writes the public key set that the declaration names; returns where."""
    public = signing_key().as_dict(private=False)
    JWKS.write_text(json.dumps({"keys": [public]}, indent=1) + "\n")
    return JWKS


def token(*scopes: str, subject: str = "customer-1") -> str:
    """An access token for these scopes, as a program would get it from the login service."""
    now = int(time.time())
    key = signing_key()
    claims = {
        "iss": ISSUER,
        "sub": subject,
        "aud": AUDIENCE,
        "client_id": "demo",
        "scope": " ".join(scopes),
        "iat": now,
        "exp": now + LIFETIME_SECONDS,
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, claims, key)


def main() -> None:
    parser = argparse.ArgumentParser(description="the demo's login service")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="make the key set that the gateway checks tokens with")
    issue = commands.add_parser("token", help="print an access token")
    issue.add_argument("--scope", action="append", default=[], help="may be given several times")
    issue.add_argument("--subject", default="customer-1")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        print(prepare())
    else:
        print(token(*arguments.scope, subject=arguments.subject))


if __name__ == "__main__":
    main()
