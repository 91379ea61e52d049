"""A daemon with `recall_plugin` recalls as one without, whatever the plugin does."""

import pathlib
import time

import kvquantd
import numpy as np
import pytest

from conftest import program

GEOMETRY = kvquantd.Geometry(layers=1, heads=1, head_dim=16)
ROWS, DIM, K = 1200, 1024, 5  # more bytes than the exact index takes alone


def plugin(name):
    return pathlib.Path(program("KVQUANTD", "kvquantd")).parent / "tests/plugins" / name


@pytest.fixture
def start(start_daemon, tmp_path):
    def start(text, timeout="10min"):
        config = tmp_path / "kvquantd.conf"
        config.write_text(f"recall_plugin = {text}\nrecall_timeout = {timeout}\n")
        return start_daemon(arguments=["--config", str(config)])

    return start


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def fill(daemon):
    """A session whose row i stands for token i, and the rows."""
    rows = np.random.default_rng(5).normal(size=(ROWS, DIM)).astype(np.float32)
    client = kvquantd.connect(daemon.socket)
    session = client.open("a", model="m", geometry=GEOMETRY)
    zeros = np.zeros((1, ROWS, 1, 16), np.float16)
    session.append(zeros, zeros)
    session.index(rows, [range(i, i + 1) for i in range(ROWS)])
    return session, rows


def check_recall(session, rows, seed):
    query = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    expected = np.argsort(-scores)[:K]
    hits = session.recall(query, k=K)
    assert [hit.tokens.start for hit in hits] == list(expected)
    np.testing.assert_allclose([hit.score for hit in hits], scores[expected], rtol=1e-4)


def test_a_plugin_that_answers_rubbish_is_switched_off_and_no_answer_is_wrong(start):
    daemon = start(f"{plugin('misbehaving.so')} garbage-ids")
    session, rows = fill(daemon)
    seeds = iter(range(10**6))

    def is_switched_off():
        check_recall(session, rows, next(seeds))
        return "it is switched off" in daemon.log.read_text()

    wait_until(is_switched_off)
    check_recall(session, rows, next(seeds))
    assert daemon.log.read_text().count("it is switched off") == 1


def test_status_says_what_a_plugin_takes(start):
    daemon = start(plugin("misbehaving.so"))
    session, rows = fill(daemon)
    check_recall(session, rows, 1)
    with kvquantd.connect(daemon.socket) as client:
        wait_until(lambda: client.status()["recall"]["plugin_bytes"] > 1 << 20)
        assert client.status()["memory"]["used_bytes"] > client.status()["recall"]["plugin_bytes"]


def test_a_plugin_that_sleeps_is_switched_off_and_the_answer_comes(start):
    daemon = start(f"{plugin('misbehaving.so')} blocks-add", "20ms")
    session, rows = fill(daemon)

    def is_switched_off():
        check_recall(session, rows, 1)
        return "did not answer in time" in daemon.log.read_text()

    wait_until(is_switched_off)
    check_recall(session, rows, 3)


@pytest.mark.parametrize("name, reason", [
    ("wrong_version.so", "another version"), ("missing_functions.so", "functions are missing"),
    ("exports_nothing.so", "exports no kvq_retriever_v1"), ("not_there.so", "No such file")])
def test_a_daemon_starts_without_a_plugin_that_cannot_be_loaded(start, name, reason):
    daemon = start(plugin(name))
    assert reason in daemon.log.read_text()
    check_recall(*fill(daemon), seed=3)


def test_what_a_plugin_made_is_loaded_at_the_next_start(start_daemon, tmp_path):
    config, disk = tmp_path / "kvquantd.conf", tmp_path / "disk"
    config.write_text(f"recall_plugin = {plugin('misbehaving.so')}\nrecall_timeout = 10min\ndisk = {disk}\n")
    daemon = start_daemon(arguments=["--config", str(config)])
    session, rows = fill(daemon)
    check_recall(session, rows, 1)
    assert daemon.stop() == 0
    daemon = start_daemon(arguments=["--config", str(config)])
    wait_until(lambda: "the index of 1024 dimensions that was saved is loaded" in daemon.log.read_text())
    with kvquantd.connect(daemon.socket) as client:
        check_recall(client.open("a", model="m", geometry=GEOMETRY), rows, 2)


def test_nothing_is_saved_beside_what_is_encrypted(start_daemon, tmp_path):
    config, disk, key = tmp_path / "kvquantd.conf", tmp_path / "disk", tmp_path / "key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    config.write_text(f"recall_plugin = {plugin('misbehaving.so')}\nrecall_timeout = 10min\n"
                      f"disk = {disk}\ndisk_key = {key}\n")
    daemon = start_daemon(arguments=["--config", str(config)])
    check_recall(*fill(daemon), 1)
    assert daemon.stop() == 0
    assert list(disk.iterdir()) and not list(disk.glob("recall*"))
