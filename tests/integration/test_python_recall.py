"""Embeddings: ranges of tokens are found by them, with their K and V, from Python."""

import asyncio
import struct

import kvquantd
import kvquantd.aio
import numpy as np
import pytest

GEOMETRY = kvquantd.Geometry(layers=2, heads=3, head_dim=16)
TOKENS, DIM = 400, 24


def numbers(tokens, seed=0):
    return np.random.default_rng(seed).normal(size=(2, tokens, 3, 16)).astype(np.float16)


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


def filled(client, name, model="m", seed=0, tokens=TOKENS):
    session = client.open(name, model=model, geometry=GEOMETRY, level="exact")
    session.append(numbers(tokens, seed), numbers(tokens, seed + 1))
    return session


@pytest.fixture
def session(client):
    return filled(client, "a")


def directions(count, seed=7):
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def ranges_of(count, tokens=20):
    return [range(i * tokens, (i + 1) * tokens) for i in range(count)]


def cosines(vectors, query):
    return vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("metric", ["cosine", "inner"])
def test_the_nearest_ranges_are_found_best_first(session, dtype, metric):
    vectors, query = directions(20).astype(dtype), directions(1, seed=1)[0]
    labels = [f"turn {i}" for i in range(20)]
    assert session.index(vectors, ranges_of(20), labels, [b"%d" % i for i in range(20)], metric) == 0
    exact = vectors.astype(np.float64)
    scores = cosines(exact, query) if metric == "cosine" else exact @ query
    hits = session.recall(query, 5, metric=metric)
    assert [hit.label for hit in hits] == [labels[i] for i in np.argsort(-scores)[:5]]
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:5], abs=1e-5)
    best = hits[0]
    i = int(best.label.split()[1])
    assert (best.session, best.tokens, best.metadata) == ("a", ranges_of(20)[i], b"%d" % i)
    assert best.version == session.version
    assert best.bytes > 0 and best.level == "exact" and 0 <= best.age < 600
    assert best.k is None


def test_an_entry_is_replaced_by_its_label_and_deleted(session):
    vectors = directions(3)
    session.index(vectors, ranges_of(3), ["x", "y", None])
    assert session.index(vectors[:1], [(100, 110)], ["x"]) == 1
    assert session.info()["embeddings"]["entries"] == 3
    assert session.recall(vectors[0], 1)[0].tokens == range(100, 110)
    assert session.unindex(["x", "never"]) == 1
    assert {hit.label for hit in session.recall(vectors[0], 9)} == {"y", ""}
    assert session.unindex(tokens=range(59, 60)) == 1
    assert session.unindex([]) == 0
    assert session.unindex() == 1
    assert session.recall(vectors[0], 9) == []


def test_k_and_v_come_with_the_hits(session):
    vectors = directions(20)
    session.index(vectors, ranges_of(20))
    hits = session.recall(vectors[3], 4, fetch=True)
    assert hits.k.shape == hits.v.shape == (2, 80, 3, 16)
    for hit in hits:
        k, v = session.fetch(hit.tokens)
        assert np.array_equal(hit.k, k) and np.array_equal(hit.v, v)
    some = session.recall(vectors[3], 4, fetch=True, dtype="f32", layers=range(1, 2))
    assert some[0].k.dtype == np.float32
    assert np.array_equal(some[0].k, session.fetch(some[0].tokens, range(1, 2), dtype="f32")[0])
    assert session.recall(vectors[3], 4, fetch=True, min_score=2) == []


def test_filters_hold_of_every_hit(client, session):
    vectors = directions(20)
    session.index(vectors, ranges_of(20), [f"n{i % 20}" for i in range(20)])
    query = vectors[3]
    scores = cosines(vectors, query)
    above = session.recall(query, 20, min_score=0.1)
    assert len(above) == (scores >= 0.1).sum()
    assert [hit.label for hit in session.recall(query, 20, label="n7")] == ["n7"]
    assert session.recall(query, 20, label="n") == []
    within = session.recall(query, 20, tokens=range(35, 61))
    assert sorted(hit.tokens.start for hit in within) == [20, 40, 60]
    assert len(session.recall(query, 20, newer_than=600)) == 20
    assert client.recall(query, 20, model="m", label="n3", min_score=0.9)[0].tokens.start == 60


