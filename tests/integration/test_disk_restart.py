"""Restart: a daemon that ends in order has all its sessions again."""

import math
import random
import time
from types import SimpleNamespace

import numpy
import pytest
from disk_support import assert_has, disk, put
from wire import EXACT, F32, ON_DISK, OPEN_EXISTING, PLACE_PAGES, SHARING_IDS, policy_numbers
from wire_support import (LARGE, SMALL, append, bits, gaussian_bits, packed, refused, stored,
                          to_float, unpacked, wait_until)

__all__ = ["disk"]


def test_sessions_in_memory_come_back_after_sigterm(disk):
    disk.start()
    with disk.connect() as connection:
        for number in range(10):
            put(connection, b"%d" % number, 100 * number + 1, seed=number)
    log = disk.daemon.log
    disk.restart()
    assert "10 sessions are on disk" in log.read_text()
    with disk.connect() as connection:
        assert len(connection.list().sessions) == 10
        for number in range(10):
            assert_has(connection, b"%d" % number, 100 * number + 1, seed=number)


def test_they_come_back_as_often_as_the_daemon_ends(disk):
    disk.start()
    for tokens in (100, 28, 1, 171):
        with disk.connect() as connection:
            put(connection, b"a", tokens)
        disk.restart()
    with disk.connect() as connection:
        assert_has(connection, b"a", 300)


def test_a_name_that_memory_leaves_on_disk_is_not_given_to_another_session(disk):
    disk.start(memory="128M")
    with disk.connect() as connection:
        put(connection, b"a", 20, geometry=LARGE)
        put(connection, b"b", 20)
    disk.restart(memory="32M")  # an eighth of it is less than a page of such tokens of all layers
    wait_until(lambda: "others do not fit the memory limit" in disk.daemon.log.read_text())
    with disk.connect() as connection:
        assert_has(connection, b"b", 20)
        with refused("full"):
            connection.open(b"a", geometry=SMALL)
        with refused("full"):
            connection.fork(b"b", b"a")
        put(connection, b"c", 20)
    disk.restart(memory="128M")
    with disk.connect() as connection:
        for name, geometry in ((b"a", LARGE), (b"b", SMALL), (b"c", SMALL)):
            assert_has(connection, name, 20, geometry=geometry)


def test_without_save_on_exit_only_durable_sessions_come_back(disk):
    disk.start(save_on_exit="no")
    with disk.connect() as connection:
        put(connection, b"a", 100, durability=ON_DISK)
        put(connection, b"b", 100)
    disk.restart()
    with disk.connect() as connection:
        assert_has(connection, b"a", 100)
        with refused("miss"):
            connection.info(b"b")


def test_a_session_is_what_it_was(disk):
    disk.start()
    with disk.connect() as connection:
        session, _ = stored(connection, b"a", tokens=300, level=2)
        connection.pin(b"a", 3_600_000)
        before = session.info()
    disk.restart()
    with disk.connect() as connection:
        after = connection.info(b"a")
    for field in ("id", "version", "tokens", "tail_tokens", "level", "logical_bytes", "values", "model", "durability"):
        assert getattr(after, field) == getattr(before, field)
    assert (after.k.error, after.v.energy) == (before.k.error, before.v.energy)
    assert after.age_ms >= before.age_ms
    assert 0 < after.pinned_ms <= before.pinned_ms


def test_sessions_are_found_by_their_tokens_again_and_share_as_they_did(disk):
    ids = random.Random(1).choices(range(50_000), k=300)
    salts = [SimpleNamespace(first=10, tokens=200, salt=b"cat"), SimpleNamespace(first=250, tokens=9, salt=b"dog")]
    disk.start()
    with disk.connect() as connection:
        for name in (b"a", b"b"):
            session = connection.open(name, geometry=SMALL, level=EXACT, sharing=SHARING_IDS * (name == b"a"))
            session.append(300, packed(bits(SMALL, 300)), ids=ids[::1 if name == b"a" else -1],
                           salts=salts if name == b"a" else [])
    for _ in range(2):
        disk.restart()
        with disk.connect() as connection:
            reply = connection.match(b"model", ids, salts=salts)
            assert (reply.session, reply.tokens) == (b"a", 300)
            assert connection.match(b"model", ids).tokens == 10
            assert connection.match(b"model", ids[::-1]).session == b"b"
            assert [connection.info(name).sharing for name in (b"a", b"b")] == [SHARING_IDS, 0]
            assert connection.info(b"a").token_ids_tokens == 300
            session = connection.open(b"a", geometry=SMALL)
    with disk.connect() as connection:
        session.connection = connection
        session.append(100, packed(bits(SMALL, 100)), ids=ids[:100])
        assert connection.match(b"model", ids + ids[:100], salts=salts).tokens == 400


