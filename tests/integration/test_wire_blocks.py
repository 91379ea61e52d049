"""Blocks: tokens that a host addresses by keys of its own."""

import dataclasses
import itertools
import struct
import threading
import time
from types import SimpleNamespace

import pytest
from block_support import MODEL, PAGE, Blocks, chain_of, fill
from wire import (BLOCK_CONTROL, BLOCK_DELETE, BLOCK_TOUCH, COMMIT, ERROR, HEADS_TOKENS_DIM, PLACE_TAIL,
                  TOKENS_HEADS_DIM, Connection, Refused, data_frame, frame)
from wire_support import (SMALL, WIDE, bits, connection, gaussian_bits, packed, refused, stored,  # noqa: F401
                          wait_until)

@pytest.fixture
def blocks(connection):
    return Blocks(connection)


def places(connection):
    return {level.place: level.tokens for level in connection.stats().levels}


@pytest.mark.parametrize("layout", [TOKENS_HEADS_DIM, HEADS_TOKENS_DIM])
@pytest.mark.parametrize("tokens", [1, 16, 100, 128, 256, 300])
def test_a_block_is_what_was_put(blocks, tokens, layout):
    arrays = bits(SMALL, tokens)
    blocks.put(b"key", arrays, layout)
    blocks.assert_holds(b"key", arrays, layout)
    assert blocks.exists([b"key"]) == [tokens]


def test_blocks_with_a_parent_fill_a_page_together(connection, blocks):
    keys, parts = chain_of(blocks, 8)
    stats = connection.stats()
    assert (stats.blocks.blocks, stats.blocks.tokens, stats.blocks.chains) == (8, PAGE, 1)
    assert PLACE_TAIL not in places(connection)
    assert sum(places(connection).values()) == PAGE
    for key, values in zip(keys, parts):
        blocks.assert_holds(key, values)
        blocks.assert_holds(key, values, HEADS_TOKENS_DIM)


@pytest.mark.parametrize("tokens", [16, 48, 100, 128, 200, 256])
def test_blocks_of_any_length_follow_each_other(blocks, tokens):
    keys, parts = chain_of(blocks, 6, tokens)
    came, reply = blocks.get(keys, tokens)
    assert reply.hits == [1] * 6
    assert came == [packed(values) for values in parts]


def test_heads_first_blocks_across_the_end_of_a_page_are_what_was_put(blocks):
    first, second = bits(SMALL, 100), bits(SMALL, 100, 1)
    blocks.put(b"a", first, HEADS_TOKENS_DIM)
    blocks.put(b"b", second, HEADS_TOKENS_DIM, parent=b"a")
    blocks.assert_holds(b"a", first)
    blocks.assert_holds(b"b", second)


def test_two_blocks_behind_one_parent_are_both_there(connection, blocks):
    keys, parts = chain_of(blocks, 5)
    others, other_parts = chain_of(blocks, 5, seed=1, parent=keys[2])
    for key, values in zip(keys + others, parts + other_parts):
        blocks.assert_holds(key, values)
    assert connection.stats().blocks.chains == 2


def test_a_block_that_exists_is_refused_and_stays(blocks):
    arrays = bits(SMALL, 16)
    blocks.put(b"key", arrays)
    with refused("exists"):
        blocks.put(b"key", bits(SMALL, 16, 1))
    blocks.assert_holds(b"key", arrays)


def test_a_block_that_is_being_put_is_not_there_and_not_put_again(daemon, blocks):
    request_id = blocks.begin(b"key", 16)
    blocks.send(request_id, bits(SMALL, 16))
    blocks.connection.ping()  # the daemon has it
    with Connection(daemon.socket) as other:
        others = Blocks(other)
        assert others.exists([b"key"]) == [0]
        with refused("busy"):
            others.put(b"key", bits(SMALL, 16))
    blocks.commit(request_id)
    blocks.assert_holds(b"key", bits(SMALL, 16))


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_put_that_is_not_committed_leaves_nothing(daemon, connection, end):
    keys, parts = chain_of(Blocks(connection), 2)
    Blocks(connection).put(b"other", parts[0])  # once: the index has grown by what it needs
    Blocks(connection).delete(b"other")
    before = connection.stats()
    with Connection(daemon.socket) as other:
        for parent in (keys[1], keys[0], b""):
            request_id = Blocks(other).begin(b"other", 16, parent=parent)
            Blocks(other).send(request_id, bits(SMALL, 16))
            if end == "close":
                break
            other.cancel(request_id)
            assert other.receive().type == ERROR
    wait_until(lambda: connection.stats().blocks.chains == before.blocks.chains)
    assert Blocks(connection).exists([b"other", *keys]) == [0, 16, 16]
    wait_until(lambda: connection.stats().memory.sessions_bytes == before.memory.sessions_bytes)
    Blocks(connection).put(b"other", parts[0], parent=keys[1])
    assert connection.stats().blocks.chains == before.blocks.chains


