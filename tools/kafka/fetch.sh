#!/usr/bin/env bash
# Brings Kafka's jars into a cache of this host or user, once: Maven resolves them, and each must be
# the one whose checksum stands in sha256sums, with none besides.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${KAFKA_HOME:-}" ]; then exit 0; fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}
# Servers run as users of their own, who may not pass through root's home.
if [ "$(id -u)" = 0 ]; then cache=/var/cache; fi
jars=$cache/watertight/kafka
whole() { [ -d "$1" ] && (cd "$1" && sha256sum --status --strict -c "$here/sha256sums" 2>/dev/null) &&
    diff -q <(cd "$1" && ls -- *.jar) <(awk '{ print $2 }' "$here/sha256sums" | LC_ALL=C sort) >/dev/null; }
export LC_ALL=C
work="" broker=""
archive() { # what Java has read and checked of all classes, by a broker that starts once: half of each start
    [ ! -e "$jars/classes.jsa" ] && command -v java >/dev/null || return 0
    local log
    work=$(mktemp -d)
    # Also where somebody interrupts us: what runs in the background heeds no ^C.
    trap '[ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker"; } || true; rm -rf "$work"' EXIT
    log=$work/said
    read -r one two < <(python3 -c 'import socket as s
a, b = s.socket(), s.socket()
for x in (a, b): x.bind(("127.0.0.1", 0))
print(a.getsockname()[1], b.getsockname()[1])')
    printf '%s\n' process.roles=broker,controller node.id=1 "log.dirs=$work/log" \
        "listeners=PLAINTEXT://127.0.0.1:$one,CONTROLLER://127.0.0.1:$two" \
        "advertised.listeners=PLAINTEXT://127.0.0.1:$one" controller.listener.names=CONTROLLER \
        "controller.quorum.bootstrap.servers=127.0.0.1:$two" log.cleaner.dedupe.buffer.size=4194304 >"$work/properties"
    set -- java -Xmx128m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=info -cp "$(printf '%s:' "$jars"/*.jar | sed 's/:$//')"
    if "$@" kafka.tools.StorageTool format --standalone -t AAAAAAAAAAAAAAAAAAAAAQ -c "$work/properties" >"$log" 2>&1; then
        "$@" -XX:ArchiveClassesAtExit="$work/classes.jsa" kafka.Kafka "$work/properties" >>"$log" 2>&1 &
        broker=$!
        for _ in $(seq 120); do
            grep -q 'Kafka Server started' "$log" && break
            kill -0 "$broker" 2>/dev/null || break
            sleep 0.5
        done
        kill "$broker" 2>/dev/null || true
        wait "$broker" || true
    fi
    if [ -e "$work/classes.jsa" ]; then
        chmod 644 "$work/classes.jsa"
        mv "$work/classes.jsa" "$jars/classes.jsa"
    else
        echo "Kafka will start more slowly: Java made no archive of its classes." >&2
    fi
}
if whole "$jars"; then archive; exit 0; fi
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    echo "Tests of Kafka are skipped, for Java 17 and Maven are not installed." >&2
    exit 0
fi
mkdir -p "$(dirname "$jars")"
new=$(mktemp -d "$jars.XXXXXX")
trap 'rm -rf "$new"' EXIT
if ! mvn -q -B -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$new" >&2; then
    echo "Tests of Kafka are skipped, for Maven does not bring its jars." >&2
    exit 0
fi
if ! whole "$new"; then
    echo "Kafka's jars are not those of tools/kafka/sha256sums: they are not used." >&2
    exit 1
fi
chmod 755 "$new"
chmod 644 "$new"/*
rm -rf "$jars"
mv "$new" "$jars"
archive
