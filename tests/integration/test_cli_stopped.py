"""kvq import and export that fail or are stopped leave what was there before, and nothing else."""

import os
import signal
import subprocess
import time

import numpy as np
import pytest
from conftest import program

SHAPE = (4, 2, 16384, 8, 64)
SECONDS_MAX = 60


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file whose import takes long enough to be stopped: 128 MiB."""
    path = tmp_path_factory.mktemp("large") / "large.npy"
    numbers = np.random.default_rng(0).integers(0x3000, 0x4000, SHAPE, np.uint16)
    np.save(path, numbers.view(np.float16))
    yield path
    path.unlink()


@pytest.fixture
def small(tmp_path):
    np.save(tmp_path / "small.npy", np.ones((1, 2, 5, 1, 8), np.float16))
    return tmp_path / "small.npy"


@pytest.fixture
def start(daemon):
    def run(*arguments):
        return subprocess.Popen([program("KVQ", "kvq"), *map(str, arguments)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**os.environ, "KVQ_SOCKET": daemon.socket})
    return run


def stop_when(process, happens, number):
    """Sends the signal once that has happened; the process must end by it with one line."""
    end = time.monotonic() + SECONDS_MAX
    while not happens():
        assert process.poll() is None and time.monotonic() < end
    process.send_signal(number)
    out, error = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, out) == (1, "")
    assert error == "kvq: stopped; nothing of it is left\n"


def names(kvq):
    return kvq("sessions", "--names").stdout.split()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_that_is_stopped_leaves_no_session(kvq, start, large, number):
    process = start("import", "a", large, "--model", "m", "--level", "0")
    stop_when(process, lambda: names(kvq), number)
    assert names(kvq) == []


def test_an_import_that_is_stopped_leaves_the_session_it_was_to_add_to(kvq, start, large, tmp_path):
    first = np.ones((SHAPE[0], 2, 5, *SHAPE[3:]), np.float16)
    np.save(tmp_path / "first.npy", first)
    before = kvq.json("import", "a", tmp_path / "first.npy", "--model", "m", "--level", "0")
    process = start("import", "a", large, "--model", "m", "--append")
    stop_when(process, lambda: "append" in kvq("truncate", "a", 5).stderr, signal.SIGINT)
    after = kvq.json("info", "a")
    assert (after["tokens"], after["version"]) == (5, before["version"])


def test_a_replacement_that_is_stopped_leaves_the_old_session(kvq, start, large, small):
    before = kvq.json("import", "a", small, "--model", "m")
    process = start("import", "a", large, "--model", "n", "--level", "0", "--replace")
    stop_when(process, lambda: len(names(kvq)) == 2, signal.SIGINT)
    assert names(kvq) == ["a"]
    assert kvq.json("info", "a")["version"] == before["version"]


@pytest.mark.memory("64M")
def test_a_replacement_that_does_not_fit_leaves_the_old_session(kvq, large, small):
    kvq("import", "a", small, "--model", "m")
    kvq("pin", "a")
    before = kvq.json("info", "a")
    result = kvq("import", "a", large, "--model", "n", "--level", "exact", "--replace")
    assert result.returncode == 1 and "--memory" in result.stderr
    assert names(kvq) == ["a"]
    assert kvq.json("info", "a")["version"] == before["version"]


def test_a_replacement_leaves_only_the_new_session(kvq, large, small):
    kvq("import", "a", large, "--model", "m")
    info = kvq.json("import", "a", small, "--model", "n", "--replace")
    assert (info["session"], info["model"], info["tokens"]) == ("a", "n", 5)
    assert info["unique_bytes"] == info["stored_bytes"]
    assert names(kvq) == ["a"]


@pytest.mark.memory("80M")
def test_an_import_of_several_appends_is_taken_back_whole(kvq, tmp_path):
    tokens, heads, dim = 8192 * 128, 1, 12  # as many as one append takes; a second does not fit
    numbers = np.random.default_rng(0).integers(0, 65536, (1, 2 * tokens, heads, dim), np.uint16)
    np.savez(tmp_path / "first.npz", k=numbers[:, :100])
    np.savez(tmp_path / "more.npz", k=numbers)
    options = ["--model", "m", "--level", "exact", "--dtype", "bf16"]
    before = kvq.json("import", "a", tmp_path / "first.npz", *options)
    result = kvq("import", "a", tmp_path / "more.npz", *options, "--append")
    assert result.returncode == 1 and "--memory" in result.stderr
    after = kvq.json("info", "a")
    assert after["version"] > before["version"]  # the first of them was there
    assert after["tokens"] == 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_stopped_leaves_the_old_file(kvq, start, daemon, large, tmp_path, number):
    assert kvq("import", "a", large, "--model", "m", "--level", "0").returncode == 0
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x.npy").write_text("mine")
    process = start("export", "a", folder / "x.npy")
    stop_when(process, lambda: maps(process, folder), number)
    assert os.listdir(folder) == ["x.npy"]
    assert (folder / "x.npy").read_text() == "mine"


def maps(process, folder):
    """Whether a file of the folder is mapped: the values arrive."""
    with open(f"/proc/{process.pid}/maps") as file:
        return str(folder) in file.read()


def test_an_export_that_is_killed_leaves_no_file(kvq, start, large, tmp_path):
    kvq("import", "a", large, "--model", "m", "--level", "0")
    folder = tmp_path / "out"
    folder.mkdir()
    process = start("export", "a", folder / "x.npy")
    while not maps(process, folder):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert os.listdir(folder) == []
