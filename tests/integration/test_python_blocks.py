"""Blocks by key through the package kvquantd, and so through libkvq."""

import asyncio

import kvquantd
import kvquantd.aio
import numpy as np
import pytest

GEOMETRY = kvquantd.Geometry(layers=3, heads=2, head_dim=64)


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


@pytest.fixture
def blocks(client):
    return client.blocks("m", GEOMETRY, level="exact")


def values(tokens, seed=0, geometry=GEOMETRY):
    shape = (geometry.layers, tokens, geometry.heads, geometry.head_dim)
    generator = np.random.default_rng(seed)
    return tuple(generator.standard_normal(shape).astype(np.float16) for _ in (0, 1))


def equal(got, expected):
    return all(np.array_equal(one, other) for one, other in zip(got, expected))


@pytest.mark.parametrize("tokens", [1, 16, 128, 256, 300])
def test_a_block_comes_back_as_it_was_put(blocks, tokens):
    assert blocks.put(b"key", *values(tokens))
    (got,) = blocks.get([b"key"], tokens)
    assert equal(got, values(tokens))
    assert blocks.exists([b"key", b"other"]) == [tokens, 0]


def test_a_block_that_is_there_stays_as_it_is(blocks):
    assert blocks.put(b"key", *values(16))
    assert not blocks.put(b"key", *values(16, seed=1))
    assert equal(blocks.get([b"key"], 16)[0], values(16))


def test_blocks_behind_each_other_come_in_the_order_asked_with_none_for_what_is_not_there(client, blocks):
    for i in range(9):
        assert blocks.put(b"%d" % i, *values(16, i), parent=b"%d" % (i - 1) if i else None)
    got = blocks.get([b"8", b"no", b"0", b"4", b"nor this"], 16)
    assert [pair is None for pair in got] == [False, True, False, False, True]
    assert equal(got[0], values(16, 8)) and equal(got[2], values(16)) and equal(got[3], values(16, 4))
    assert client.sessions() == []


def test_without_a_length_each_block_comes_with_its_own(blocks):
    lengths = [16, 48, 16, 200]
    for i, tokens in enumerate(lengths):
        blocks.put(b"%d" % i, *values(tokens, i))
    got = blocks.get([b"0", b"1", b"nothing", b"2", b"3"])
    assert got.pop(2) is None
    assert all(equal(pair, values(tokens, i)) for i, (pair, tokens) in enumerate(zip(got, lengths)))


def test_any_number_of_keys(blocks):
    keys = [b"%064d" % i for i in range(1100)]
    k, v = values(1)
    for key, parent in zip(keys, [None, *keys]):
        blocks.put(key, k, v, parent)
    assert blocks.exists([b"no", *keys]) == [0] + [1] * len(keys)
    assert all(equal(pair, (k, v)) for pair in blocks.get(keys, 1))
    assert blocks.delete(keys) == [1] * len(keys)
    assert blocks.get(keys, 1) == [None] * len(keys)


def test_values_go_where_out_says_in_any_strides(blocks):
    for i in range(2):
        blocks.put(b"%d" % i, *values(16, i))
    memory = np.zeros((2, 2, GEOMETRY.layers, GEOMETRY.heads, 16, 64), np.float16)  # heads before tokens
    out = [tuple(part.transpose(0, 2, 1, 3) for part in pair) for pair in memory]
    blocks.get([b"1", b"0"], 16, out)
    assert equal(out[0], values(16, 1)) and equal(out[1], values(16, 0))


def test_values_are_read_where_they_stand(blocks):
    k, v = (part.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3) for part in values(100))
    blocks.put(b"a", k, v)
    blocks.put(b"b", k, v, parent=b"a")
    assert equal(blocks.get([b"b"], 100)[0], values(100))


def test_a_lossy_block_is_near(client):
    blocks = client.blocks("m", GEOMETRY, level=2)
    blocks.put(b"key", *values(128))
    for got, expected in zip(blocks.get([b"key"], 128)[0], values(128)):
        assert 0 < np.square(got - expected, dtype=np.float32).mean() < 0.02


def test_another_model_or_geometry_has_other_blocks(client, blocks):
    blocks.put(b"key", *values(16))
    other = kvquantd.Geometry(layers=2, heads=2, head_dim=64)
    assert client.blocks("other", GEOMETRY).exists([b"key"]) == [0]
    assert client.blocks("m", other).exists([b"key"]) == [0]
    assert client.blocks("m", other).get([b"key"], 16) == [None]


def test_touch_and_leases_say_what_is_there(blocks):
    blocks.put(b"key", *values(16))
    assert blocks.touch([b"key", b"no"], lease=5) == blocks.exists([b"key", b"no"], lease=5) == [16, 0]


def test_a_model_without_v(client):
    geometry = kvquantd.Geometry(layers=2, heads=1, head_dim=576, head_dim_v=0)
    blocks = client.blocks("mla", geometry, level="exact")
    k, _ = values(16, geometry=geometry)
    blocks.put(b"key", k)
    got, none = blocks.get([b"key"], 16)[0]
    assert none is None and np.array_equal(got, k)


@pytest.mark.parametrize("call", [
    lambda blocks: blocks.put(b"", *values(16)),
    lambda blocks: blocks.put(b"k" * 65, *values(16)),
    lambda blocks: blocks.exists([b""]),
    lambda blocks: blocks.get([b""], 16),
    lambda blocks: blocks.put(b"key", values(16)[0], None),
    lambda blocks: blocks.get([b"key"], 16, []),
    lambda blocks: blocks.get([b"key"], 16, [values(15)]),
    lambda blocks: blocks.get([b"key"], None, [values(16)]),
])
def test_what_cannot_be_is_refused_before_anything_is_sent(blocks, call):
    with pytest.raises((ValueError, kvquantd.Error)):
        call(blocks)
    assert blocks.exists([b"key"]) == [0]


def test_the_same_calls_on_an_event_loop(daemon):
    async def run():
        async with await kvquantd.aio.connect(daemon.socket) as client:
            blocks = await client.blocks("m", GEOMETRY, level="exact")
            assert await blocks.put(b"a", *values(100))
            assert not await blocks.put(b"a", *values(100))
            assert await blocks.put(b"b", *values(16, 1), parent=b"a")
            assert await blocks.exists([b"b", b"a"], lease=1) == [16, 100]
            got = await blocks.get([b"a", b"no", b"b"])
            assert got[1] is None and equal(got[0], values(100)) and equal(got[2], values(16, 1))
            assert await blocks.touch([b"a"]) == await blocks.delete([b"a"]) == [100]
            assert await blocks.get([b"a"], 100) == [None]

    asyncio.run(run())


def test_blocks_have_the_same_calls_for_asyncio():
    public = [{name for name in vars(kind) if not name.startswith("_")}
              for kind in (kvquantd.Blocks, kvquantd.aio.AsyncBlocks)]
    assert public[0] == public[1]


def test_status_counts_blocks(client, blocks):
    blocks.put(b"key", *values(16))
    blocks.get([b"key", b"no"], 16)
    counts = client.status()["blocks"]
    assert counts.pop("index_bytes") > 0
    assert counts == {"blocks": 1, "tokens": 16, "put": 1, "asked": 2, "hits": 1, "lost": 0}
