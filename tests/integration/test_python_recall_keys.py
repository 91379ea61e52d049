"""Recall by keys: the tokens that each layer's queries attend to most, with their K and V, from Python."""

import asyncio

import kvquantd
import kvquantd.aio
import numpy as np
import pytest

LAYERS, HEADS, DIM, QUERY_HEADS, BLOCK = 3, 2, 32, 4, 4
GEOMETRY = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM)
TOKENS, CODED = 700, 640  # what is not coded yet has no summary


def numbers(seed, tokens=TOKENS):
    return np.random.default_rng(seed).normal(size=(LAYERS, tokens, HEADS, DIM)).astype(np.float16)


K, V = numbers(1), numbers(2)


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


def filled(client, name, **options):
    session = client.open(name, model="m", geometry=GEOMETRY, level="exact", key_summaries=True, **options)
    session.append(K, V)
    return session


@pytest.fixture
def session(client):
    return filled(client, "a")


def queries_for(wanted, size=1.0):
    """Of each layer, whose heads all ask for the keys of one block."""
    blocks = [K[layer, first : first + BLOCK].astype(np.float32).mean(0) for layer, first in enumerate(wanted)]
    return size * 40 * np.repeat(np.stack(blocks), QUERY_HEADS // HEADS, axis=1)


def test_each_layer_finds_the_block_that_it_asks_for(session):
    wanted = [200, 332, 4]
    recalled = session.recall(queries=queries_for(wanted), k=1)
    assert [layer.ranges for layer in recalled] == [[range(first, first + BLOCK)] for first in wanted]
    assert [layer.layer for layer in recalled] == [0, 1, 2]
    assert all(layer.shares[0] > 0.9 for layer in recalled)
    assert recalled.version == session.version and recalled[0].k is None


def test_what_is_chosen_is_what_attends_most(session):
    queries = np.random.default_rng(3).normal(size=(LAYERS, QUERY_HEADS, DIM)).astype(np.float32) * 2
    for layer, found in enumerate(session.recall(queries=queries, k=16)):
        means = K[layer, :CODED].astype(np.float64).reshape(-1, BLOCK, HEADS, DIM).mean(1)
        keys = np.repeat(means, QUERY_HEADS // HEADS, axis=1)
        scores = np.einsum("bhd,hd->hb", keys, queries[layer]) / np.sqrt(DIM)
        shares = np.exp(scores - np.log(np.exp(scores).sum(1, keepdims=True))).max(0)
        chosen = np.concatenate([np.arange(r.start, r.stop, BLOCK) // BLOCK for r in found.ranges])
        assert len(chosen) == 16 and (np.diff(chosen) > 0).all()
        best = np.sort(shares)[-16:]
        assert shares[chosen].sum() > 0.9 * best.sum()
        assert found.shares.max() == pytest.approx(best[-1], rel=0.4)


def test_k_and_v_of_each_layer_come_in_the_same_call(session):
    queries = np.random.default_rng(4).normal(size=(LAYERS, QUERY_HEADS, DIM)).astype(np.float32)
    for layer in session.recall(queries=queries, k=20, fetch=True):
        at = np.concatenate([np.arange(r.start, r.stop) for r in layer.ranges])
        assert len(at) == 20 * BLOCK
        np.testing.assert_array_equal(layer.k, K[layer.layer, at])
        np.testing.assert_array_equal(layer.v, V[layer.layer, at])
    (layer,) = session.recall(queries=queries[1:2], k=2, layers=1, fetch=True, dtype="f32")
    assert layer.layer == 1 and layer.k.dtype == np.float32 and layer.v.shape == (8, HEADS, DIM)


def test_only_blocks_wholly_among_the_tokens_are_chosen(session):
    (layer,) = session.recall(queries=queries_for([200]), k=100, layers=range(0, 1), tokens=range(198, 210))
    assert layer.ranges == [range(200, 208)]
    (layer,) = session.recall(queries=queries_for([200]), k=65536, layers=0)
    assert layer.ranges == [range(0, CODED)]
    (layer,) = session.recall(queries=queries_for([200]), k=5, layers=0, tokens=range(CODED, TOKENS))
    assert layer.ranges == [] and layer.k is None


def test_a_fork_and_what_is_appended_to_it_are_found(client, session):
    fork = session.fork("b", tokens=640)
    fork.append(K[:, :128], V[:, :128])
    (layer,) = fork.recall(queries=queries_for([60]), k=2, layers=0)
    assert layer.ranges == [range(60, 64), range(700, 704)]


def test_what_aged_is_found_as_before(session):
    queries = queries_for([200, 332, 4])
    before = session.recall(queries=queries, k=8)
    session.age(5, settle=True)
    assert [layer.ranges for layer in session.recall(queries=queries, k=8)] == [layer.ranges for layer in before]


def test_info_tells_what_summaries_take(client, session):
    info = session.info()
    assert info["key_summaries"] and 0 < info["key_summaries_bytes"] < info["stored_bytes"]
    plain = client.open("plain", model="m", geometry=GEOMETRY)
    assert not plain.info()["key_summaries"]


def test_a_session_without_summaries_is_refused(client):
    session = client.open("plain", model="m", geometry=GEOMETRY)
    session.append(K, V)
    with pytest.raises(kvquantd.Unsupported, match="key_summaries"):
        session.recall(queries=queries_for([0, 4, 8]), k=1)


def test_a_model_of_too_many_keys_has_no_summaries(client):
    wide = kvquantd.Geometry(layers=1, heads=40, head_dim=128)
    with pytest.raises(kvquantd.Unsupported, match="key_summaries"):
        client.open("wide", model="m", geometry=wide, key_summaries=True)


REFUSED = {
    "k of 0": ({"k": 0}, "k: 1 to 65536"),
    "k of 2^32 - 1": ({"k": (1 << 32) - 1}, "k: 1 to 65536"),
    "heads": ({"queries": np.zeros((LAYERS, 3, DIM))}, "no multiple"),
    "a NaN": ({"queries": np.full((LAYERS, HEADS, DIM), np.nan)}, "finite"),
    "an infinity": ({"queries": np.full((LAYERS, HEADS, DIM), -np.inf)}, "finite"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused(session, what):
    options, message = REFUSED[what]
    with pytest.raises(kvquantd.Invalid, match=message):
        session.recall(**{"queries": queries_for([0, 4, 8]), "k": 1, **options})
    assert session.recall(queries=queries_for([0, 4, 8]), k=1)[0].ranges == [range(0, 4)]


def test_shapes_that_are_not_the_sessions_are_told_here(session):
    for shape in [(LAYERS, QUERY_HEADS), (2, QUERY_HEADS, DIM), (LAYERS, QUERY_HEADS, DIM + 1)]:
        with pytest.raises(ValueError, match="queries have shape"):
            session.recall(queries=np.zeros(shape), k=1)
    with pytest.raises(ValueError, match="one of them"):
        session.recall(np.zeros(3), queries=queries_for([0, 4, 8]))


def test_what_is_not_there_is_not_found(client, session):
    other = client.open("a")
    session.delete()
    with pytest.raises(kvquantd.Miss):
        other.recall(queries=queries_for([0, 4, 8]), k=1)
    client.open("a", model="m2", geometry=GEOMETRY, key_summaries=True)
    with pytest.raises(kvquantd.ModelMismatch):
        other.recall(queries=queries_for([0, 4, 8]), k=1)


def test_another_version_is_refused_if_asked(session):
    version = session.version
    session.append(K[:, :1], V[:, :1])
    with pytest.raises(kvquantd.VersionChanged):
        session.recall(queries=queries_for([0, 4, 8]), k=1, if_version=version)
    assert session.recall(queries=queries_for([0, 4, 8]), k=1, if_version=session.version)


def test_an_asynchronous_client_finds_the_same(daemon, session):
    async def find():
        async with await kvquantd.aio.connect(daemon.socket) as client:
            return await (await client.open("a")).recall(queries=queries_for([200, 332, 4]), k=1)

    assert [layer.ranges for layer in asyncio.run(find())] == [[range(n, n + 4)] for n in (200, 332, 4)]
