#!/bin/sh
# Runs each fuzzer for some seconds from its corpus, which it grows; status 1 if one finds something.
# usage: tools/fuzz.sh FOLDER SECONDS     FOLDER: where the fuzzers were built
set -eu
folder=$1 seconds=$2 status=0

for source in tests/fuzz/fuzz_*.c; do
    fuzzer=$(basename "$source" .c) && fuzzer=${fuzzer#fuzz_}
    corpus=$folder/corpus/$fuzzer found=$folder/found/$fuzzer log=$folder/$fuzzer.log
    seeds=tests/fuzz/corpus/$fuzzer
    mkdir -p "$corpus" "$found"
    [ -d "$seeds" ] || seeds=
    [ $fuzzer != page_bytes ] || "$folder/tests/fuzz/write_seeds" "$corpus"
    if "$folder/tests/fuzz/fuzz_$fuzzer" -max_total_time="$seconds" -timeout=20 -max_len=16384 \
        -print_final_stats=1 -artifact_prefix="$found/" "$corpus" $seeds 2>"$log"; then
        echo "$fuzzer: nothing found, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
            "corpus of $(ls "$corpus" | wc -l)"
    else
        tail -n 40 "$log"
        echo "$fuzzer: found something: $found, $log"
        status=1
    fi
done
exit $status
