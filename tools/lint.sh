#!/bin/sh
# Formatting, rooms, warnings of two compilers, clang-tidy. Runs them all, then says which failed.
set -u
cd "$(dirname "$0")/.."
failed=
step() {
    name=$1
    shift
    echo "== $name"
    "$@" || failed="$failed $name"
}

formatted() {
    files=$(find proto daemon client tests -name build -prune -o -name '*.[ch]' -print)
    [ -n "$files" ] || { echo "matched no file" >&2; return 1; }
    echo "$files" | xargs clang-format --dry-run -Werror
}

jobs=$(nproc)
build() {
    make --no-print-directory -k -O -j "$jobs" WERROR=1 SANITIZE= "$@"
}

step format formatted
step rooms python3 tools/check-rooms.py
step gcc build CC=gcc BUILD=build/lint-gcc all unit-tests examples benches
step clang build CC=clang BUILD=build/lint-clang all unit-tests examples benches
step clang-tidy build CC=clang BUILD=build/lint-clang tidy
[ -z "$failed" ] || { echo "lint failed:$failed" >&2; exit 1; }
echo "lint: all held"
