"""Embeddings outlast what their session outlasts: a restart, kill -9 where it is durable; what is gone stays gone."""

import struct

import pytest
from disk_support import disk, put
from wire import ON_DISK
from wire_support import noise, refused

__all__ = ["disk"]

DIM = 8
AXES = [struct.pack(f"<{DIM}f", *(float(i == axis) for i in range(DIM))) for axis in range(DIM)]


def entry(axis, first=0, tokens=10, label=b""):
    return first, tokens, label, b"of %d" % axis, AXES[axis]


def found(connection, axis=0, **fields):
    """The axes of the entries that a recall finds, nearest first."""
    query = [1 / (1 + abs(i - axis)) for i in range(DIM)]
    hits, *_ = connection.recall(query, k=512, **{"sessions": [b"a"], **fields})
    return [int(hit.metadata.split()[1]) for hit in hits.hits]


@pytest.mark.parametrize("key", [False, True], ids=["plain", "encrypted"])
def test_they_come_back_after_a_restart_and_are_found(disk, tmp_path, key):
    options = {"disk_key": tmp_path / "key"} if key else {}
    if key:
        options["disk_key"].write_bytes(noise(32))
        options["disk_key"].chmod(0o600)
    disk.start(**options)
    with disk.connect() as connection:
        put(connection, b"a", 300)
        connection.index(b"a", [entry(0, label=b"x"), entry(1, 50), entry(2, 290)], DIM)
        connection.index(b"a", [entry(3, label=b"x"), entry(4)], DIM)
        connection.fork(b"a", b"b", tokens=100)
        connection.unindex(b"a", first=50, end=51)
    disk.restart(**options)
    with disk.connect() as connection:
        assert sorted(found(connection)) == [2, 3, 4]
        assert sorted(found(connection, sessions=[b"b"])) == [1, 3, 4]
        assert found(connection, axis=4)[0] == 4
        hits, frames, reply = connection.recall([0, 0, 0, 0, 1, 0, 0, 0], sessions=[b"a"], k=1, fetch=True)
        assert reply.fetched == [1] and reply.bytes == sum(len(payload) for *_, payload in frames)
        connection.index(b"a", [entry(5)], DIM)
        assert sorted(found(connection)) == [2, 3, 4, 5]


def test_durable_ones_outlast_kill_9_as_does_their_end(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300, durability=ON_DISK)
        connection.index(b"a", [entry(i, label=b"%d" % i) for i in range(4)], DIM)
        connection.index(b"a", [entry(5, label=b"1")], DIM)
        connection.unindex(b"a", labels=[b"2"])
    disk.crash()
    with disk.connect() as connection:
        assert sorted(found(connection)) == [0, 3, 5]


def test_in_memory_what_was_saved_and_is_gone_stays_gone(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300)
        connection.index(b"a", [entry(0, label=b"x"), entry(1, 250), entry(2, label=b"y")], DIM)
        connection.flush(b"a")
        connection.unindex(b"a", labels=[b"x"])
        connection.truncate(b"a", 200)
        connection.index(b"a", [entry(3, label=b"y")], DIM)
    disk.crash()
    with disk.connect() as connection:
        assert sorted(found(connection)) == [3]


def test_a_limit_is_held_whatever_is_put_and_nothing_is_lost(disk):
    """A million entries would take many times the limit: they are put until there is no more room."""
    many, dim = 2_000, 1024
    rows = [(i % 10, 1, b"", b"", struct.pack("<f", 1 + i) + bytes(4 * dim - 4)) for i in range(many)]
    disk.start(memory="48M")
    with disk.connect() as connection:
        put(connection, b"a", 10)
        puts = 0
        with refused("full"):
            for puts in range(1_000_000 // many):
                connection.index(b"a", rows, dim, wait_ms=100)
        assert puts > 0
        assert connection.info(b"a").entries.entries == puts * many
        stats = connection.stats()
        assert stats.used_bytes <= stats.limit_bytes
        hits, *_ = connection.recall([1] + [0] * (dim - 1), sessions=[b"a"], metric=0, k=512)
        assert len(hits.hits) == 512
        connection.unindex(b"a")
        connection.index(b"a", rows[:1], dim)
        assert connection.info(b"a").entries.entries == 1
