"""STATS: sums that agree with what each session says, and counters of what was done."""

import pytest
from test_wire_age import modelled
from test_wire_fork import forked
from wire import FETCH, PLACE_PAGES, PLACE_SINKS, PLACE_TAIL, Connection, data_frame, frame
from wire_support import (LARGE, SMALL, append, bits, connection, large, refused, stored,  # noqa: F401
                          wait_until, waiting)


def count(stats, operation):
    return next(row for row in stats.operations if row.operation == operation)


def infos(connection):
    return [connection.info(entry.session) for entry in connection.list().sessions]


@pytest.fixture
def family(connection):
    """Sessions that share, with tails, sinks and several levels."""
    source, _ = stored(connection, b"a", tokens=300)
    forked(connection, source, b"b")
    forked(connection, source, b"c", 200)
    append(forked(connection, source, b"d", 290), bits(SMALL, 200, 1))
    modelled(connection, b"e", level=3)
    connection.truncate(b"e", 100)
    forked(connection, source, b"gone")
    connection.delete(b"gone")


def test_sums_are_those_of_the_sessions(connection, family):
    stats, sessions = connection.stats(), infos(connection)
    assert stats.sessions == len(sessions) == 5
    assert stats.tokens == sum(info.tokens for info in sessions)
    assert stats.bytes_16bit == 2 * sum(info.values for info in sessions)
    assert stats.stored_bytes == sum(info.stored_bytes for info in sessions)
    memory = stats.memory
    assert stats.unique_bytes == memory.pages_bytes + memory.tails_bytes + memory.sessions_bytes
    assert sum(info.unique_bytes for info in sessions) < stats.unique_bytes < stats.stored_bytes
    assert stats.unique_bytes + memory.fixed_bytes <= stats.used_bytes


def test_levels_count_what_is_shared_once(connection, family):
    stats = connection.stats()
    memory = stats.memory
    assert sum(row.bytes for row in stats.levels) == memory.pages_bytes + memory.tails_bytes
    tokens = {(row.place, row.level): row.tokens for row in stats.levels}
    assert tokens == {
        (PLACE_SINKS, -2): 4 + 4,
        (PLACE_PAGES, -2): 2 * 128 - 4 + 128,  # two chunks of a, one that d filled
        (PLACE_PAGES, 3): 128 - 4,  # e was cut within its chunk
        (PLACE_TAIL, -2): 44 + 44 + 0 + 106,  # of each session
    }


def test_nothing_is_left_after_everything_is_deleted(connection):
    before = connection.stats()
    source, _ = stored(connection, b"a", tokens=300)
    for number in range(20):
        fork = forked(connection, source, b"%d" % number, 10 * number + 1)
        append(fork, bits(SMALL, 150, number), settle=number % 2 == 0)
        fork.truncate(5 * number)
    connection.delete_many(model=b"model")
    after = connection.stats()
    assert after.used_bytes == before.used_bytes + after.memory.fixed_bytes - before.memory.fixed_bytes
    assert (after.sessions, after.tokens, after.stored_bytes, after.unique_bytes, after.levels) == (0, 0, 0, 0, [])
    assert (after.sessions_created, after.sessions_deleted) == (21, 21)


def test_what_was_appended_and_fetched_is_counted(connection):
    session, _ = stored(connection, b"a", tokens=200)
    session.fetch(dtype=3)
    session.fetch(first=100)
    with refused("miss"):
        session.fetch(end=201)
    with refused("miss"):
        connection.fetch(b"none")
    stats, token_bytes = connection.stats(), 2 * 2 * 3 * 16 * 2
    assert (stats.appended_tokens, stats.appended_bytes) == (200, 200 * token_bytes)
    assert (stats.fetched_tokens, stats.fetched_bytes) == (300, 200 * token_bytes * 2 + 100 * token_bytes)
    assert (stats.fetch_hits, stats.fetch_misses) == (2, 2)


def test_errors_are_counted_by_name_and_operation(connection):
    for _ in range(3):
        with refused("miss"):
            connection.info(b"none")
    with refused("invalid"):
        connection.delete(b"")
    connection.send(frame(0, 99))
    with refused("unknown_operation"):
        connection.answer(99, "PingReply")
    stats = connection.stats()
    assert {row.error: row.count for row in stats.errors} == {"miss": 3, "invalid": 1, "unknown_operation": 1}
    assert (count(stats, "info").requests, count(stats, "info").errors) == (3, 3)


def test_times_are_from_the_first_frame_to_the_last(connection, large):
    """A fetch whose client takes its time."""
    connection.request(FETCH, "FetchRequest", session=b"large", dtype=3)
    connection.receive()
    with Connection(connection.socket.getpeername()) as other:
        wait_until(lambda: other.stats().uptime_seconds > 0.3)
        assert count(other.stats(), "fetch").total_us == 0
    while connection.receive().type == 32:
        pass
    fetch = count(connection.stats(), "fetch")
    assert fetch.total_us == fetch.max_us > 0
    session = connection.open(b"large", geometry=LARGE)
    session.fetch(end=1)
    later = count(connection.stats(), "fetch")
    assert later.max_us == fetch.max_us < later.total_us


def test_connections_are_counted(daemon, connection):
    for _ in range(3):
        Connection(daemon.socket).close()
    wait_until(lambda: connection.stats().connections == 1)
    assert connection.stats().connections_accepted >= 4


def test_the_keepers_work_is_counted(connection):
    modelled(connection, b"a", tokens=512)
    connection.age(b"a", 3)
    keeper = connection.stats().keeper
    assert (keeper.queued_sessions, keeper.chunks) == (0, 4)
    assert 0 < keeper.bytes_after < keeper.bytes_before


@pytest.mark.memory("96M")
def test_appends_that_wait_for_memory_are_counted(daemon, connection):
    noise, stats = bits(LARGE, 128)[0][0].tobytes(), connection.stats()
    too_many = (stats.limit_bytes - stats.memory.fixed_bytes) * 11 // 10 // (128 * 65536) * 128

    def append_too_much(writer):
        session = writer.open(b"a", geometry=LARGE, level=-2)
        request_id = session.begin(too_many, wait_ms=60000)
        for offset, tokens, layer, part in session.pieces(too_many):
            writer.send(data_frame(request_id, offset, tokens, layer, part, noise))

    with waiting(daemon, connection, append_too_much) as outcome:
        assert connection.stats().appends_waiting == 1 and not outcome
    wait_until(lambda: connection.stats().appends_waiting == 0)


def test_a_fetch_within_ample_time_is_whole(connection):
    session, _ = stored(connection, b"a", tokens=300)
    assert session.fetch(within_ms=60000)[1].tokens == 300


def test_a_fetch_that_takes_longer_than_allowed_is_a_miss(connection, large):
    """128 MiB in 1 ms."""
    with refused("miss"):
        connection.fetch(b"large", dtype=3, within_ms=1)
    connection.ping()
    assert connection.fetch(b"large", end=1, within_ms=60000)[1].tokens == 1
