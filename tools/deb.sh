#!/bin/sh
# Builds the Debian packages from a copy of this tree, with or without git, and leaves them in build/deb.
# usage: tools/deb.sh
set -eu
cd "$(dirname "$0")/.."

folder=build/deb
version=$(dpkg-parsechangelog -l deploy/debian/changelog -S Version)
source=$folder/kvquant-$version
rm -rf $folder
mkdir -p "$source"
tar -cf - --exclude=./build --exclude=./.git --exclude=./client/python/build --exclude=__pycache__ \
    --exclude='*.egg-info' --exclude='*.so' . | tar -xf - -C "$source"
cp -R deploy/debian "$source"
log=$PWD/$folder/build.log
if ! (cd "$source" && MAKEFLAGS='' dpkg-buildpackage -us -uc) >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
fi
rm -rf "$source"
ls $folder/*.deb