def test_the_same_key_is_another_block_of_another_model_or_geometry(connection, blocks):
    arrays = bits(SMALL, 16)
    blocks.put(b"key", arrays)
    for other in (Blocks(connection, b"other"),
                  Blocks(connection, geometry=dataclasses.replace(SMALL, layers=3)),
                  Blocks(connection, geometry=dataclasses.replace(SMALL, rope=SimpleNamespace(
                      pairing=1, theta=1e4, dims=16, scaling=1.0)))):
        assert other.exists([b"key"]) == [0]
        assert other.hits([b"key"], 16) == [0]
        assert other.delete(b"key") == [0]
        other.put(b"key", bits(other.geometry, 16, 1))
        other.assert_holds(b"key", bits(other.geometry, 16, 1))
    blocks.assert_holds(b"key", arrays)


def test_a_parent_of_another_model_is_none(connection, blocks):
    keys, _ = chain_of(blocks, 1)
    other = Blocks(connection, b"other")
    other.put(b"child", bits(SMALL, 16, 1), parent=keys[0])
    other.assert_holds(b"child", bits(SMALL, 16, 1))
    assert connection.stats().blocks.chains == 2


def test_a_get_gives_what_is_there_and_says_which(blocks):
    keys, parts = chain_of(blocks, 4)
    asked = [keys[0], b"nothing", keys[3], keys[1], b"nothing else"]
    came, reply = blocks.get(asked, 16)
    assert reply.hits == [1, 0, 1, 1, 0]
    assert came == [packed(parts[0]), None, packed(parts[3]), packed(parts[1]), None]
    assert reply.bytes == 3 * 16 * 2 * sum(SMALL.token_bytes(part) for part in (0, 1))


def test_a_block_of_another_length_is_a_miss(blocks):
    blocks.put(b"key", bits(SMALL, 16))
    assert blocks.hits([b"key"], 15) == blocks.hits([b"key"], 32) == [0]


def test_layers_and_parts_are_chosen(blocks):
    arrays = bits(SMALL, 16)
    blocks.put(b"key", arrays)
    (kv,), _ = blocks.get([b"key"], 16, first_layer=1, end_layer=2, skip_v=True)
    assert kv[0] == [b"", packed(arrays)[0][1]] and kv[1] == [b"", b""]


def await_level(blocks, keys, block_tokens, level):
    def levels():
        _, reply = blocks.get(keys, block_tokens)
        return [(row.level, row.tokens) for row in reply.levels]

    wait_until(lambda: levels() == [(level, PAGE)])


def test_a_lossy_block_tells_its_level_and_loss(connection):
    blocks = Blocks(connection, level=3)
    values = gaussian_bits(SMALL, PAGE)
    for i in range(8):
        blocks.put(b"%d" % i, tuple(part[:, 16 * i:16 * i + 16] for part in values),
                   parent=b"%d" % (i - 1) if i else b"")
    keys = [b"%d" % i for i in range(8)]
    await_level(blocks, keys, 16, 3)
    _, reply = blocks.get(keys, 16)
    assert 0 < reply.k.error < 0.1 * reply.k.energy and 0 < reply.v.error < 0.1 * reply.v.energy