def test_ranges_that_overlap_or_touch_become_one(session):
    vectors = directions(4)
    session.index(vectors, [(0, 20), (20, 40), (100, 120), (110, 140)])
    hits = session.recall(vectors[3], 4, merge=True)
    assert sorted((hit.tokens.start, hit.tokens.stop) for hit in hits) == [(0, 40), (100, 140)]
    assert hits[0].tokens == range(100, 140) and hits[0].score == pytest.approx(1)


def test_the_scope_is_one_session_some_or_all_of_the_model(client, session):
    vectors = directions(6)
    session.index(vectors[:2], ranges_of(2), ["a0", "a1"])
    for name, at in (("b", 2), ("c", 4)):
        filled(client, name).index(vectors[at:at + 2], ranges_of(2), [f"{name}0", f"{name}1"])

    def found(**scope):
        return {hit.label for hit in client.recall(vectors[0], 50, **scope)}

    assert found(model="m") == {"a0", "a1", "b0", "b1", "c0", "c1"}
    assert found(sessions=["a", "c"]) == {"a0", "a1", "c0", "c1"}
    assert found(sessions=["b", "b"], model="m") == {"b0", "b1"}
    assert {hit.session for hit in client.recall(vectors[0], 50, model="m")} == {"a", "b", "c"}


def test_what_forks_share_is_found_once_and_each_by_itself(client, session):
    vectors = directions(20)
    session.index(vectors, ranges_of(20))
    fork = session.fork("b", 100)
    assert len(client.recall(vectors[0], 50, model="m")) == 20
    assert {hit.session for hit in fork.recall(vectors[0], 50)} == {"b"}
    assert len(fork.recall(vectors[0], 50)) == 5
    session.delete()
    assert len(client.recall(vectors[0], 50, model="m")) == 5


def test_entries_go_with_their_tokens(session):
    vectors = directions(20)
    session.index(vectors, ranges_of(20))
    session.truncate(100)
    session.append(numbers(300, seed=5), numbers(300, seed=6))
    assert sorted(hit.tokens.start for hit in session.recall(vectors[0], 50)) == [0, 20, 40, 60, 80]


# ---- another model's, and what cannot be ----


def test_another_models_entries_are_reached_by_no_parameter(client, session):
    """Whatever is asked of model m, what is other's stays its own: m2's entries are the nearer ones."""
    vectors = directions(8)
    session.index(vectors[4:], ranges_of(4), ["x0", "x1", "x2", "x3"])
    other = filled(client, "other", model="m2")
    other.index(vectors[:4], ranges_of(4), ["x0", "x1", "y0", "y1"])
    query = vectors[0]
    asked = [
        {}, {"k": 512}, {"min_score": -1e30}, {"label": "x0"}, {"label": "y0"}, {"tokens": range(0, 1 << 40)},
        {"newer_than": 1e9}, {"merge": True}, {"fetch": True}, {"metric": "inner"}, {"sessions": ["a"]},
    ]
    for options in asked:
        k = options.pop("k", 50)
        try:
            hits = client.recall(query, k, model="m", **options)
        except kvquantd.Invalid:
            assert options == {"metric": "inner"}
            continue
        assert {hit.session for hit in hits} <= {"a"}, options
        assert not {hit.label for hit in hits} & {"y0", "y1"}
    for options in ({"sessions": ["other"]}, {"sessions": ["a", "other"]}):
        with pytest.raises(kvquantd.ModelMismatch):
            client.recall(query, 5, model="m", **options)
    with pytest.raises(kvquantd.ModelMismatch):
        client.recall(query, 5, sessions=["a", "other"])
    assert client.recall(query, 50, model="none of these") == []
    assert {hit.session for hit in client.recall(query, 50, model="m2")} == {"other"}


@pytest.mark.parametrize("k", [0, 513, (1 << 32) - 1])
def test_a_number_of_hits_that_cannot_be_is_refused(session, k):
    session.index(directions(1), ranges_of(1))
    with pytest.raises(kvquantd.Invalid, match="k: 1 to 512"):
        session.recall(directions(1)[0], k)
    assert len(session.recall(directions(1)[0], 512)) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_nothing_is_lost(session, bad):
    vectors = directions(3)
    session.index(vectors, ranges_of(3))
    spoilt = vectors.copy()
    spoilt[1, 5] = bad
    with pytest.raises(kvquantd.Invalid, match="entry 1"):
        session.index(spoilt, ranges_of(3))
    with pytest.raises(kvquantd.Invalid, match="query"):
        session.recall(spoilt[1])
    with pytest.raises(kvquantd.Invalid):
        session.index(spoilt.astype(np.float16), ranges_of(3))
    assert len(session.recall(vectors[0], 50)) == 3


