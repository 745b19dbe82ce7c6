#!/usr/bin/env bash
# Installs the databases and brokers that the tests hold to their channels, where they are missing.
# Debian's packages would start a server each: not on this machine, whose ports are its owner's.
set -euo pipefail
"$(dirname "$0")/kafka/fetch.sh"
"$(dirname "$0")/../src/watertight/servers/mongodb/guard/build.sh"
missing=()
have() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || compgen -G "$2" >/dev/null; }
have postgres '/usr/lib/postgresql/*/bin/postgres' || missing+=(postgresql)
have nats-server '' || missing+=(nats-server)
have rabbitmq-server '/usr/lib/rabbitmq/bin/rabbitmq-server' || missing+=(rabbitmq-server)
have mariadbd '' || missing+=(mariadb-server)
have mosquitto '' || missing+=(mosquitto)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Tests of these servers are skipped, for they are not installed: ${missing[*]}" >&2
    echo "Install them: apt-get install ${missing[*]}" >&2
    exit 0
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
