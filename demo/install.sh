#!/bin/sh
# Sees to what cannot be installed by pip: `install.sh python PYTHON`, `install.sh demo`, `install.sh tests`.
# As root on Debian it installs what is missing; elsewhere it says so in one line.
set -eu

has() { PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }
has_library() { ls "/usr/lib/$1" >/dev/null 2>&1 || ls /usr/lib*/*/"$1" >/dev/null 2>&1 || ls /usr/lib64/"$1" >/dev/null 2>&1; }
lacks() { missing="$missing $1"; }
missing=""

python() {
  if ! has "$1"; then
    [ "$1" = python3 ] || { echo "$1 is not there: make PYTHON=... takes Python 3.11 or newer" >&2; exit 1; }
    lacks python3; lacks python3-venv
  elif ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$("$1" --version) is too old: make PYTHON=... takes Python 3.11 or newer" >&2
    exit 1
  elif ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
    lacks python3-venv
  fi
}

demo() {
  ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || has postgres || lacks postgresql
  has redis-server || lacks redis-server
  # mongod comes by pip, without this library.
  has_library libcurl.so.4 || lacks libcurl4
}

tests() {
  demo
  has psql || lacks postgresql-client
  has promtool || lacks prometheus
  has pgbouncer || lacks pgbouncer
  has faketime || lacks faketime
  has ip || lacks iproute2
}

install() {
  policy=/usr/sbin/policy-rc.d
  # Debian's way to say: install the packages, start no service.
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  echo "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086 # one word a package
  apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

"$@"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && has apt-get; then
  install
else
  echo "please install:$missing (on Debian, as root: apt-get install$missing)" >&2
  exit 1
fi
