"""The one change to nats-py: no server without TLS, whatever its greeting says."""

from typing import Any

from nats.aio.client import Client
from nats.errors import SecureConnRequiredError

from watertight.sdk.errors import DriverUnfit

_HOOK = "_process_info"


def require_fit() -> None:
    """Raises :class:`DriverUnfit` if this nats-py no longer asks us before it upgrades to TLS."""
    if not callable(getattr(Client, _HOOK, None)):
        raise DriverUnfit(
            "The installed nats-py cannot be held to TLS: it has changed.",
            remedy="`pip install 'watertight-channels[nats]'` installs one that can.",
        )


class StrictClient(Client):
    """A client that sends nothing to a server whose greeting does not ask for TLS.

    Also the list of other servers in a greeting is ignored: a channel has one end.
    """

    def __init__(self, *, strict: bool) -> None:
        super().__init__()
        self._strict = strict

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self._strict and initial_connection and not info.get("tls_required"):
            raise SecureConnRequiredError
        one_end = {key: value for key, value in info.items() if key != "connect_urls"}
        await super()._process_info(one_end, initial_connection)
