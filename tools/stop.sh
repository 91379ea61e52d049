#!/bin/sh
# Ends the daemon that `make run` left running, if it runs, and waits until it has ended.
# usage: tools/stop.sh RUN_FOLDER
set -eu
. tools/daemon.sh
if daemon_runs "$1"; then
    pid=$(cat "$1/kvquantd.pid")
    daemon_stop "$1"
    echo "kvquantd (pid $pid) has ended"
else
    echo "kvquantd is not running"
fi
