#!/bin/sh
# gcc -fanalyzer and cppcheck over all C. Status 1 for a finding that tools/analysis.txt does not
# have, or for one that it has and that is not found any more. Takes minutes.
set -eu
cd "$(dirname "$0")/.."
make --no-print-directory SANITIZE= all
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
defines='-I. -Ibuild/gen -D_GNU_SOURCE -DKVQUANT_VERSION="0"'

# The kernels are straight-line arithmetic, over which the analyzer takes hours.
find proto/wire proto/page daemon client/c client/cli -name '*.c' \
    ! -name 'avx*' ! -path 'proto/page/portable_*' | sort >"$work/files"
# Said at the place where a path ends, which moves: the file is what is told.
xargs -P "$(nproc)" -I{} timeout 600 gcc -std=gnu11 -O1 $defines -fanalyzer -c -o /dev/null {} \
    <"$work/files" >"$work/gcc" 2>&1
cppcheck --std=c11 --enable=warning,performance,portability --quiet -j "$(nproc)" -I. -D_GNU_SOURCE \
    --suppress=preprocessorErrorDirective \
    --template='{file}:{line}: {id}: {message}' proto daemon client/c client/cli >"$work/cppcheck" 2>&1

{
    sed -n 's/^\(\.\/\)*\([^: ]*\.[ch]\):.* \[\(-Wanalyzer-[a-z-]*\)\]$/\2 \3/p' "$work/gcc"
    sed -n 's/^\([^: ]*\.[ch]\):[0-9]*: \([A-Za-z]*\): .*/\1 \2/p' "$work/cppcheck"
} | sort -u >"$work/found"
grep -v '^#' tools/analysis.txt | cut -d' ' -f1,2 | sort -u >"$work/accepted"
status=0
for pair in new:-23 gone:-13; do
    comm "${pair#*:}" "$work/found" "$work/accepted" | sed "s/^/${pair%%:*}: /" >"$work/pair"
    [ ! -s "$work/pair" ] || { cat "$work/pair"; status=1; }
done
[ $status = 0 ] || grep -h 'Wanalyzer\|^[^ ]*\.[ch]:[0-9]*: ' "$work/gcc" "$work/cppcheck" || true
echo "analyse: $(wc -l <"$work/found") findings in $(wc -l <"$work/files") files, of which $(wc -l <"$work/accepted") are accepted"
exit $status
