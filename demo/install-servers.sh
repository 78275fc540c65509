#!/bin/sh
# Installs the servers that the demo and the tests start, by apt where this may be done.
set -eu

missing=""
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || missing="$missing postgresql"
command -v psql >/dev/null || missing="$missing postgresql-client"
command -v redis-server >/dev/null || missing="$missing redis-server"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing$missing"
  apt-get update -qq
  # RUNLEVEL=1 keeps the packages from starting services of their own.
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
  echo "please install:$missing (on Debian, as root: apt-get install$missing)" >&2
  exit 1
fi
