"""make bench-trace: chat requests replayed against a daemon, and what is written about it."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KVQ_BUILD", ROOT / "build"))
DAEMON = os.environ.get("KVQUANTD", BUILD / "kvquantd")
sys.path.append(str(ROOT / "tests" / "bench"))
import trace_replay  # noqa: E402
import trace_report  # noqa: E402
from trace_requests import BLOCK_TOKENS, Request, distinct_blocks, read, sample  # noqa: E402
from trace_values import BLOCK_BYTES, Values, room  # noqa: E402


def requests_of(*blocks):
    return [Request(len(some) * BLOCK_TOKENS, tuple(some), "one") for some in blocks]


CHATS = requests_of([0, 1, 2], [0, 3], [0, 1, 2, 4], [0, 3, 5, 6], [0, 1, 7], [0, 3, 5, 6, 8])


@pytest.fixture(scope="module")
def every():
    return read(trace_report.TRACE)


def test_of_the_trace_whole_blocks_are_taken(every):
    assert len(every) == 12031
    assert all(len(one.blocks) == one.tokens // BLOCK_TOKENS for one in every)


def test_a_sample_has_chats_whole_and_in_order(every):
    some = sample(every, 1000)

    assert 800 < len(some) < 1200
    chats = {one.chat for one in some}
    assert some == [one for one in every if one.chat in chats]


def test_an_lru_evicts_a_prefix_from_its_end_and_what_was_used_last_at_the_last():
    line = trace_replay.replay_lru(requests_of([1, 2], [3], [1, 2], [3]), 2 * BLOCK_BYTES)

    assert line["saved_tokens"] == BLOCK_TOKENS  # block 1, in the third request
    assert line["held_blocks"] == 2


@pytest.mark.parametrize("level", ["exact", "fast8", "3"])
def test_with_room_for_all_everything_stored_before_is_found_and_right(level):
    line = trace_replay.replay(DAEMON, CHATS, {"level": level, "floor": level}, 64 << 20)

    assert line["saved_tokens"] == trace_replay.replay_lru(CHATS, 64 << 20)["saved_tokens"]
    assert line["tokens_by_level"] == {level: line["saved_tokens"]}
    assert line["held_blocks"] == distinct_blocks(CHATS)
    assert (line["wrong_blocks"], line["beyond_loss"], line["refused"]) == (0, 0, 0)


@pytest.mark.parametrize("settings", [{"level": 3, "floor": 3}, {"level": 1, "floor": 4}])
def test_with_too_little_room_more_is_found_than_in_16_bits_and_nothing_wrong(every, settings):
    chats = sample(every, 150)
    pool_bytes = distinct_blocks(chats) * BLOCK_BYTES // 16

    line = trace_replay.replay(DAEMON, chats, settings, pool_bytes)

    assert line["held_blocks"] < distinct_blocks(chats)
    assert line["saved_tokens"] > trace_replay.replay_lru(chats, pool_bytes)["saved_tokens"]
    assert (line["wrong_blocks"], line["beyond_loss"], line["refused"]) == (0, 0, 0)


class OtherValues(Values):
    """Of a store that gives block 3 where block 5 was."""

    def fill(self, blocks, pair):
        return super().fill([3 if block == 5 else block for block in blocks], pair)


def test_another_block_in_a_hit_is_seen():
    with trace_replay.private_daemon(DAEMON, 64 << 20, {}) as client:
        replay = trace_replay.Replay(client)
        replay.stored_values = OtherValues()
        assert replay.run(CHATS).wrong_blocks == 1


@pytest.mark.parametrize("level, kept_db", [("fast8", 50), (5, 11)])
def test_a_block_is_told_from_others_at_every_level(level, kept_db):
    values, pair = Values(), room(2)
    k, v = (part.astype(np.float32) for part in values.fill([8, 9], pair))
    loss = np.sqrt(np.square(k).mean() / 10 ** (kept_db / 10))
    k += loss * np.random.default_rng(1).standard_normal(k.shape)

    assert values.others([8, 9], (k, v)) == 0
    assert values.others([9, 8], (k, v)) == 2


def line_of(method, overcommitment, saved_tokens, tokens_by_level, **more):
    line = {"method": method, "overcommitment": overcommitment, "saved_tokens": saved_tokens,
            "asked_tokens": 1000, "requests": 10, "requests_hit": 5, "tokens_by_level": tokens_by_level,
            "refused": 0, "wrong_blocks": 0, "beyond_loss": 0, "held_blocks": 4, "held_bytes": BLOCK_BYTES,
            "seconds": 1}
    return {**line, **more}


def recording():
    lines = []
    for over in 1, 8:
        lines += [line_of("raw", over, 300 // over, {}),
                  line_of("3", over, 400 // over, {"3": 400 // over}, lru_saved_tokens=350 // over),
                  line_of("ageing", over, 450 // over, {"1": 3, "4": 1})]
    trace = {"name": "a trace", "requests": 10, "of_requests": 20, "asked_blocks": 30, "distinct_blocks": 20,
             "distinct_of_all": 40, "block_bytes": BLOCK_BYTES, "possible_tokens": 500}
    return {"trace": trace, "quick": False, "lines": lines,
            "machine": {"processor": "one", "cores": 2, "time": "now"}}


def written(folder, data):
    """Runs the report on lines made before."""
    source = folder / "source.json"
    source.write_text(json.dumps(data))
    command = [sys.executable, ROOT / "tests/bench/trace_report.py", "--from", source, "--output", folder]
    return subprocess.run(command, capture_output=True, text=True)


def test_all_files_have_every_run(tmp_path):
    data = recording()
    assert written(tmp_path, data).returncode == 0

    rows = list(csv.DictReader((tmp_path / "trace.csv").read_text().splitlines()))
    wanted = [(str(line["overcommitment"]), line["method"]) for line in data["lines"]]
    assert [(row["overcommitment"], row["method"]) for row in rows] == wanted
    assert json.loads((tmp_path / "trace.json").read_text())["lines"] == data["lines"]
    nodes = xml.etree.ElementTree.parse(tmp_path / "trace.svg").iter()
    assert len({node.text for node in nodes if node.tag.endswith("}title")}) == len(wanted)


def test_the_loss_of_hits_is_the_mean_over_their_tokens(tmp_path):
    written(tmp_path, recording())

    row = list(csv.DictReader((tmp_path / "trace.csv").read_text().splitlines()))[2]
    assert row["mean_level"] == "1.75"
    assert float(row["mean_kld"]) == pytest.approx((3 * 0.0003 + 0.020) / 4, rel=0.2)


@pytest.mark.parametrize("wrong", ["wrong_blocks", "beyond_loss"])
def test_a_wrong_hit_fails_the_bench_and_is_told(tmp_path, wrong):
    data = recording()
    data["lines"][1][wrong] = 1

    result = written(tmp_path, data)

    assert result.returncode == 1
    assert "level 3 at 1x" in result.stdout
