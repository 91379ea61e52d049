"""kvq's commands: exit statuses, help, JSON keys, tables."""

import json
import os
import pathlib
import subprocess
import time

import numpy as np
import pytest
from conftest import Command, program
from wire import Connection, Geometry

LAYERS, TOKENS, HEADS, DIM = 2, 200, 2, 40
INFO_KEYS = {
    "session", "model", "tenant", "id", "version", "level", "min_snr_db", "tokens", "tokens_available",
    "tail_tokens", "logical_bytes", "stored_bytes", "unique_bytes", "ratio", "ratio_input", "bits_per_value",
    "snr_k_db", "snr_v_db", "estimated", "geometry", "age_ms", "idle_ms", "pinned_ms",
    "policy", "idle_steps", "tail_coded", "sharing", "token_ids_tokens",
    "durability", "disk_bytes", "key_summaries", "key_summaries_bytes", "attachments", "embeddings",
}
STATUS_KEYS = {
    "version", "pid", "uptime_seconds", "sockets", "memory", "sessions", "tokens", "bytes_16bit",
    "logical_bytes", "stored_bytes", "unique_bytes", "ratio", "ratio_input", "levels", "keeper", "pressure",
    "capacity",
    "ageing", "state", "sharing", "disk", "blocks", "attachments", "recall", "takeover", "tenants",
    "appended_tokens", "appended_bytes", "appends_waiting", "fetched_tokens", "fetched_bytes", "fetch_hits",
    "fetch_misses", "connections",
    "connections_accepted", "connections_refused", "connections_stalled", "sessions_created",
    "sessions_deleted", "requests", "operations", "errors",
}
MEMORY_KEYS = {
    "limit_bytes", "used_bytes", "rss_bytes", "pages_bytes", "tails_bytes", "sessions_bytes",
    "fixed_bytes", "buffers_bytes", "warm_bytes",
}
COMMANDS = ["import", "export", "dump", "restore", "info", "sessions", "status", "top", "fork", "truncate", "age", "policy", "pin", "flush", "match",
            "index", "unindex", "recall",
            "attach put", "attach get", "attach list", "attach rm", "rm", "ping", "control", "token", "bench socket", "bench synthetic",
            "profile", "plan", "doctor", "llama save", "llama restore", "llama list"]


@pytest.fixture
def cache(tmp_path):
    array = np.random.default_rng(0).standard_normal((LAYERS, 2, TOKENS, HEADS, DIM)).astype(np.float32)
    np.save(tmp_path / "cache.npy", array)
    return tmp_path / "cache.npy"


def test_info_has_every_key_and_its_figures_agree(kvq, cache):
    kvq("import", "a", cache, "--model", "m")
    info = kvq.json("info", "a")
    assert set(info) == INFO_KEYS | {"levels"}
    values = LAYERS * 2 * TOKENS * HEADS * DIM
    assert info["logical_bytes"] == 4 * values
    assert info["ratio"] == pytest.approx(2 * values / info["stored_bytes"])
    assert info["ratio_input"] == pytest.approx(4 * values / info["stored_bytes"])
    assert info["bits_per_value"] == pytest.approx(8 * info["stored_bytes"] / values)
    assert (info["session"], info["model"], info["estimated"]) == ("a", "m", False)
    assert info["tokens"] == info["tokens_available"] == TOKENS
    assert all(set(row) == {"level", "tokens", "bytes"} for row in info["levels"])
    assert sum(row["tokens"] for row in info["levels"]) == TOKENS
    assert sum(row["bytes"] for row in info["levels"]) <= info["stored_bytes"]
    assert info["geometry"] == {
        "layers": LAYERS, "heads": HEADS, "head_dim_k": DIM, "head_dim_v": DIM, "dtype": "f32",
        "rope": {"pairing": "none"},
    }


def test_levels_are_numbers_from_0_on_and_words_else(kvq, cache):
    for level, shown in (("fast8", "fast8"), ("exact", "exact"), ("4", 4)):
        kvq("import", level, cache, "--model", "m", "--level", level)
        info = kvq.json("info", level)
        assert info["level"] == shown
        assert {row["level"] for row in info["levels"]} == {shown, "sinks"}


def test_sessions_are_listed_oldest_first_without_levels(kvq, cache):
    assert kvq.json("sessions") == []
    names = ["b", "a", 'quote " and \\ and é']
    for name in names:
        kvq("import", name, cache, "--model", "m")
    listed = kvq.json("sessions")
    assert [row["session"] for row in listed] == names
    assert all(set(row) == INFO_KEYS for row in listed)
    table = kvq("sessions").stdout.splitlines()
    assert table[0].split()[:4] == ["TOKENS", "STORED", "UNIQUE", "RATIO"]
    assert [line.split()[-2] for line in table[1:3]] == ["b", "a"]


