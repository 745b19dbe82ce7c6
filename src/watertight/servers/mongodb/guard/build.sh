#!/usr/bin/env bash
# Builds watertight-mongodb into a cache of this host or user, once for each state of its sources:
# Go brings the modules whose checksums stand in go.sum, and no others. Takes three minutes of a
# processor, and 2 GB of Go's own caches.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}
# Servers run as users of their own, who may not pass through root's home.
if [ "$(id -u)" = 0 ]; then cache=/var/cache; fi
place=$cache/watertight/mongodb
state=$(cd "$here" && cat -- *.go go.mod go.sum build.sh | sha256sum | cut -d' ' -f1)
if [ -x "$place/watertight-mongodb" ] && [ "$(cat "$place/state" 2>/dev/null)" = "$state" ]; then exit 0; fi
if ! command -v go >/dev/null; then
    echo "MongoDB is left out, for Go 1.24 is not installed." >&2
    exit 0
fi
mkdir -p "$place"
new=$(mktemp -d "$place/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
if ! (cd "$here" && go mod download >&2); then
    echo "MongoDB is left out, for Go does not bring FerretDB's modules." >&2
    exit 0
fi
(cd "$here" && CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -ldflags '-s -w' -o "$new/watertight-mongodb" .)
chmod 755 "$place" "$new/watertight-mongodb"
mv "$new/watertight-mongodb" "$place/watertight-mongodb"
echo "$state" >"$place/state"
