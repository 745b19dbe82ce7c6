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

    ``originate``: the service's proxy speaks TLS for us. The server's greeting, which it passes on,
    asks for TLS all the same, and is not to be followed.

    The list of other servers in a greeting is ignored: a channel has one end.
    """

    def __init__(self, *, originate: bool) -> None:
        super().__init__()
        self._originate = originate

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self._originate:
            info["tls_required"] = False  # nats-py reads this very dictionary after us
        elif initial_connection and not info.get("tls_required"):
            if self._transport is not None:
                # nats-py would leave it open, one for each try.
                self._transport.close()  # type: ignore[no-untyped-call]
            raise SecureConnRequiredError
        info.pop("connect_urls", None)
        await super()._process_info(info, initial_connection)
