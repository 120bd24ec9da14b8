#!/bin/sh
# Build the implementations of WireGuard that Debian does not package, or only an old one of,
# into .cache/peers/bin of the repository. What cannot be built is said, and its tests are skipped.
#
#   wireguard       the latest wireguard-go, by `go install`      (needs go)
#   boringtun-cli   the latest boringtun,    by `cargo install`   (needs cargo)
#
# What is there already is kept; `interop/peers.sh --fresh` builds it again.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
peers=$root/.cache/peers
mkdir -p "$peers/bin"
if [ "${1-}" = --fresh ]; then
    rm -f "$peers/bin/wireguard" "$peers/bin/boringtun-cli"
fi

build() { # NAME TOOL COMMAND...
    name=$1 tool=$2
    shift 2
    if [ -x "$peers/bin/$name" ]; then
        echo "peers: $name is there"
    elif ! command -v "$tool" >/dev/null 2>&1; then
        echo "peers: $name is left out: $tool is not installed"
    elif "$@"; then
        echo "peers: $name is built"
    else
        echo "peers: $name is left out: \`$*\` failed"
    fi
}

build wireguard go env GOBIN="$peers/bin" go install golang.zx2c4.com/wireguard@latest
build boringtun-cli cargo cargo install --quiet --locked --root "$peers" boringtun-cli
