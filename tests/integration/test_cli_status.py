"""kvq status: what its page says, and that it says the same as --json."""

import re

import numpy as np
import pytest
from wire import Connection, Geometry

SHAPE = (2, 2, 300, 2, 64)


@pytest.fixture
def cache(tmp_path):
    np.save(tmp_path / "cache.npy", np.random.default_rng(0).standard_normal(SHAPE).astype(np.float16))
    return tmp_path / "cache.npy"


def line(page, start):
    found = [text for text in page.splitlines() if text.startswith(start)]
    assert len(found) == 1, (start, page)
    return found[0]


def test_memory_is_told_by_kind_with_its_share_of_the_limit(kvq, cache):
    kvq("import", "a", cache, "--model", "m")
    memory, page = kvq.json("status")["memory"], kvq("status").stdout
    kinds = ("pages", "tails", "sessions", "buffers", "fixed")
    assert sum(memory[f"{kind}_bytes"] for kind in kinds) == memory["used_bytes"]
    for kind in ("pages", "fixed"):
        share = 100 * memory[f"{kind}_bytes"] / memory["limit_bytes"]
        assert f"{share:.1f} %" in line(page, f"  {kind} ")
    assert "of 256.0 MiB" in line(page, "memory")


def test_levels_are_those_of_all_sessions(kvq, cache):
    kvq("import", "a", cache, "--model", "m", "--level", "3")
    kvq("import", "b", cache, "--model", "m", "--level", "exact")
    kvq("fork", "a", "c")
    levels = {row["level"]: row["tokens"] for row in kvq.json("status")["levels"]}
    assert (levels[3], levels["exact"], levels["sinks"]) == (296, 296, 8)  # shared chunks once
    page = kvq("status").stdout
    assert re.search(r"^ +exact +296 tokens", page, re.MULTILINE)


def test_hits_misses_and_traffic_are_counted(kvq, cache, tmp_path):
    kvq("import", "a", cache, "--model", "m")
    kvq("export", "a", tmp_path / "out.npy")
    kvq("export", "a", tmp_path / "out.npy", "--tokens", "0:100")
    status = kvq.json("status")
    assert (status["appended_tokens"], status["appended_bytes"]) == (300, 2 * np.prod(SHAPE))
    assert (status["fetched_tokens"], status["fetch_hits"], status["fetch_misses"]) == (400, 2, 0)
    assert "2 hits, 0 misses: 100.0 % hit" in line(kvq("status").stdout, "fetches")


def test_operations_have_their_times_and_errors_their_names(kvq, cache):
    kvq("import", "a", cache, "--model", "m")
    kvq("rm", "nothing")
    status, page = kvq.json("status"), kvq("status").stdout
    append = status["operations"]["append"]
    assert append["requests"] == status["requests"]["append"] == 1
    assert 0 < append["mean_us"] == append["total_us"] <= append["max_us"]
    assert status["operations"]["delete"]["errors"] == 1
    assert status["errors"]["miss"] >= 1
    assert re.search(r"^append +1 +0 +\S+ .s +\S+ .s$", page, re.MULTILINE)
    assert re.search(r"^miss +\d+$", page, re.MULTILINE)


def test_what_the_keeper_did_is_told(kvq, cache):
    kvq("import", "a", cache, "--model", "m", "--level", "1")
    kvq("age", "a", "--level", "4")
    keeper = kvq.json("status")["keeper"]
    assert keeper["chunks"] > 0 and keeper["bytes_after"] < keeper["bytes_before"]
    assert f"{keeper['chunks']} chunks coded anew" in line(kvq("status").stdout, "keeper")


def test_nothing_asks_for_attention_in_a_daemon_that_is_well(kvq, cache):
    kvq("import", "a", cache, "--model", "m")
    kvq("rm", "nothing")
    assert "attention" not in kvq("status").stdout


@pytest.mark.memory("64M")
def test_a_memory_that_is_nearly_full_asks_for_attention(kvq, tmp_path):
    np.save(tmp_path / "large.npy", np.random.default_rng(0).integers(
        0, 65536, (1, 2, 4096, 8, 8), np.uint16))
    options = ("--model", "m", "--level", "exact", "--dtype", "bf16")
    number = 0
    while kvq("import", f"session-{number}", tmp_path / "large.npy", *options).returncode == 0:
        kvq("pin", f"session-{number}")
        number += 1
        assert number < 100
    first = kvq("status").stdout.splitlines()[0]
    assert re.fullmatch(r"attention   9\d % of the memory limit is used", first)


def test_the_page_fits_80_columns_with_every_operation_and_error(kvq, daemon, cache):
    for arguments in (["import", "a", cache, "--model", "m"], ["export", "a", "/none/x.npy"], ["info", "x"],
                      ["fork", "a", "b"], ["truncate", "b", "10"], ["age", "a", "--level", "4"], ["pin", "a"],
                      ["sessions"], ["ping"], ["import", "a", cache, "--model", "m"], ["rm", "a"],
                      ["rm", "--model", "m"]):
        kvq(*arguments)
    lines = [line for line in kvq("status").stdout.splitlines() if daemon.socket not in line]
    assert max(map(len, lines)) <= 80


def test_a_thousand_sessions_are_listed_in_80_columns(kvq, daemon):
    with Connection(daemon.socket) as connection:
        for number in range(1000):
            connection.open(f"chat-{number}".encode(), b"model-7b", Geometry(1, 1, 8, 8))
    lines = kvq("sessions").stdout.splitlines()
    assert len(lines) == 1001
    assert max(map(len, lines)) <= 80
    assert kvq("sessions", "--names").stdout.split() == [f"chat-{number}" for number in range(1000)]
