"""kvq bench: what it says, and that nothing of it stays."""

import os
import signal
import subprocess

import pytest
from conftest import COMMAND_SECONDS, Command, Daemon, program
from wire_support import wait_until

SHAPES = {
    "chat-turn": (1, 8, 512, 64), "code-assist": (1, 16, 1024, 64), "rag-summary": (1, 16, 2048, 64),
    "tool-agent": (1, 32, 2048, 128), "long-context": (1, 32, 4096, 128), "tiny-firmware": (1, 4, 256, 64),
}
WRITEUP_MIB = dict(zip(SHAPES, (0.5, 1, 2, 8, 16, 0.0625)))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The report as JSON, the table as text, and the sessions there are afterwards."""
    daemon = Daemon(tmp_path_factory.mktemp("bench"))
    kvq = Command(daemon.socket)
    try:
        yield kvq.json("bench", "synthetic"), kvq("bench", "synthetic").stdout, kvq.json("sessions")
    finally:
        daemon.stop()


@pytest.fixture
def report(outputs):
    return outputs[0]


def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


def test_the_synthetic_table_has_every_shape_level_and_kind(report):
    assert report["seed"] == 1 and "log-normal" in report["generator"]
    rows = [(row["name"], row["tensors"], row["level"]) for row in report["rows"]]
    assert rows == [(name, kind, level) for name in SHAPES for kind in ("one", "kv") for level in (2, 3, 4)]


def test_figures_of_a_synthetic_row_agree(report):
    for row in report["rows"]:
        assert tuple(row["shape"]) == SHAPES[row["name"]]
        assert row["bytes_16bit"] == 2 * product(row["shape"]) * (2 if row["tensors"] == "kv" else 1)
        assert row["saved_bytes"] == row["bytes_16bit"] - row["pool_bytes"]
        assert row["ratio"] == pytest.approx(row["bytes_16bit"] / row["pool_bytes"])


def test_the_write_up_stands_beside_one_tensor_only(report):
    for row in report["rows"]:
        if row["tensors"] == "one":
            assert row["writeup_bytes"] == WRITEUP_MIB[row["name"]] * 2**20
            assert row["writeup_ratio"] == 4
        else:
            assert "writeup_bytes" not in row


def test_a_coarser_level_takes_less_and_loses_more(report):
    keys = {"one": ["snr_db"], "kv": ["snr_k_db", "snr_v_db"]}
    for before, after in zip(report["rows"], report["rows"][1:]):
        if before["level"] < after["level"]:
            assert after["pool_bytes"] < before["pool_bytes"]
            for key in keys[before["tensors"]]:
                assert before[key] - after[key] == pytest.approx(6, abs=1)


def test_what_the_values_take_is_near_what_a_model_s_take(report):
    # SmolLM2-135M: 5.0 at level 3, 23.7 dB of K and 14.6 dB of V.
    row = next(r for r in report["rows"] if (r["name"], r["tensors"], r["level"]) == ("code-assist", "kv", 3))
    assert row["ratio"] == pytest.approx(5.0, abs=0.4)
    assert row["snr_k_db"] == pytest.approx(23.7, abs=1)
    assert row["snr_v_db"] == pytest.approx(15.4, abs=1)


def test_the_table_says_the_same_again(outputs):
    report, table, _ = outputs
    for row in report["rows"]:
        figures = [row["bytes_16bit"], row["pool_bytes"], row["saved_bytes"]]
        words = " ".join(f"{figure / 2**20:.4f}" for figure in figures) + f" {row['ratio']:.2f}"
        assert words in " ".join(table.split()), row


def test_the_table_fits_a_terminal_and_has_its_footnote(outputs):
    table = outputs[1]
    assert max(map(len, table.splitlines())) <= 80
    assert "Seed: 1." in table and "[1]" in table and "1-byte values" in table
    assert all(name in table for name in SHAPES)


def test_the_synthetic_bench_leaves_nothing(outputs):
    assert outputs[2] == []


def test_the_socket_bench_says_how_fast_the_daemon_is(kvq):
    report = kvq.json("bench", "socket", "--seconds", 1)
    assert 0 < report["ping_p50_us"] <= report["ping_p99_us"]
    assert report["append_gb_per_second"] > 0 and report["fetch_gb_per_second"] > 0
    assert report["level"] == 3 and report["rounds"] >= 1 and report["pings"] > 100
    assert kvq.json("bench", "socket", "--seconds", 1, "--level", "fast8")["level"] == "fast8"
    assert "GB/s" in kvq("bench", "socket", "--seconds", 1).stdout
    assert kvq.json("sessions") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("bench", [["synthetic"], ["socket", "--seconds", "60"]])
def test_a_bench_that_is_stopped_leaves_nothing_behind(kvq, daemon, bench, number):
    process = subprocess.Popen([program("KVQ", "kvq"), "bench", *bench], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE, env={**os.environ, "KVQ_SOCKET": daemon.socket})
    wait_until(lambda: kvq.json("sessions") or process.poll() is not None)
    process.send_signal(number)
    out, error = process.communicate(timeout=COMMAND_SECONDS)
    assert (process.returncode, out, error) == (1, "", "kvq: stopped; nothing of it is left\n")
    assert kvq.json("sessions") == []


@pytest.mark.memory("32M")
def test_a_bench_that_does_not_fit_is_one_line(kvq):
    result = kvq("bench", "synthetic")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("kvq: ") and result.stderr.count("\n") == 1
    assert kvq.json("sessions") == []


@pytest.mark.parametrize("arguments", [["bench"], ["bench", "frob"], ["bench", "synthetic", "--seconds", "1"],
                                       ["bench", "socket", "--seconds", "0"],
                                       ["bench", "socket", "--seconds", "3601"],
                                       ["bench", "synthetic", "--seed", "-1"], ["bench", "socket", "x"]])
def test_a_bench_that_is_none_is_status_2(kvq, arguments):
    result = kvq(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_the_socket_may_stand_before_a_command_of_two_words(daemon):
    result = Command("/none")("--socket", daemon.socket, "bench", "socket", "--seconds", "1")
    assert (result.returncode, result.stderr) == (0, "")


def test_help_of_bench_is_that_of_all_benches(kvq):
    text = kvq("bench", "--help").stdout
    assert "usage: kvq bench synthetic" in text and "usage: kvq bench socket" in text
