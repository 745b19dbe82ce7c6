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
    diff -q <(ls "$1") <(awk '{ print $2 }' "$here/sha256sums" | LC_ALL=C sort) >/dev/null; }
export LC_ALL=C
if whole "$jars"; then exit 0; fi
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
