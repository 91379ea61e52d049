"""Token ids, matches and sharing, from Python."""

import asyncio
import weakref

import kvquantd
import kvquantd.aio
import numpy as np
import pytest
from kvquantd._token_ids import salts_to_c

GEOMETRY = kvquantd.Geometry(layers=2, heads=3, head_dim=16)
TOKENS = 300
IDS = np.random.default_rng(1).integers(0, 50_000, TOKENS)


def values(tokens=TOKENS, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(2, tokens, 3, 16)).astype(np.float16)


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


def store(client, name, ids=IDS, salts=None, sharing=None, level="exact"):
    session = client.open(name, model="m", geometry=GEOMETRY, level=level, sharing=sharing)
    k = values(len(ids))
    session.append(k, k, token_ids=ids, salts=salts, settle=True)
    return session


@pytest.mark.parametrize("kind", [list, tuple, np.asarray, lambda ids: np.asarray(ids, np.uint32),
                                  lambda ids: np.repeat(ids, 2)[::2]])
def test_a_match_is_a_session_and_a_number_of_tokens(client, kind):
    session = store(client, "a", kind(IDS))
    found = client.match(kind([*IDS[:200], 7, 7, 7]), "m")
    assert found == ("a", 200)
    name, tokens = found
    assert (name, tokens) == ("a", 200)
    assert (found.version, found.session_tokens, found.level) == (session.version, TOKENS, "exact")


def test_without_a_match_it_is_none(client):
    assert client.match(IDS, "m") is None
    store(client, "a")
    assert client.match(IDS, "another") is None
    assert client.match([], "m") is None
    assert client.match(IDS, "m", geometry=kvquantd.Geometry(layers=2, heads=3, head_dim=32)) is None
    assert client.match(IDS, "m", geometry=GEOMETRY) == ("a", TOKENS)


def test_a_fork_from_a_match_has_its_values(client):
    store(client, "a")
    found = client.match(IDS[:256], "m")
    fork = client.open(found[0]).fork("b", found[1], if_version=found.version)
    k, v = fork.fetch()
    assert np.array_equal(k, values()[:, :256])
    assert fork.info()["token_ids_tokens"] == 256


def test_salts_tell_images_apart(client):
    cat, dog = [(10, 50, b"cat")], [kvquantd.Salt(10, 50, b"dog")]
    store(client, "a", salts=cat)
    assert client.match(IDS, "m", cat) == ("a", TOKENS)
    assert client.match(IDS, "m", dog) == ("a", 10)
    assert client.match(IDS, "m") == ("a", 10)


@pytest.mark.parametrize("salts", [1, 600])
def test_many_salts_are_sent_too(client, salts):
    ids = np.arange(3000) % 50
    given = [(5 * i, 2, bytes([i % 251]) * 64) for i in range(salts)]
    store(client, "a", ids, salts=given)
    assert client.match(ids, "m", given) == ("a", 3000)


def test_salts_stay_where_a_call_reads_them():
    array, _, held = salts_to_c([(0, 1, b"cat")])
    reference = weakref.ref(array)
    del array
    assert reference() is not None


def test_more_salts_than_a_request_has_room_for_are_refused(client):
    with pytest.raises(kvquantd.Error, match="more bytes than a request has"):
        client.match(range(3000), "m", [(2 * i, 1, bytes(64)) for i in range(1000)])
    assert client.match(IDS, "m") is None


@pytest.mark.parametrize("ids", [[-1], [2**32], [0.5], ["a"], [[1, 2]]])
def test_ids_that_are_none_are_refused(client, ids):
    with pytest.raises(ValueError):
        client.match(ids, "m")


def test_salts_without_ids_are_refused(client):
    session = client.open("a", model="m", geometry=GEOMETRY)
    with pytest.raises(ValueError, match="salts"):
        session.append(values(1), values(1), salts=[(0, 1, b"x")])


@pytest.mark.parametrize("sharing", ["ids", "bytes"])
def test_the_same_tokens_are_stored_once(client, sharing):
    one = store(client, "a", sharing=sharing).info()
    two = store(client, "b", sharing=sharing).info()
    assert two["sharing"] == sharing
    assert two["unique_bytes"] < one["stored_bytes"] - 2 * one["logical_bytes"] // 4
    status = client.status()["sharing"]
    assert (status["chunks"], status["matches"]) == (2, 0)
    assert status["bytes"] > 0 and status["token_ids_bytes"] > 4 * TOKENS


def test_sharing_that_is_none_is_refused(client):
    with pytest.raises(ValueError, match="sharing"):
        client.open("a", model="m", geometry=GEOMETRY, sharing="all")


@pytest.mark.parametrize("connections", [1, 3])
def test_a_large_append_over_several_connections_brings_its_ids(daemon, connections):
    geometry = kvquantd.Geometry(layers=4, heads=8, head_dim=64)
    ids = np.random.default_rng(2).integers(0, 50_000, 5000)
    k = np.random.default_rng(3).normal(size=(4, 5000, 8, 64)).astype(np.float16)
    with kvquantd.connect(daemon.socket, connections=connections) as client:
        session = client.open("a", model="m", geometry=geometry, level="fast8")
        session.append(k, k, token_ids=ids)
        assert client.match(ids, "m") == ("a", 5000)


def test_asyncio_matches_too(daemon):
    async def run():
        async with await kvquantd.aio.connect(daemon.socket) as client:
            session = await client.open("a", model="m", geometry=GEOMETRY, sharing="ids")
            await session.append(values(), values(), token_ids=IDS)
            return await client.match(IDS[:100], "m"), await client.match([1], "m")

    assert asyncio.run(run()) == (("a", 100), None)
