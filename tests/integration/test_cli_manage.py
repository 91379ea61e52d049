"""kvq fork, truncate, age, pin, and rm of many: what they print, and what is there afterwards."""

import numpy as np
import pytest

LAYERS, TOKENS, HEADS, DIM = 2, 300, 2, 64


@pytest.fixture
def array():
    return np.random.default_rng(0).standard_normal((LAYERS, 2, TOKENS, HEADS, DIM)).astype(np.float16)


@pytest.fixture
def store(kvq, array, tmp_path):
    """store(name, ...) imports the array."""
    path = tmp_path / "cache.npy"
    np.save(path, array)

    def run(name, *options):
        result = kvq("import", name, path, "--model", "m", *options)
        assert result.returncode == 0, result.stderr

    return run


def exported(kvq, session, tmp_path):
    assert kvq("export", session, tmp_path / "out.npy").returncode == 0
    return np.load(tmp_path / "out.npy")


def names(kvq):
    return kvq("sessions", "--names", "--sort", "name").stdout.splitlines()


def missed(result):
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("kvq: ") and result.stderr.count("\n") == 1
    return result.stderr


def refused(result):
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("kvq: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_a_fork_has_the_same_bytes_and_its_own_future(kvq, store, array, tmp_path):
    store("a", "--level", "exact")
    forked = kvq.json("fork", "a", "b")
    assert (forked["session"], forked["forked_from"], forked["tokens"]) == ("b", "a", TOKENS)
    kvq("truncate", "a", 10)
    assert np.array_equal(exported(kvq, "b", tmp_path), array)
    kvq("rm", "a")
    assert np.array_equal(exported(kvq, "b", tmp_path), array)


def test_a_fork_may_have_the_first_tokens_only(kvq, store, array, tmp_path):
    store("a", "--level", "exact")
    assert "200 tokens" in kvq("fork", "a", "b", "--tokens", "200").stdout
    assert np.array_equal(exported(kvq, "b", tmp_path), array[:, :, :200])


def test_a_fork_takes_nearly_nothing_more(kvq, store):
    store("a")
    before = kvq.json("status")["memory"]["used_bytes"]
    kvq("fork", "a", "b")
    assert kvq.json("status")["memory"]["used_bytes"] - before < kvq.json("info", "b")["stored_bytes"] / 10
    assert kvq.json("info", "b")["unique_bytes"] < kvq.json("info", "b")["stored_bytes"] / 10


def test_a_fork_to_a_name_that_exists_or_of_too_many_tokens_is_one_line(kvq, store):
    store("a")
    store("b")
    assert "b exists" in refused(kvq("fork", "a", "b"))
    assert f"{TOKENS} tokens" in missed(kvq("fork", "a", "c", "--tokens", TOKENS + 1))
    assert names(kvq) == ["a", "b"]


def test_truncate_keeps_the_first_tokens(kvq, store, array, tmp_path):
    store("a", "--level", "exact")
    truncated = kvq.json("truncate", "a", 150)
    assert (truncated["session"], truncated["tokens_before"], truncated["tokens"]) == ("a", TOKENS, 150)
    assert truncated["version"] == kvq.json("info", "a")["version"]
    assert np.array_equal(exported(kvq, "a", tmp_path), array[:, :, :150])


def test_truncate_to_nothing_leaves_an_empty_session(kvq, store):
    store("a")
    assert kvq("truncate", "a", 0).returncode == 0
    assert kvq.json("info", "a")["tokens"] == 0


def test_truncate_to_more_than_there_is_is_a_miss(kvq, store):
    store("a")
    assert f"{TOKENS} tokens" in missed(kvq("truncate", "a", TOKENS + 1))
    assert kvq.json("info", "a")["tokens"] == TOKENS
