"""A retriever plugin in the daemon: what it answers is held against the entries, and without it the exact index
answers."""

import subprocess

import kvquantd
import numpy as np
import pytest
from conftest import ROOT
from wire_support import wait_until

DIM, ROWS, TOKENS = 1024, 1600, 40  # so many bytes that a plugin is asked
GEOMETRY = kvquantd.Geometry(layers=2, heads=3, head_dim=16)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    built = tmp_path_factory.mktemp("plugin") / "misbehaving.so"
    subprocess.run(["cc", "-std=gnu11", "-shared", "-fPIC", f"-I{ROOT}", "-o", built,
                    ROOT / "tests/plugins/misbehaving.c", "-lm"], check=True)
    return built


@pytest.fixture
def started(start_daemon, plugin, tmp_path):
    """started(fault): a client of a daemon with such a plugin, and the vectors of its one session."""
    clients = []

    def start(fault, timeout="1min"):
        config = tmp_path / "kvquantd.conf"
        config.write_text(f"recall_plugin = {plugin} {fault}\nrecall_timeout = {timeout}\n")
        daemon = start_daemon(arguments=["--config", str(config)])
        clients.append(client := kvquantd.connect(daemon.socket))
        session = client.open("a", model="m", geometry=GEOMETRY)
        values = np.zeros((2, TOKENS, 3, 16), np.float16)
        session.append(values, values)
        vectors = np.random.default_rng(5).normal(size=(ROWS, DIM)).astype(np.float32)
        session.index(vectors, [(i % TOKENS, i % TOKENS + 1) for i in range(ROWS)],
                      metadata=[b"%d" % i for i in range(ROWS)])
        return client, vectors

    yield start
    for client in clients:
        client.close()


def assert_exact(client, vectors, row):
    query = vectors[row]
    scores = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    hits = client.recall(query, 10, model="m")
    assert [int(hit.metadata) for hit in hits] == list(np.argsort(-scores)[:10])
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:10], abs=1e-5)


@pytest.mark.parametrize("fault", ["none", "wrong-scores", "garbage-ids", "duplicates", "too-many", "nan", "unwanted",
                                   "huge-count", "fails-search", "fails-open", "fails-add"])
def test_whatever_it_answers_no_entry_comes_that_is_none(started, fault):
    client, vectors = started(fault)
    other = client.open("b", model="m2", geometry=GEOMETRY)
    other.append(np.zeros((2, 5, 3, 16), np.float16), np.zeros((2, 5, 3, 16), np.float16))
    other.index(vectors[:1], [(0, 1)])
    for row in range(6):
        hits = client.recall(vectors[row], 10, model="m")
        assert len({hit.metadata for hit in hits}) == len(hits) <= 10
        assert {hit.session for hit in hits} <= {"a"}
        scores = vectors @ vectors[row] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[row])
        assert [hit.score for hit in hits] == pytest.approx([scores[int(hit.metadata)] for hit in hits], abs=1e-5)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    if fault in ("none", "wrong-scores", "fails-search", "fails-open", "fails-add"):
        assert_exact(client, vectors, 7)


def test_one_that_does_not_answer_is_switched_off_and_the_daemon_serves_on(started):
    client, vectors = started("blocks-search", timeout="100ms")
    wait_until(lambda: (assert_exact(client, vectors, 3), client.status()["recall"]["plugin_timeouts"])[1])
    status = client.status()["recall"]
    assert status["plugin"] and not status["plugin_on"]
    for row in range(3):
        assert_exact(client, vectors, row)


def test_one_that_cannot_be_loaded_leaves_the_exact_index(start_daemon, tmp_path):
    config = tmp_path / "kvquantd.conf"
    config.write_text(f"recall_plugin = {tmp_path}/none.so\n")
    daemon = start_daemon(arguments=["--config", str(config)])
    with kvquantd.connect(daemon.socket) as client:
        assert client.status()["recall"]["plugin"] == ""
    assert "the exact index answers" in daemon.log.read_text()
