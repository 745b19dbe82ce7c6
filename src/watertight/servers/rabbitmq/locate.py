"""Finds RabbitMQ's programs, and says how a private broker is started with them."""

import os
import shutil
from pathlib import Path

from watertight.enforcers.resource import ServerMissing, ServerPlan, ServerProcess
from watertight.model.placement import Placement
from watertight.servers.rabbitmq.compile import (
    CONFIGURATION,
    ENVIRONMENT,
    PLUGINS,
    sibling_port,
)

SERVER = "rabbitmq-server"
DEBIAN = "/usr/lib/rabbitmq/bin"
"""Debian's own wrappers on the path would change the user and the directory."""
ERLANG = "erl"
COMPILER = "erlc"
COOKIE = ".erlang.cookie"
NODE = "rabbit@localhost"
START_SECONDS = 90.0
ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
NO_SYSLOG = "-syslog protocol {rfc3164,standard_error}"
"""Or its syslog library, which nothing here uses, opens a UDP socket on all addresses."""

FEW_READS = "-ssl internal_active_n 1"
"""Or TLS reads a hundred times ahead of a broker that has stopped reading, up to 180 MB a
connection (measured on OTP 25; lib/ssl/src/tls_gen_connection.erl)."""

NOTHING_KEPT = "+MMmcs 0"
"""Or Erlang keeps up to 30 pieces of memory that were freed, each as large as a message, and
publishers wait for it (erts_alloc, mseg_alloc)."""

ERLANG_ARGUMENTS = (ON_LOOPBACK, NO_SYSLOG, FEW_READS, NOTHING_KEPT)


def locate_broker(plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
    """The broker and its environment. Raises :class:`ServerMissing`."""
    where = os.pathsep.join((DEBIAN, search_path))
    program = shutil.which(SERVER, path=where)
    erlang = [shutil.which(part, path=search_path) for part in (ERLANG, COMPILER)]
    if program is None or None in erlang:
        raise ServerMissing(
            f"{plan.at}: {plan.resource} needs {SERVER} and Erlang, which are not installed.",
            remedy="Install them: apt-get install rabbitmq-server.",
        )
    return ServerProcess(
        argv=(program,),
        environment=environment(plan, placement, Path(program)),
        programs=(Path(program),),
        start_seconds=START_SECONDS,
    )


def plugins_directory(plan: ServerPlan, placement: Placement) -> Path:
    """Where the broker finds our own plugin, compiled."""
    return placement.server_data(plan.resource) / "plugins"


def environment(plan: ServerPlan, placement: Placement, program: Path) -> dict[str, str]:
    """Everything of the broker's lies in its own directories; all else listens on loopback.

    The port mapper (epmd) and the distribution know no TLS here: the one only tells names, the
    other asks for the cookie, a file of the broker's own user. Both are in the broker's network.
    """
    own = placement.server_directory(plan.resource)
    theirs = program.resolve().parent.parent / "plugins"
    data = placement.server_data(plan.resource)
    return {
        "RABBITMQ_NODENAME": NODE,
        "RABBITMQ_CONFIG_FILE": str(own / CONFIGURATION),
        "RABBITMQ_CONF_ENV_FILE": str(own / ENVIRONMENT),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / PLUGINS),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(own / "advanced.config"),
        # Or it reads those of /etc/rabbitmq/conf.d, too.
        "RABBITMQ_CONFIG_FILES": str(own / "conf.d" / "*.conf"),
        "RABBITMQ_PLUGINS_DIR": f"{plugins_directory(plan, placement)}:{theirs}",
        "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
        "RABBITMQ_LOG_BASE": str(data / "logs"),
        "RABBITMQ_PID_FILE": str(data / "pid"),
        "RABBITMQ_DIST_PORT": str(sibling_port(plan.port, 1)),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(ERLANG_ARGUMENTS),
        "RABBITMQ_CTL_ERL_ARGS": ON_LOOPBACK,
        "ERL_EPMD_PORT": str(sibling_port(plan.port, 2)),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "HOME": str(data),
        "LANG": "C.UTF-8",
    }