def reported(session, arrays):
    """What a fetch and INFO say of the session's pages, which must be true: levels, and decibels of K and V."""
    kv, reply = session.fetch(dtype=F32)
    info = session.info()
    given = [to_float(part, SMALL.dtype).astype(numpy.float64) for part in arrays]
    got = unpacked(kv, SMALL, dtype=F32)
    decibels = []
    for loss, said, values, back in zip((reply.k, reply.v), (info.k, info.v), given, got):
        error = numpy.sum((values - back.view(numpy.float32)) ** 2)
        assert loss.error == pytest.approx(said.error)
        assert error == pytest.approx(loss.error, rel=0.1)  # an estimate once it was coded anew
        decibels.append(10 * math.log10(numpy.sum(values ** 2) / error))
    levels = {row.level for row in info.levels if row.place == PLACE_PAGES}
    assert levels == {row.level for row in reply.levels}
    return levels, decibels


@pytest.mark.parametrize("again", ["restart", "crash"])
def test_what_was_coded_anew_after_it_was_written_is_told_as_it_comes_back(disk, again):
    arrays = gaussian_bits(SMALL, 512)
    disk.start()
    with disk.connect() as connection:
        session = connection.open(b"a", geometry=SMALL, level=0)
        append(session, arrays, settle=True)
        connection.flush(b"a")
        connection.age(b"a", 3)
        levels, told = reported(session, arrays)
        assert levels == {3}
    getattr(disk, again)()
    with disk.connect() as connection:
        session = connection.open(b"a", mode=OPEN_EXISTING)
        before = {row.level for row in session.info().levels if row.place == PLACE_PAGES}
        levels, decibels = reported(session, arrays)
        assert levels == before == {0}
        assert min(decibels) > max(told)


def test_a_policy_that_changed_after_the_last_save_comes_back(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300)
        connection.flush(b"a")
        connection.policy(b"a", ttl_ms=3_600_000)
        connection.pin(b"a", 3_600_000)
    disk.restart()
    with disk.connect() as connection:
        after = connection.info(b"a")
    assert policy_numbers(after.policy)["ttl_ms"] == 3_600_000
    assert after.pinned_ms > 0


def test_a_session_that_was_only_read_since_it_was_saved_is_as_young_as_it_was(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300)
        connection.flush(b"a")
        time.sleep(1.5)
        read = time.monotonic()
        assert_has(connection, b"a", 300)
    disk.restart()
    with disk.connect() as connection:
        idle_ms = connection.info(b"a").idle_ms
        assert idle_ms < 1000 * (time.monotonic() - read) + 1000


def test_what_is_on_disk_takes_no_memory_until_it_is_fetched(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 1280)
    disk.restart()
    with disk.connect() as connection:
        info = connection.info(b"a")
        assert info.disk_bytes > 100_000
        assert info.stored_bytes < 20_000
        assert_has(connection, b"a", 1280)
        assert connection.info(b"a").stored_bytes > 100_000
        assert connection.stats().disk.loaded_chunks == 10


def test_forks_share_their_chunks_on_disk_too(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 1280)
        connection.fork(b"a", b"b")
    disk.restart()
    with disk.connect() as connection:
        assert_has(connection, b"a", 1280)
        assert_has(connection, b"b", 1280)
        assert connection.info(b"b").unique_bytes < 10_000
        connection.delete(b"a")
        assert_has(connection, b"b", 1280)


def test_an_append_goes_on_where_the_session_ended(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 200)
    disk.restart()
    with disk.connect() as connection:
        put(connection, b"a", 100)
        assert_has(connection, b"a", 300)


def test_lossy_sessions_come_back_to_the_last_bit(disk):
    disk.start()
    with disk.connect() as connection:
        session, _ = stored(connection, b"a", tokens=256, level=3)
        connection.age(b"a", 3)
        before, _ = session.fetch()
    disk.restart()
    with disk.connect() as connection:
        after, _ = connection.open(b"a", mode=OPEN_EXISTING).fetch()
        assert after == before