def test_only_a_sequences_first_tokens_are_sinks(connection):
    blocks = Blocks(connection, level=3)
    values = gaussian_bits(SMALL, PAGE)
    sinks = []
    for key, position in ((b"first", 0), (b"later", 4096)):
        blocks.put(key, values, first_position=position)
        await_level(blocks, [key], PAGE, 3)
        (kv,), _ = blocks.get([key], PAGE)
        row = SMALL.token_bytes(0)
        sinks.append(all(bytes(kv[0][layer][:4 * row]) == packed(values)[0][layer][:4 * row] for layer in (0, 1)))
    assert sinks == [True, False]


def test_exists_counts_those_from_the_start_on(blocks):
    keys, _ = chain_of(blocks, 3)
    reply = blocks.control([*keys, b"nothing", keys[0]])
    assert (reply.tokens, reply.leading, reply.page_tokens) == ([16, 16, 16, 0, 16], 3, PAGE)


def test_a_deleted_block_is_gone_and_the_others_are_there(connection, blocks):
    keys, parts = chain_of(blocks, 4)
    assert blocks.delete(keys[1]) == [16]
    assert blocks.delete(keys[1]) == [0]
    assert blocks.hits(keys, 16) == [1, 0, 1, 1]
    assert blocks.delete(keys[3], keys[2]) == [16, 16]
    assert connection.stats().tokens == 16  # nothing is kept for the one that was deleted first
    blocks.assert_holds(keys[0], parts[0])
    blocks.delete(keys[0])
    stats = connection.stats()
    assert (stats.tokens, stats.blocks.chains, stats.blocks.blocks) == (0, 0, 0)


def test_a_key_that_was_deleted_may_be_put_with_other_values(blocks):
    keys, parts = chain_of(blocks, 3)
    blocks.delete(keys[2])
    other = bits(SMALL, 16, 9)
    blocks.put(keys[2], other, parent=keys[1])
    blocks.assert_holds(keys[2], other)
    blocks.assert_holds(keys[1], parts[1])


def test_a_key_put_again_while_its_children_stand_is_not_theirs(blocks):
    keys, parts = chain_of(blocks, 3)
    blocks.delete(keys[1])
    other = bits(SMALL, 16, 9)
    blocks.put(keys[1], other, parent=keys[0])
    blocks.assert_holds(keys[1], other)
    blocks.assert_holds(keys[2], parts[2])


def test_chains_are_no_sessions(connection, blocks):
    chain_of(blocks, 3)
    stored(connection, b"a session")
    assert [info.session for info in connection.list().sessions] == [b"a session"]
    stats = connection.stats()
    assert (stats.sessions, stats.sessions_created) == (1, 1)
    assert connection.call(16, "DeleteMany", model=MODEL).sessions == 1
    assert connection.stats().blocks.blocks == 3


def test_many_keys_are_found(connection, blocks):
    keys = [struct.pack("<Q", i) * 8 for i in range(3000)]
    arrays = bits(SMALL, 1)
    for first in range(0, len(keys), 16):
        some = keys[first:first + 16]
        for key, parent in zip(some, [keys[first - 1] if first % 256 else b"", *some]):
            blocks.put(key, arrays, parent=parent)
    for first in range(0, len(keys), 512):
        assert blocks.control(keys[first:first + 512]).leading == len(keys[first:first + 512])
    assert blocks.hits(keys[-512:], 1) == [1] * 512
    for first in range(0, len(keys), 512):
        blocks.delete(*keys[first:first + 512])
    assert connection.stats().blocks.chains == 0
    assert connection.stats().tokens == 0


@pytest.mark.parametrize("fields, name", [
    ({"keys": [b""]}, "invalid"),
    ({"keys": [b"k" * 65]}, "invalid"),
    ({"keys": [b"k"] * 513}, "too_large"),
    ({"keys": [b"k"], "model": b""}, "invalid"),
    ({"keys": [b"k"], "geometry": None}, "invalid"),
    ({"keys": [b"k"], "action": 3}, "invalid"),
    ({"keys": [b"k"], "action": BLOCK_DELETE, "lease_ms": 1}, "invalid"),
])
def test_what_cannot_be_asked_is_refused(connection, fields, name):
    with refused(name):
        connection.call(BLOCK_CONTROL, "BlockControl", **{"model": MODEL, "geometry": SMALL, **fields})


@pytest.mark.parametrize("first, tokens, layer, part", [
    (0, 15, 0, 0), (0, 17, 0, 0), (1, 16, 0, 0), (16, 16, 0, 0), (0, 16, 2, 0), (0, 16, 0, 2), (0, 0, 0, 0)])
