#!/bin/sh
# Fills a folder with packages of another architecture and all that they depend on, for a cross compiler.
# usage: tools/sysroot.sh ARCHITECTURE FOLDER PACKAGE...
# apt keeps its state for this beside the folder: the machine's own packages and settings stay as they are.
set -eu
architecture=$1 folder=$2
shift 2

stamp=$folder/.packages
[ "$(cat "$stamp" 2>/dev/null || :)" != "$*" ] || exit 0

work=$(realpath -m "$folder.apt")
rm -rf "$folder" "$work"
mkdir -p "$folder" "$work/lists/partial" "$work/archives/partial"
: >"$work/status" # nothing is installed there yet
trap 'rm -rf "$work"' EXIT

apt() {
    apt-get -q -y -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
        -o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=true \
        -o Dir::State="$work" -o Dir::State::status="$work/status" -o Dir::Cache="$work" "$@"
}

echo "fetching for $architecture: $*"
if ! { apt update && apt install --download-only "$@"; } >"$work/log" 2>&1; then
    cat "$work/log" >&2
    exit 1
fi
for package in "$work"/archives/*.deb; do
    dpkg-deb -x "$package" "$folder"
done
echo "$*" >"$stamp"
