"""kvq index, unindex and recall."""

import numpy as np
import pytest

RANGES = "0:20\tfirst turn\n20:60\tsecond turn\tby whom\n60:100\n"


def ends(done, status):
    """What a command that ends with this status has said."""
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture
def files(tmp_path):
    vectors = np.random.default_rng(2).normal(size=(3, 24)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "query.npy", vectors[1])
    (tmp_path / "ranges").write_text(RANGES)
    cache = np.random.default_rng(0).normal(size=(2, 2, 100, 3, 16)).astype(np.float16)
    np.save(tmp_path / "cache.npy", cache)
    return tmp_path


@pytest.fixture
def indexed(kvq, files):
    ends(kvq("import", "chat", files / "cache.npy", "--model", "m"), 0)
    index = ("index", "chat", files / "vectors.npy", "--ranges", files / "ranges")
    assert ends(kvq(*index), 0) == "3 embeddings indexed; chat has 3\n"
    return files


def test_what_was_indexed_is_recalled_best_first(kvq, indexed):
    found = kvq.json("recall", "chat", "--query", indexed / "query.npy")
    assert len(found) == 3
    best = found[0]
    assert (best["session"], best["first"], best["tokens"], best["label"]) == ("chat", 20, 40, "second turn")
    assert best["score"] == pytest.approx(1)
    assert best["level"] == 3 and best["bytes"] > 0
    text = ends(kvq("recall", "--model", "m", "--query", indexed / "query.npy", "--k", "1"), 0)
    words = text.splitlines()[1].split()
    assert words[:2] + words[4:] == ["1.0000", "20:60", "3", "chat", "second", "turn"]


def test_options_hold_of_what_is_found(kvq, indexed):
    def found(*options):
        return [hit["first"] for hit in kvq.json("recall", "chat", "--query", indexed / "query.npy", *options)]

    assert found("--k", "1") == [20]
    assert found("--label", "first turn") == [0]
    assert sorted(found("--tokens", "59:61")) == [20, 60]
    assert found("--min-score", "0.99") == [20]
    assert found("--merge") == [0]
    assert len(found("--newer", "1h")) == 3


def test_unindexed_is_not_found(kvq, indexed):
    assert ends(kvq("unindex", "chat", "--label", "second turn"), 0) == "1 embeddings deleted; chat has 2\n"
    assert ends(kvq("unindex", "chat", "--tokens", "0:1"), 0) == "1 embeddings deleted; chat has 1\n"
    assert kvq.json("unindex", "chat")["entries"] == 0
    assert ends(kvq("recall", "chat", "--query", indexed / "query.npy"), 0) == ""


def test_info_and_status_say_how_many_there_are(kvq, indexed):
    assert kvq.json("info", "chat")["embeddings"]["entries"] == 3
    assert "embeddings  3, which take" in kvq("info", "chat").stdout
    assert kvq.json("status")["recall"]["entries"] == 3
    assert "embeddings  3, in" in kvq("status").stdout


@pytest.mark.parametrize("line", ["1", "5:5", "7:3", "a:b", "3:", ""])
def test_ranges_that_are_none_are_refused(kvq, indexed, line):
    (indexed / "ranges").write_text(f"0:20\n{line}\n3:4\n")
    done = kvq("index", "chat", indexed / "vectors.npy", "--ranges", indexed / "ranges")
    assert "line 2 is not A:B" in ends(done, 1)


def test_files_of_other_shapes_are_refused(kvq, indexed):
    index = ("index", "chat", indexed / "cache.npy", "--ranges", indexed / "ranges")
    assert "embeddings are [count, dim]" in ends(kvq(*index), 1)
    (indexed / "ranges").write_text("0:20\n")
    index = ("index", "chat", indexed / "vectors.npy", "--ranges", indexed / "ranges")
    assert "has 3 embeddings, and there are 1 ranges" in ends(kvq(*index), 1)
    assert "a query is [dim]" in ends(kvq("recall", "chat", "--query", indexed / "cache.npy"), 1)