def test_a_zero_vector_has_no_direction(session):
    zero = np.zeros((1, DIM), np.float32)
    with pytest.raises(kvquantd.Invalid, match="zero"):
        session.index(zero, ranges_of(1))
    session.index(zero, ranges_of(1), metric="inner")
    session.index(directions(1), ranges_of(1))
    with pytest.raises(kvquantd.Invalid):
        session.recall(zero[0])
    assert session.recall(zero[0], metric="inner")[0].score == 0


def test_other_dims_are_refused_where_there_are_entries_and_find_none_where_not(client, session):
    filled(client, "empty")
    session.index(directions(2), ranges_of(2))
    for query, metric in ((np.ones(DIM + 1), "cosine"), (np.ones(DIM), "inner")):
        with pytest.raises(kvquantd.Invalid, match="another dim"):
            session.recall(query, metric=metric)
        with pytest.raises(kvquantd.Invalid, match="another dim"):
            client.recall(query, model="m", metric=metric)
        assert client.recall(query, sessions=["empty"], metric=metric) == []
    for dim in (0, 4097):
        with pytest.raises((kvquantd.Error, ValueError), match="dim"):
            session.recall(np.ones(dim))
        with pytest.raises((kvquantd.Error, ValueError), match="dim"):
            session.index(np.ones((1, dim), np.float32), ranges_of(1))
    wide = np.random.default_rng(3).normal(size=(2, 4096)).astype(np.float16)
    session.index(wide, ranges_of(2), ["w0", "w1"])
    assert [hit.label for hit in session.recall(wide[1], 1)] == ["w1"]


def test_a_range_that_is_not_there_is_a_miss(session):
    with pytest.raises(kvquantd.Miss, match="entry 1 is of tokens 390 to 401"):
        session.index(directions(2), [(0, 1), (390, 401)])
    for tokens in ((5, 5), (6, 5), (-1, 3), range(0, 10, 2)):
        with pytest.raises(ValueError):
            session.index(directions(1), [tokens])
    with pytest.raises(kvquantd.Invalid, match="one label"):
        session.index(directions(2), ranges_of(2), ["x", "x"])
    assert session.info()["embeddings"]["entries"] == 0


def test_a_session_that_is_gone_is_a_miss(client, session):
    session.delete()
    for call in (lambda: session.index(directions(1), ranges_of(1)), session.unindex,
                 lambda: session.recall(directions(1)[0])):
        with pytest.raises(kvquantd.Miss):
            call()


def test_if_version_holds_entries_to_the_state_they_are_of(session):
    version = session.version
    session.index(directions(1), ranges_of(1), if_version=version)
    session.refresh()
    assert session.version == version
    session.append(numbers(1), numbers(1))
    for call in (lambda: session.index(directions(1), ranges_of(1), if_version=version),
                 lambda: session.unindex(if_version=version)):
        with pytest.raises(kvquantd.VersionChanged):
            call()


def test_more_entries_than_go_at_a_time_go_one_behind_the_other(client, session):
    many = 30_000
    vectors = np.random.default_rng(0).normal(size=(many, 256)).astype(np.float32)
    session.index(vectors, [(i % TOKENS, i % TOKENS + 1) for i in range(many)],
                  metadata=[struct.pack("<I", i) for i in range(many)])
    for i in (0, many // 2, many - 1):
        hit = session.recall(vectors[i], 1)[0]
        assert struct.unpack("<I", hit.metadata) == (i,)
    info = session.info()["embeddings"]
    assert info["entries"] == many and info["batches"] < 10
    status = client.status()["recall"]
    assert (status["entries"], status["put"], status["recalls"], status["hits"]) == (many, many, 3, 3)


def test_from_asyncio(daemon, client, session):
    vectors = directions(4)

    async def run():
        async with await kvquantd.aio.connect(daemon.socket) as other:
            mine = await other.open("a")
            assert await mine.index(vectors, ranges_of(4), ["p", "q", "r", "s"]) == 0
            hits = await mine.recall(vectors[2], 1, fetch=True)
            all_hits = await other.recall(vectors[2], 9, model="m")
            assert await mine.unindex(["q"]) == 1
            return hits, all_hits

    hits, all_hits = asyncio.run(run())
    assert hits[0].label == "r" and hits[0].k.shape == (2, 20, 3, 16)
    assert len(all_hits) == 4
    assert len(session.recall(vectors[2], 9)) == 3