def test_models_stand_under_each_other_whatever_the_names_are(kvq, daemon):
    with Connection(daemon.socket) as connection:
        for name in ("a", "two words", "ünï", "e\u0301"):
            connection.open(name.encode(), b"model", Geometry(1, 1, 8, 8))
    head, *rows = kvq("sessions").stdout.splitlines()
    column = head.index("MODEL")
    assert [row.replace("e\u0301", "e").index("model") for row in rows] == [column] * 4
    assert len(head) <= 80


def test_sessions_are_sorted_as_asked(kvq, daemon, cache, tmp_path):
    kvq("import", "b-large", cache, "--model", "m", "--level", "exact")
    with Connection(daemon.socket) as connection:
        connection.open(b"c-empty", b"m", Geometry(1, 1, 8, 8))
        connection.open(b"a-empty", b"m", Geometry(1, 1, 8, 8))
    time.sleep(0.01)
    kvq("export", "b-large", tmp_path / "out.npy")
    orders = {
        "made": ["b-large", "c-empty", "a-empty"], "used": ["c-empty", "a-empty", "b-large"],
        "size": ["b-large", "c-empty", "a-empty"], "tokens": ["b-large", "c-empty", "a-empty"],
        "name": ["a-empty", "b-large", "c-empty"],
    }
    for order, names in orders.items():
        assert kvq("sessions", "--names", "--sort", order).stdout.splitlines() == names, order
        assert [row["session"] for row in kvq.json("sessions", "--sort", order)] == names, order
    assert kvq("sessions", "--names").stdout.splitlines() == orders["made"]


def test_a_list_of_many_pages_is_whole(kvq, daemon, cache):
    names = [f"session-{i:04}-" + "x" * 200 for i in range(500)]
    with Connection(daemon.socket) as connection:
        for name in names:
            connection.open(name.encode(), b"m" * 255, Geometry(1, 1, 8, 8))
    assert [row["session"] for row in kvq.json("sessions")] == names


def test_status_has_every_key(kvq, daemon, cache):
    kvq("import", "a", cache, "--model", "m")
    status = kvq.json("status")
    assert set(status) == STATUS_KEYS
    assert set(status["memory"]) == MEMORY_KEYS
    assert set(status["keeper"]) == {"queued_sessions", "chunks", "bytes_before", "bytes_after"}
    assert set(status["pressure"]) == {"rounds", "aged_sessions", "aged_bytes", "spilled_chunks", "spilled_bytes",
                                       "coded_tails", "coded_tail_bytes",
                                       "evicted_sessions", "evicted_tokens", "evicted_bytes", "deleted_sessions", "refused"}
    assert set(status["operations"]["append"]) == {"requests", "errors", "total_us", "mean_us", "max_us"}
    assert status["pid"] == daemon.pid
    assert status["memory"]["limit_bytes"] == 256 << 20
    assert (status["sessions"], status["tokens"]) == (1, TOKENS)
    assert daemon.socket in status["sockets"]
    assert status["requests"]["append"] == 1
    info = kvq.json("info", "a")
    for key in ("logical_bytes", "stored_bytes", "ratio", "ratio_input"):
        assert status[key] == pytest.approx(info[key])


def test_the_ratio_of_an_empty_store_is_null(kvq):
    assert kvq.json("status")["ratio"] is None


def test_the_ratio_shown_is_against_the_width_of_what_came(kvq, tmp_path):
    array = np.random.default_rng(0).normal(0, 16, (LAYERS, 2, 1024, HEADS, DIM)).astype(np.int8)
    np.save(tmp_path / "cache.npy", array)
    shown = kvq("import", "a", tmp_path / "cache.npy", "--model", "m", "--level", "2").stdout
    info = kvq.json("info", "a")
    ratio = f"{array.nbytes / info['stored_bytes']:.2f}"
    assert info["geometry"]["dtype"] == "int8"
    assert f"ratio       {ratio} against 8 bits" in shown
    assert kvq("sessions").stdout.splitlines()[1].split()[5] == ratio
    assert f"ratio       {ratio} against the bytes given" in kvq("status").stdout


def test_tables_are_for_people(kvq, cache):
    imported = kvq("import", "a", cache, "--model", "m").stdout
    assert imported == kvq("info", "a").stdout
    assert f"tokens      {TOKENS}" in imported and "dB" in imported and "KiB" in imported
    assert "memory" in kvq("status").stdout
    assert "answers in" in kvq("ping").stdout


