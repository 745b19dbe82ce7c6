"""Finds Java and Kafka's jars, and says how a private broker is started with them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from watertight.enforcers.resource import ServerHost, ServerMissing, ServerPlan, ServerProcess
from watertight.errors import WatertightError
from watertight.model.placement import Placement
from watertight.servers.kafka.compile import (
    DIRECT_SHARE,
    HEAP_SHARE,
    HOSTS,
    PROPERTIES,
    KafkaGrants,
)

JAVA, HOME, CORE = "java", "KAFKA_HOME", "kafka_2.13-4.*.jar"
FETCHED = "watertight/kafka"
"""Below the host's cache, or the user's: where tools/servers.sh puts the jars."""
ARCHIVE = "classes.jsa"
"""Of classes that are read already (application class data sharing): half of a start's time."""
START_SECONDS = 90.0
META = "meta.properties"
TOOL = "kafka.tools.StorageTool"


def locate_broker(plan: ServerPlan, placement: Placement, search_path: str) -> ServerProcess:
    """The broker and its environment. Raises :class:`ServerMissing`."""
    java = shutil.which(JAVA, path=search_path)
    libraries = next((path for path in _places() if any(path.glob(CORE))), None)
    if java is None or libraries is None:
        raise ServerMissing(
            f"{plan.at}: {plan.resource} needs Java 17 and Kafka 4, which are not installed.",
            remedy=f"Install them, and say in {HOME} where Kafka is.",
        )
    own = placement.server_directory(plan.resource)
    return ServerProcess(
        argv=(*_java(java, libraries, plan, own), "kafka.Kafka", str(own / PROPERTIES)),
        environment={"LANG": "C.UTF-8"},
        programs=(Path(java), libraries),
        start_seconds=START_SECONDS,
    )


def _places() -> Iterator[Path]:
    if home := os.environ.get(HOME):
        yield Path(home) / "libs"
    own = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    for cache in ("/var/cache", own):
        yield Path(cache) / FETCHED


def _java(java: str, libraries: Path, plan: ServerPlan, own: Path) -> tuple[str, ...]:
    grants: KafkaGrants = plan.grants
    mebibytes = grants.memory_bytes >> 20
    archive = libraries / ARCHIVE
    # With what it was made from, in the same order, or it is not taken (and nothing is lost).
    jars = ":".join(str(jar) for jar in sorted(libraries.glob("*.jar")))
    return (
        java,
        *((f"-XX:SharedArchiveFile={archive}",) if archive.exists() else ()),
        f"-Xmx{mebibytes // HEAP_SHARE}m",
        f"-XX:MaxDirectMemorySize={mebibytes // DIRECT_SHARE}m",
        "-XX:ReservedCodeCacheSize=64m",
        "-XX:MaxMetaspaceSize=128m",
        "-XX:+UseSerialGC",
        # Half a broker is none: it ends, and is started again.
        "-XX:+ExitOnOutOfMemoryError",
        # No way in by files: for debuggers, and for whoever reads its counters.
        "-XX:+DisableAttachMechanism",
        "-XX:-UsePerfData",
        # Or a session is taken up for a day, whatever has become of its certificate; 0 is for ever.
        "-Djdk.tls.server.sessionTicketTimeout=1",
        "-Djdk.tls.rejectClientInitiatedRenegotiation=true",
        "-Djava.net.preferIPv4Stack=true",
        f"-Djdk.net.hosts.file={own / HOSTS}",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        jars,
    )


async def format_data(plan: ServerPlan, host: ServerHost) -> None:
    """Has the broker's own tool prepare its directory, once. Raises WatertightError."""
    data = host.placement.server_data(plan.resource)
    seen = await host.run(("/bin/sh", "-c", 'test -e "$0"', str(data / "log" / META)))
    if not seen.status:
        return
    grants: KafkaGrants = plan.grants
    *java, _, properties = host.process.argv
    done = await host.run(
        (*java, TOOL, "format", "--standalone", "-t", grants.cluster, "-c", properties)
    )
    if done.status:
        raise WatertightError(
            f"{plan.resource}: Kafka does not prepare its directory: {done.output[-300:]}"
        )
