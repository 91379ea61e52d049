# Sourced: the daemon whose pid stands in FOLDER/kvquantd.pid.

# A pid alone may be another program's by now.
daemon_runs() {
    [ -r "$1/kvquantd.pid" ] || return 1
    case $(readlink "/proc/$(cat "$1/kvquantd.pid")/exe") in
    */kvquantd | */kvquantd' (deleted)') return 0 ;;
    esac
    return 1
}

# Ends it gracefully and waits until it has ended.
daemon_stop() {
    kill -TERM "$(cat "$1/kvquantd.pid")"
    waited=0
    while daemon_runs "$1"; do
        if [ $waited = 300 ]; then
            echo "kvquantd (pid $(cat "$1/kvquantd.pid")) has not ended after 30 s" >&2
            return 1
        fi
        waited=$((waited + 1))
        sleep 0.1
    done
    rm -f "$1/kvquantd.pid"
}
