"""What can go wrong when a service opens a channel, each with what to do."""

from watertight.errors import WatertightError


class ChannelError(WatertightError):
    """A channel cannot be opened."""


class NotUnderWatertight(ChannelError):
    """This process was not started as a service of a Watertight system."""


class ChannelsUnreadable(ChannelError):
    """The file that describes the service's channels is not as it should be."""


class NoSuchChannel(ChannelError):
    """The declaration gives this service no channel of that name."""


class WrongKind(ChannelError):
    """The channel leads to another kind of server, or the driver is not one of that kind's."""


class DriverMissing(ChannelError):
    """The Python package that speaks to this kind of server is not installed."""


class DriverUnfit(ChannelError):
    """The installed driver can no longer be held to TLS; it is not used."""


class NotLoopback(ChannelError):
    """A channel in the clear would leave this host."""


class CredentialsUnusable(ChannelError):
    """The files of the service's own SVID are not there, or do not match."""


class ChannelUnavailable(ChannelError):
    """The server could not be reached, or is not who it should be; ``__cause__`` says which."""