def test_data_that_is_no_part_of_the_block_is_refused(blocks, first, tokens, layer, part):
    request_id = blocks.begin(b"key", 16)
    payload = bytes(tokens * (4 if part == 2 else SMALL.token_bytes(0)))
    blocks.connection.send(data_frame(request_id, first, tokens, layer, part, payload))
    with refused("invalid"):
        blocks.connection.answer(request_id, "BlockPutReply")
    blocks.connection.send(frame(COMMIT, request_id))
    assert blocks.exists([b"key"]) == [0]


def test_a_put_without_all_its_parts_is_incomplete(blocks):
    request_id = blocks.begin(b"key", 16)
    with refused("incomplete"):
        blocks.commit(request_id)
    assert blocks.exists([b"key"]) == [0]
    blocks.put(b"key", bits(SMALL, 16))


def test_a_block_of_no_tokens_is_refused(blocks):
    with refused("invalid"):
        blocks.put(b"key", bits(SMALL, 0))


@pytest.mark.memory("64M")
def test_under_pressure_a_block_is_what_was_put_or_a_miss_and_a_lease_holds(connection):
    blocks, count = Blocks(connection, geometry=WIDE), 60
    fill(connection, blocks, count, lease=(0, 7))
    keys = [b"%d/%d" % (i, j) for i in range(count) for j in range(2)]
    hits = []
    for i in range(count):
        came, reply = blocks.get(keys[2 * i:2 * i + 2], PAGE)
        for j, kv in enumerate(came):
            assert kv is None or kv == packed(bits(WIDE, PAGE, 2 * i + j))
        hits += reply.hits
    stats = connection.stats()
    assert 0 < sum(hits) < len(keys) and stats.blocks.lost >= len(keys) - sum(hits)
    assert hits[0:2] == hits[14:16] == [1, 1]
    assert stats.used_bytes <= stats.limit_bytes


@pytest.mark.memory("64M")
def test_a_block_behind_one_that_was_evicted_is_put_anew(connection):
    blocks = Blocks(connection, geometry=WIDE)
    fill(connection, blocks, 50)
    gone = [i for i in range(50) if blocks.exists([b"%d/0" % i, b"%d/1" % i]) != [PAGE, PAGE]]
    assert gone
    for i in gone[:3]:
        there = blocks.exists([b"%d/0" % i])[0]
        values = bits(WIDE, PAGE, 1000 + i)
        blocks.put(b"%d/1" % i, values, parent=b"%d/0" % i, wait_ms=60000)
        blocks.assert_holds(b"%d/1" % i, values)
        if there:
            blocks.assert_holds(b"%d/0" % i, bits(WIDE, PAGE, 2 * i))


def test_threads_that_put_get_and_delete_the_same_keys_see_only_what_was_put(daemon):
    """Each key has values of its own, whoever puts it."""
    faults, end = [], time.monotonic() + 3
    values = {b"%d" % i: bits(SMALL, 16, i) for i in range(24)}
    wanted = {key: packed(arrays) for key, arrays in values.items()}

    def work(seed):
        with Connection(daemon.socket) as own:
            blocks, keys = Blocks(own), list(values)
            for round in itertools.count():
                if time.monotonic() > end:
                    return
                at = (7 * seed + 5 * round) % len(keys)
                key, parent = keys[at], keys[at - 1] if at % 8 else b""
                try:
                    blocks.put(key, values[key], parent=parent)
                except Refused as refusal:
                    if refusal.name not in ("exists", "busy", "miss"):
                        faults.append(refusal)
                came, _ = blocks.get(keys[at - at % 8:at - at % 8 + 8], 16)
                for other, kv in zip(keys[at - at % 8:], came):
                    if kv is not None and kv != wanted[other]:
                        faults.append(other)
                if round % 3 == seed % 3:
                    blocks.delete(keys[(at + seed) % len(keys)])
                blocks.control([key], BLOCK_TOUCH)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    with Connection(daemon.socket) as own:
        Blocks(own).delete(*values)
        wait_until(lambda: own.stats().blocks.chains == 0)
        assert own.stats().tokens == 0
