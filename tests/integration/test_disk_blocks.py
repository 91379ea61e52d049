"""Blocks by key on disk: they spill, come back, and outlast the daemon's end."""

from types import SimpleNamespace

from block_support import PAGE, Blocks, chain_of, fill
from disk_support import disk
from wire_support import SMALL, WIDE, bits, gaussian_bits, packed, wait_until

__all__ = ["disk"]


def assert_hold(blocks, keys, parts):
    came, reply = blocks.get(keys, parts[0][0].shape[1])
    assert reply.hits == [1] * len(keys)
    assert came == [packed(values) for values in parts]


def test_blocks_outlast_an_orderly_end(disk):
    disk.start()
    with disk.connect() as connection:
        keys, parts = chain_of(Blocks(connection), 20)
        others, other_parts = chain_of(Blocks(connection), 5, seed=1, parent=keys[2])
    for _ in range(2):
        disk.restart()
        with disk.connect() as connection:
            blocks = Blocks(connection)
            assert_hold(blocks, keys, parts)
            assert_hold(blocks, others, other_parts)
            stats = connection.stats()
            assert (stats.blocks.blocks, stats.blocks.chains, stats.sessions) == (25, 2, 0)
            assert not connection.list().sessions
    with disk.connect() as connection:
        more, more_parts = chain_of(Blocks(connection), 3, seed=2, parent=keys[-1])
        assert connection.stats().blocks.chains == 2
        assert_hold(Blocks(connection), keys + more, parts + more_parts)


def test_a_flush_of_all_is_of_blocks_too(disk):
    disk.start()
    with disk.connect() as connection:
        keys, parts = chain_of(Blocks(connection), 10)
        assert connection.flush().sessions == 0
        late, _ = chain_of(Blocks(connection), 2, seed=1)
    disk.crash()
    with disk.connect() as connection:
        blocks = Blocks(connection)
        assert_hold(blocks, keys, parts)
        assert blocks.exists(late) == [0, 0]


def test_an_acknowledged_delete_of_a_block_does_not_come_back(disk):
    disk.start()
    with disk.connect() as connection:
        keys, parts = chain_of(Blocks(connection), 10)
        connection.flush()
        assert Blocks(connection).delete(keys[3], keys[9], b"nothing") == [16, 16, 0]
    disk.crash()
    with disk.connect() as connection:
        assert Blocks(connection).exists(keys) == [16] * 3 + [0] + [16] * 5 + [0]
        Blocks(connection).delete(*keys)
    disk.crash()
    with disk.connect() as connection:
        assert Blocks(connection).exists(keys) == [0] * 10
        wait_until(lambda: connection.stats().disk.live_bytes < 10_000)


def test_deletes_that_the_disk_has_cost_those_behind_them_nothing(disk):
    disk.start()
    with disk.connect() as connection:
        blocks = Blocks(connection)
        saved, _ = chain_of(blocks, 10)
        connection.flush()
        blocks.delete(*saved)
        syncs = connection.stats().disk.syncs
        in_memory, _ = chain_of(blocks, 10, seed=1)
        for key in reversed(in_memory):
            blocks.delete(key)
        assert connection.stats().disk.syncs == syncs


def test_blocks_in_memory_are_gone_after_kill_9(disk):
    disk.start()
    with disk.connect() as connection:
        keys, _ = chain_of(Blocks(connection), 10)
    disk.crash()
    with disk.connect() as connection:
        assert Blocks(connection).exists(keys) == [0] * 10
        assert connection.stats().tokens == 0


def test_what_memory_has_no_room_for_goes_to_disk_and_comes_back_after_a_restart_too(disk):
    count = 24
    keys = [b"%d/%d" % (i, j) for i in range(count) for j in range(2)]
    disk.start(memory="32M")
    with disk.connect() as connection:
        fill(connection, Blocks(connection, geometry=WIDE), count)
        assert connection.stats().disk.spilled_bytes > 10 << 20
    for _ in range(2):
        with disk.connect() as connection:
            blocks = Blocks(connection, geometry=WIDE)
            for i in range(0, len(keys), 2):
                assert_hold(blocks, keys[i:i + 2], [bits(WIDE, PAGE, i), bits(WIDE, PAGE, i + 1)])
            assert connection.stats().blocks.lost == 0
        disk.restart(memory="32M")


def test_blocks_age_with_time_and_are_as_coarse_after_a_restart(disk):
    kept = SimpleNamespace(floor=SimpleNamespace(level=3), idle_step_ms=SimpleNamespace(value=1))
    disk.start()
    with disk.connect() as connection:
        blocks = Blocks(connection, level=1)
        blocks.put(b"key", gaussian_bits(SMALL, PAGE), policy=kept)
        wait_until(lambda: levels_of(blocks) == [(3, PAGE)])
        came, _ = blocks.get([b"key"], PAGE)
    disk.restart()
    with disk.connect() as connection:
        blocks = Blocks(connection, level=1)
        assert levels_of(blocks) == [(3, PAGE)]
        assert blocks.get([b"key"], PAGE)[0] == came


def levels_of(blocks):
    """By asking for it, which is a use."""
    _, reply = blocks.get([b"key"], PAGE)
    return [(level.level, level.tokens) for level in reply.levels]
