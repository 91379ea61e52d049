#!/bin/sh
# Starts kvquantd on a private socket, unless it runs, and lets a real model leave and resume.
# usage: tools/run.sh BUILD_FOLDER RUN_FOLDER   from the checkout's root
set -eu
build=$1 run=$2
. tools/daemon.sh

memory=1G
socket=$run/kvquantd.sock # relative: a socket's path may have 107 bytes at most
log=$run/kvquantd.log
kvq() {
    "$build/kvq" "$1" --socket "$socket"
}

mkdir -p "$run"
if daemon_runs "$run" && { [ "$build/kvquantd" -nt "$run/kvquantd.pid" ] || ! kvq status; } \
    >/dev/null 2>&1; then
    daemon_stop "$run" # built anew since it started, or deaf
fi
if daemon_runs "$run"; then
    echo "kvquantd runs already (pid $(cat "$run/kvquantd.pid"))"
else
    setsid "$build/kvquantd" --socket "$socket" --memory $memory >"$log" 2>&1 </dev/null &
    echo $! >"$run/kvquantd.pid"
    tries=100
    until kvq status >/dev/null 2>&1; do
        tries=$((tries - 1))
        # Gone, not merely another program still: just after the fork it is this shell's copy.
        if [ $tries = 0 ] || ! kill -0 "$(cat "$run/kvquantd.pid")" 2>/dev/null; then
            echo "kvquantd did not start; its log, $log, ends:" >&2
            tail -n 5 "$log" >&2
            exit 1
        fi
        sleep 0.05
    done
    echo "kvquantd started (pid $(cat "$run/kvquantd.pid"), $memory, log $log)"
fi

for verb in leave resume; do
    echo
    build/venv/bin/python client/python/examples/resume.py $verb --socket "$socket" --work "$run"
done

cat <<EOF

The daemon stays up. Talk to it with
   $build/kvq sessions --socket $socket
   $build/kvq info demo-level-3 --socket $socket
   $build/kvq status --socket $socket
and end it with
   make stop
EOF
