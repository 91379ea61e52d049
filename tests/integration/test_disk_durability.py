"""Durability on disk: what was acknowledged outlasts a daemon that is killed."""

import pytest
from disk_support import assert_has, disk, put, values
from wire import EXACT, IN_MEMORY, ON_DISK, OPEN_EXISTING, SHARING_BYTES, policy_numbers
from wire_support import SMALL, append, connection, packed, refused, wait_until

__all__ = ["connection", "disk"]


@pytest.mark.parametrize("tokens", [1, 127, 128, 300], ids=["one row", "a tail", "a page", "pages and a tail"])
def test_a_durable_append_outlasts_kill_9(disk, tokens):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", tokens, durability=ON_DISK)
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", tokens)


def test_small_durable_appends_outlast_it_one_by_one(disk):
    disk.start()
    done = 0
    for tokens in (1, 2, 125, 1, 126, 3, 70):
        with disk.connect() as connection:
            put(connection, b"a", tokens, durability=ON_DISK)
        done += tokens
        disk.crash()
        with disk.connect() as connection:
            assert_has(connection, b"a", done)


def test_a_session_in_memory_is_a_miss_after_it(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300)
    disk.crash()
    with disk.connect() as connection, refused("miss"):
        connection.open(b"a", mode=OPEN_EXISTING)


def test_what_was_flushed_outlasts_it_and_what_came_later_does_not(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 200)
        connection.flush(b"a")
        put(connection, b"a", 100)
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", 200)


def test_flush_without_a_name_is_of_all_sessions(disk):
    disk.start()
    with disk.connect() as connection:
        for number in range(20):
            put(connection, b"%d" % number, 10 * number + 1, seed=number)
        assert connection.flush().sessions == 20
    disk.crash()
    with disk.connect() as connection:
        for number in range(20):
            assert_has(connection, b"%d" % number, 10 * number + 1, seed=number)


def test_an_acknowledged_delete_does_not_come_back(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300, durability=ON_DISK)
        put(connection, b"b", 300, durability=ON_DISK)
        connection.delete(b"a")
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"b", 300)
        with refused("miss"):
            connection.info(b"a")


def test_an_acknowledged_truncation_does_not_come_back_even_in_memory(disk):
    """The session was flushed once; then other tokens came in place of those cut off."""
    disk.start()
    with disk.connect() as connection:
        session = put(connection, b"a", 300)
        connection.flush(b"a")
        session.truncate(260)
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", 260)


def test_other_tokens_behind_a_cut_are_what_comes_back(disk):
    disk.start()
    with disk.connect() as connection:
        session = put(connection, b"a", 300, durability=ON_DISK)
        session.truncate(0)
        append(session, values(280, seed=7))
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", 280, seed=7)


def test_a_name_that_was_deleted_comes_back_as_what_it_was_made_again(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300, durability=ON_DISK)
        connection.delete(b"a")
        put(connection, b"a", 140, seed=5, durability=ON_DISK)
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", 140, seed=5)


def test_a_fork_of_a_durable_session_is_durable(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300, durability=ON_DISK)
        connection.fork(b"a", b"b", 290)
        connection.delete(b"a")
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"b", 290)


def test_a_durable_sessions_policy_outlasts_it(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300, level=1, durability=ON_DISK)
        connection.policy(b"a", floor=4, ttl_ms=10**9)
    disk.crash()
    with disk.connect() as connection:
        policy = policy_numbers(connection.policy(b"a").policy)
        assert (policy["floor"], policy["ttl_ms"]) == (4, 10**9)


def test_a_durable_sessions_pin_outlasts_it(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300, durability=ON_DISK)
        connection.pin(b"a", 10**9)
    disk.crash()
    with disk.connect() as connection:
        assert 0 < connection.info(b"a").pinned_ms <= 10**9
        connection.pin(b"a", 0)
    disk.crash()
    with disk.connect() as connection:
        assert connection.info(b"a").pinned_ms == 0


def test_a_durable_sessions_level_outlasts_it(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300, level=1, durability=ON_DISK)
        connection.age(b"a", 3)
    disk.crash()
    with disk.connect() as connection:
        assert connection.open(b"a", mode=OPEN_EXISTING).level == 3


def test_a_durable_session_without_tokens_outlasts_it_once_it_is_pinned(disk):
    disk.start()
    with disk.connect() as connection:
        connection.open(b"a", geometry=SMALL, durability=ON_DISK)
        connection.pin(b"a", 10**9)
    disk.crash()
    with disk.connect() as connection:
        assert connection.open(b"a", mode=OPEN_EXISTING).tokens == 0
        assert connection.info(b"a").pinned_ms > 0


@pytest.mark.parametrize("pieces", [[256], [100, 100, 56]], ids=["at once", "bit by bit"])
def test_durable_sessions_keep_the_same_tokens_once(disk, pieces):
    disk.start()
    with disk.connect() as connection:
        append_shared(connection, b"a", [256])
        before = connection.stats().disk.live_bytes
        append_shared(connection, b"b", pieces)
        assert connection.info(b"b").unique_bytes < 10_000
        wait_until(lambda: connection.stats().disk.live_bytes < before + 40_000)
    disk.crash()
    with disk.connect() as connection:
        connection.delete(b"a")
        assert_has(connection, b"b", 256)


def append_shared(connection, name, pieces):
    session = connection.open(name, geometry=SMALL, level=EXACT, sharing=SHARING_BYTES, durability=ON_DISK)
    for tokens in pieces:
        first, end = session.tokens, session.tokens + tokens
        part = tuple(part[:, first:end] for part in values(end))
        session.append(tokens, packed(part), ids=range(first, end))


def test_a_later_open_may_choose_durability_anew(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 130)
        put(connection, b"a", 10, durability=ON_DISK)
        put(connection, b"a", 1, durability=IN_MEMORY)
        assert connection.info(b"a").durability == IN_MEMORY
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", 140)


def test_without_a_disk_durability_is_refused(daemon, connection):
    with refused("unsupported"):
        connection.open(b"a", geometry=None, mode=OPEN_EXISTING, durability=ON_DISK)
    with refused("unsupported"):
        connection.flush()


def test_sessions_keep_their_ids_and_new_ones_get_others(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 10, durability=ON_DISK)
        before = connection.info(b"a")
    disk.crash()
    with disk.connect() as connection:
        after = connection.info(b"a")
        assert (after.id, after.version, after.page_tokens) == (before.id, before.version, before.page_tokens)
        put(connection, b"b", 10)
        assert connection.info(b"b").id > after.id
        assert connection.info(b"b").version > after.version
