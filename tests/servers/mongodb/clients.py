"""A service's own program, with the driver that it would have."""

from typing import Any

from pymongo import MongoClient

from tests.rig import Rig


def client(rig: Rig, service: str, *, wait_milliseconds: int = 5_000) -> "MongoClient[Any]":
    """With the URL that the service is told, but for where the server is."""
    channel = rig.system.channel(service, rig.resource)
    papers = rig.host.placement.credentials(service)
    assert channel is not None
    return MongoClient(
        f"mongodb://127.0.0.1:{rig.plan.port}/?tls=true&tlsCAFile={papers}/bundle.pem"
        f"&tlsCertificateKeyFile={papers}/combined.pem&directConnection=true&retryWrites=false",
        tlsAllowInvalidHostnames=True,  # no name resolves here as it does in a sandbox
        serverSelectionTimeoutMS=wait_milliseconds,
    )