def test_what_is_missing_is_said(kvq, indexed):
    assert "--ranges FILE is missing" in ends(kvq("index", "chat", indexed / "vectors.npy"), 2)
    assert "--query FILE or --queries FILE is missing" in ends(kvq("recall", "chat"), 2)
    assert "--model" in ends(kvq("recall", "--query", indexed / "query.npy"), 2)
    assert ends(kvq("recall", "nobody", "--query", indexed / "query.npy"), 3)
    assert ends(kvq("recall", "chat", "--query", indexed / "query.npy", "--k", "513"), 2)


@pytest.fixture
def summarised(kvq, files):
    """A session with summaries of its keys; queries for tokens 20 to 24 of layer 0 and 60 to 64 of layer 1."""
    ends(kvq("import", "keys", files / "cache.npy", "--model", "m", "--key-summaries"), 0)
    k = np.load(files / "cache.npy")[:, 0].astype(np.float32)
    queries = np.stack([k[0, 20:24].mean(0), k[1, 60:64].mean(0)])
    np.save(files / "queries.npy", 100 * np.repeat(queries, 2, axis=1))
    return files


def ranges_of(layer):
    return [(found["first"], found["tokens"]) for found in layer["ranges"]]


def test_queries_find_what_they_attend_to_layer_by_layer(kvq, summarised):
    recall = ("recall", "keys", "--queries", summarised / "queries.npy", "--k", "1")
    found = kvq.json(*recall)
    assert found["session"] == "keys" and found["version"] == kvq.json("info", "keys")["version"]
    assert [(layer["layer"], layer["tokens"], ranges_of(layer)) for layer in found["layers"]] == [
        (0, 4, [(20, 4)]),
        (1, 4, [(60, 4)]),
    ]
    assert all(0.9 < layer["ranges"][0]["share"] <= 1 for layer in found["layers"])
    lines = [line.split() for line in ends(kvq(*recall), 0).splitlines()]
    assert [line[:2] for line in lines] == [["LAYER", "TOKENS"], ["0", "20:24"], ["1", "60:64"]]


def test_layers_and_tokens_are_those_asked_for(kvq, summarised):
    np.save(summarised / "one.npy", np.load(summarised / "queries.npy")[1:])
    recall = ("recall", "keys", "--queries", summarised / "one.npy", "--layers", "1:2", "--tokens", "30:50")
    (layer,) = kvq.json(*recall)["layers"]
    assert layer["layer"] == 1 and ranges_of(layer) == [(32, 16)]
    assert "--layers says" in ends(kvq(*recall[:4]), 1)


def test_queries_go_with_options_of_theirs_alone(kvq, summarised):
    recall = ("recall", "keys", "--queries", summarised / "queries.npy")
    query = ("--query", summarised / "query.npy")
    for options in (("--model", "m"), ("--merge",), query, ("another",), ("--k", "65537")):
        ends(kvq(*recall, *options), 2)
    ends(kvq("recall", "--queries", summarised / "queries.npy"), 2)
    ends(kvq("recall", "keys", *query, "--layers", "0:1"), 2)


def test_what_cannot_be_asked_by_queries_is_said(kvq, summarised):
    ends(kvq("import", "plain", summarised / "cache.npy", "--model", "m"), 0)
    assert "key_summaries" in ends(kvq("recall", "plain", "--queries", summarised / "queries.npy"), 1)
    assert "[layers, query_heads, head_dim]" in ends(kvq("recall", "keys", "--queries", summarised / "query.npy"), 1)
    np.save(summarised / "odd.npy", np.ones((2, 4, 16), np.float32))
    assert "multiple" in ends(kvq("recall", "keys", "--queries", summarised / "odd.npy"), 1)
    ends(kvq("recall", "nobody", "--queries", summarised / "queries.npy"), 3)