def test_rm_deletes_and_rm_of_nothing_is_a_miss(kvq, cache):
    kvq("import", "a", cache, "--model", "m")
    assert kvq.json("rm", "a")["freed_bytes"] > 0
    for arguments in (["rm", "a"], ["info", "a"], ["export", "a", "x.npy"], ["fork", "a", "b"],
                      ["truncate", "a", "0"]):
        result = kvq(*arguments)
        assert (result.returncode, result.stdout) == (3, "")
        assert result.stderr.startswith("kvq: ") and result.stderr.count("\n") == 1


USAGE = {
    "no command": [],
    "unknown command": ["frob"],
    "unknown option": ["info", "a", "--frob"],
    "an option of another command": ["info", "a", "--level", "3"],
    "a missing argument": ["info"],
    "one argument of two": ["import", "a", "--model", "m"],
    "an argument too many": ["info", "a", "b"],
    "a missing value": ["info", "a", "--socket"],
    "tokens to keep that are no number": ["truncate", "a", "some"],
    "fewer than no tokens": ["truncate", "--", "a", "-1"],
    "a fork of no tokens": ["fork", "a", "b", "--tokens", "0"],
    "a fork of a range": ["fork", "a", "b", "--tokens", "0:5"],
    "no model": ["import", "a", "cache.npy"],
    "an empty model": ["import", "a", "cache.npy", "--model", ""],
    "a long model": ["import", "a", "cache.npy", "--model", "m" * 256],
    "a level that is none": ["import", "a", "cache.npy", "--model", "m", "--level", "6"],
    "a dtype that is none": ["import", "a", "cache.npy", "--model", "m", "--dtype", "f64"],
    "append and replace": ["import", "a", "cache.npy", "--model", "m", "--append", "--replace"],
    "rope without theta": ["import", "a", "c.npy", "--model", "m", "--rope", "pairing=half,dims=8"],
    "rope of no pairing": ["import", "a", "c.npy", "--model", "m", "--rope", "theta=1,pairing=x,dims=8"],
    "rope without =": ["import", "a", "c.npy", "--model", "m", "--rope", "theta"],
    "a range of one number": ["export", "a", "x.npy", "--tokens", "5"],
    "an empty range": ["export", "a", "x.npy", "--tokens", "5:5"],
    "a reversed range": ["export", "a", "x.npy", "--tokens", "6:5"],
    "a negative range": ["export", "a", "x.npy", "--tokens=-1:5"],
    "a range above 2^64": ["export", "a", "x.npy", "--tokens", "0:99999999999999999999"],
    "layers above 2^32": ["export", "a", "x.npy", "--layers", "0:4294967296"],
    "age to no level": ["age", "a"],
    "age to a level that is none": ["age", "a", "--level", "6"],
    "rm of nothing": ["rm"],
    "rm of one and many": ["rm", "a", "--prefix", "a"],
    "rm of one on trial": ["rm", "a", "--dry-run"],
    "rm of all but no condition": ["rm", "--pinned-too"],
    "rm of an empty prefix": ["rm", "--prefix", ""],
    "a time without a unit": ["rm", "--idle", "5"],
    "a time of an unknown unit": ["rm", "--idle", "5m"],
    "no time at all": ["rm", "--older", "0s"],
    "a time above 2^64": ["rm", "--older", "99999999999999999d"],
    "pin for a time and not": ["pin", "a", "--for", "1h", "--off"],
    "decibels that cannot be": ["import", "a", "x.npy", "--model", "m", "--min-snr-db", "201"],
    "an order that is none": ["sessions", "--sort", "age"],
    "names as JSON": ["sessions", "--names", "--json"],
    "words for a range": ["export", "a", "x.npy", "--layers", "a:b"],
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_status_2_and_nothing_on_stdout(kvq, name):
    result = kvq(*USAGE[name])
    assert (result.returncode, result.stdout) == (2, "")
    assert "kvq" in result.stderr


def test_help_lists_every_command(kvq):
    assert [line[2:17].rstrip() for line in kvq("--help").stdout.splitlines()
            if line.startswith("  ") and not line.startswith("  --")] == COMMANDS


def test_help_fits_80_columns(kvq):
    pages = [kvq("--help").stdout, *(kvq(*command.split(), "--help").stdout for command in COMMANDS)]
    assert max(len(line) for page in pages for line in page.splitlines()) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(kvq, command):
    result = kvq(*command.split(), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: kvq {command}")
    assert command in kvq("--help").stdout


def test_version_is_told(kvq):
    assert kvq("--version").stdout.startswith("kvq 0.")


@pytest.mark.parametrize("socket, words", [
    ("{folder}/none.sock", ["cannot connect", "is kvquantd running?"]),
    ("{folder}/cache.npy", ["cannot connect"]),
    ("localhost:1", ["cannot connect", "is kvquantd running?"]),
    ("localhost", ["host:port"]),
    ("/" + "x" * 107, ["longer than 107 bytes"]),
    ("/" + "x" * 400, ["longer than 107 bytes"]),
])
def test_a_socket_that_cannot_be_is_one_line(kvq, tmp_path, cache, socket, words):
    result = kvq("ping", "--socket", socket.format(folder=tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1 and all(word in result.stderr for word in words), result.stderr


def test_the_socket_is_looked_up_in_order(daemon, tmp_path):
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    os.symlink(daemon.socket, runtime / "kvquantd.sock")

    def ping(*arguments, **variables):
        names = ("KVQ_SOCKET", "XDG_RUNTIME_DIR")
        environment = {k: v for k, v in os.environ.items() if k not in names} | variables
        return subprocess.run([program("KVQ", "kvq"), *arguments], env=environment,
                              capture_output=True, text=True)

    wrong = str(tmp_path / "wrong.sock")
    assert ping("ping", "--socket", daemon.socket, KVQ_SOCKET=wrong).returncode == 0
    assert ping("--socket", daemon.socket, "ping", KVQ_SOCKET=wrong).returncode == 0
    assert ping("ping", KVQ_SOCKET=daemon.socket, XDG_RUNTIME_DIR="/none").returncode == 0
    assert ping("ping", XDG_RUNTIME_DIR=str(runtime)).returncode == 0
    assert wrong in ping("ping", KVQ_SOCKET=wrong, XDG_RUNTIME_DIR=str(runtime)).stderr
    assert "/run/kvquantd/kvquantd.sock" in ping("ping", XDG_RUNTIME_DIR=str(tmp_path)).stderr


@pytest.mark.parametrize("name", ["", "x" * 256, "new\nline", "\x7f"])
def test_a_name_that_cannot_be_is_refused(kvq, cache, name):
    result = kvq("import", name, cache, "--model", "m")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1


def test_a_full_disk_for_stdout_is_a_failure(kvq, daemon):
    with open("/dev/full", "w") as full:
        result = subprocess.run([program("KVQ", "kvq"), "status"], stdout=full, stderr=subprocess.PIPE,
                                env={**os.environ, "KVQ_SOCKET": daemon.socket}, text=True)
    assert result.returncode == 1 and "standard output" in result.stderr


def test_a_reader_that_has_seen_enough_is_no_complaint(kvq, daemon):
    with Connection(daemon.socket) as connection:
        for number in range(2000):
            connection.open(f"session-{number}".encode(), b"m", Geometry(1, 1, 8, 8))
    result = subprocess.run([f"{program('KVQ', 'kvq')} sessions | head -n 1"], shell=True, text=True,
                            capture_output=True, env={**os.environ, "KVQ_SOCKET": daemon.socket})
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1


def test_commands_speak_tcp_on_loopback_too(start_daemon, cache, tmp_path):
    daemon = start_daemon(arguments=["--tcp", "127.0.0.1:0"])
    address = next(s for s in Command(daemon.socket).json("status")["sockets"] if "/" not in s)
    kvq = Command(address)
    assert kvq("import", "a", cache, "--model", "m", "--level", "exact").returncode == 0
    assert kvq("export", "a", tmp_path / "out.npy").returncode == 0
    assert np.array_equal(np.load(tmp_path / "out.npy"), np.load(cache))
    assert kvq.json("ping", "--socket", address)["socket"] == address


def test_what_a_value_should_be_is_said(kvq):
    assert "such as 500ms, 2s, 10min, 3h or 2d" in kvq("pin", "a", "--for", "5").stderr
    assert "exact, fast8 or 0 (fine) to 5 (coarse)" in kvq("age", "a", "--level", "7").stderr


def test_the_example_program_runs(daemon):
    folder = os.environ.get("KVQ_EXAMPLES") or pathlib.Path(program("KVQ", "kvq")).parent / "examples"
    result = subprocess.run([str(pathlib.Path(folder) / "append_and_fetch"), daemon.socket],
                            capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "the same, bit for bit\n"), result.stderr


def test_json_of_a_name_with_quotes_is_json(kvq, cache):
    name = 'a"b\\c/é'
    assert json.loads(kvq("import", name, cache, "--model", name, "--json").stdout)["session"] == name
