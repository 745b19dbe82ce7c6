"""A service's sandbox without a sandbox: its credential files and channels file, kept by hand."""

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from watertight.identity.authority import Authority
from watertight.identity.credential_files import CredentialFiles, Owner
from watertight.identity.hazmat import open_issuer
from watertight.identity.keeper import SVIDKeeper, Workload
from watertight.identity.kek import FileKEK
from watertight.identity.profiles import Role
from watertight.sdk.endpoints import VARIABLE, Endpoint, find
from watertight.verify.forge import Forger, Signer

TRUST_DOMAIN = "shop.internal"
SERVICE = "orders"
SERVERS = ("orders-db", "events", "jobs", "store", "field")
NOT_US = "billing"
"""Another service of the system, with an SVID of its own."""


@dataclass
class World:
    """The authority, and what it has delivered below ``base``."""

    base: Path
    keeper: SVIDKeeper
    forger: Forger
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def owner(self) -> Owner | None:
        """Whose a server's files are; None: ours."""
        if os.geteuid():
            return None
        nobody = pwd.getpwnam("nobody")
        return Owner(nobody.pw_uid, nobody.pw_gid)

    def credentials(self, name: str) -> Path:
        """Where the files of a workload are."""
        return self.base / "credentials" / name / "current"

    def deliver(self, *names: str) -> None:
        """Puts the present SVIDs of these (of none: of all) in place."""
        for name in names or (SERVICE, NOT_US, *SERVERS):
            svid = self.keeper.x509_svid(name)
            assert svid is not None
            owner = self.owner if name in SERVERS else None
            CredentialFiles(self.credentials(name).parent, owner).put(svid, self.keeper.bundle())

    async def rotate(self, *names: str) -> None:
        """New SVIDs for these, as files."""
        for name in names:
            await self.keeper.reissue(name)
        self.deliver(*names)

    def open(self, name: str, kind: str, port: int, **more: Any) -> Endpoint:
        """Declares a channel of our service, as ``watertight apply`` would."""
        parameters = more.pop("parameters", {})
        self.channels[name] = {
            "kind": kind,
            "host": name,
            "address": "127.0.0.1",
            "port": port,
            "originate": False,
            "parameters": parameters,
            **more,
        }
        self.write()
        return find(name)

    def write(self) -> None:
        """Writes the channels file anew."""
        document = {
            "service": SERVICE,
            "trust_domain": TRUST_DOMAIN,
            "credentials": str(self.credentials(SERVICE)),
            "channels": self.channels,
        }
        new = self.base / ".channels.new"
        new.write_text(json.dumps(document))
        new.replace(self.base / "channels.json")


def _base() -> Path:
    """Others pass through, to files of their own."""
    base = Path(tempfile.mkdtemp(prefix="wt-"))
    base.chmod(0o711)
    (base / "credentials").mkdir(mode=0o711)
    return base


@asynccontextmanager
async def living_world() -> AsyncIterator[World]:
    """A world with everybody's files, whose channels this process sees."""
    base = _base()
    workloads = [
        *(Workload(name) for name in (SERVICE, NOT_US)),
        *(Workload(name, role=Role.SERVERS) for name in SERVERS),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(base / "channels.json"))
        try:
            kek = FileKEK(base / "kek")
            with Authority.open_or_create(base / "authority", TRUST_DOMAIN, kek=kek) as authority:
                issuer = open_issuer(base / "authority", kek=kek, reason="a test")
                signer = Signer(issuer.certificate, issuer.private_key, issuer.chain)
                forger = Forger(signer, parent=base)
                world = World(base, SVIDKeeper(authority, workloads), forger)
                await world.keeper.refresh()
                world.deliver()
                world.write()
                yield world
        finally:
            shutil.rmtree(base)
