"""The memory limit is a limit: where nothing can be evicted an append waits at it and is refused, and what
was accepted stays."""

import contextlib
import itertools
import random
import threading
import time

import pytest
from conftest import RSS_SLACK_BYTES, SANITIZED
from wire import EXACT, Connection, Refused
from wire_support import (TINY, WIDE, append, assert_holds, bits, connection, refused,  # noqa: F401
                          wait_until, waiting)

LIMIT_BYTES = 64 << 20
TOKENS = 256
SESSION_BYTES = TOKENS * 8192
OVERLOAD_SECONDS = 5
HANG_SECONDS = 1800
LEASE_MS = 3600000
LONG_MS = 60000  # nothing here takes so long

pytestmark = pytest.mark.memory("64M")


def store(connection, number, wait_ms=50, **fields):
    """Appends what bits(number) gives to a session of that name."""
    session = connection.open(b"%d" % number, geometry=WIDE, level=EXACT)
    return append(session, bits(WIDE, TOKENS, number), wait_ms=wait_ms, **fields)


def fill(connection):
    """Appends sessions, which are pinned, until one is refused; returns the numbers of those accepted."""
    for number in itertools.count():
        assert number < 2 * LIMIT_BYTES // SESSION_BYTES, "the limit is not reached at twice its bytes"
        try:
            store(connection, number)
            connection.pin(b"%d" % number, LEASE_MS)
        except Refused as error:
            assert error.name == "full" and error.retryable
            connection.delete(b"%d" % number)
            return list(range(number))


def assert_all_hold(connection, numbers):
    for number in numbers:
        assert_holds(connection.open(b"%d" % number, geometry=WIDE), bits(WIDE, TOKENS, number))


def test_everything_accepted_before_the_limit_stays_readable(connection):
    numbers = fill(connection)
    for _ in range(5):
        with refused("full"):
            store(connection, 1000)
        connection.delete(b"1000")
    assert_all_hold(connection, numbers)


def test_incompressible_bytes_fill_most_of_the_limit(connection):
    numbers = fill(connection)
    stats = connection.stats()
    assert stats.used_bytes <= stats.limit_bytes == LIMIT_BYTES
    for_sessions = LIMIT_BYTES - stats.memory.fixed_bytes
    assert len(numbers) * SESSION_BYTES >= 0.7 * for_sessions


def test_an_append_at_the_limit_waits_as_long_as_it_said(connection):
    fill(connection)
    start = time.monotonic()
    with refused("full"):
        store(connection, 1000, wait_ms=1200)
    assert 1.1 <= time.monotonic() - start < LONG_MS / 1000


def test_an_append_at_the_limit_leaves_nothing_of_itself(connection):
    fill(connection)
    connection.open(b"1000", geometry=WIDE, level=EXACT)
    connection.pin(b"1000", 10**9)
    used = connection.stats().used_bytes
    with refused("full"):
        store(connection, 1000)
    assert connection.info(b"1000").tokens == 0
    assert connection.stats().used_bytes <= used


def test_the_connection_goes_on_after_full(connection):
    numbers = fill(connection)
    with refused("full"):
        store(connection, 1000)
    connection.ping()
    for number in numbers[:2]:
        connection.delete(b"%d" % number)
    store(connection, 1000, wait_ms=LONG_MS)
    assert_all_hold(connection, [*numbers[2:], 1000])


@pytest.mark.parametrize("settle", [False, True])
def test_a_waiting_append_goes_on_when_another_session_is_deleted(daemon, connection, settle):
    numbers = fill(connection)
    with waiting(daemon, connection, lambda other: store(other, 1000, LONG_MS, settle=settle)) as outcome:
        assert not outcome
        for number in numbers[:3]:
            connection.delete(b"%d" % number)
        wait_until(lambda: outcome)
    assert outcome[0].tokens == TOKENS
    assert_all_hold(connection, [*numbers[3:], 1000])


def test_others_are_served_while_an_append_waits(daemon, connection):
    numbers = fill(connection)
    with waiting(daemon, connection, lambda other: store(other, 1000, LONG_MS)) as outcome:
        assert_all_hold(connection, numbers[:5])
        connection.list()
        assert not outcome
    assert connection.info(b"1000").tokens == 0


def test_a_client_that_dies_while_its_append_waits_leaves_nothing(daemon, connection):
    numbers = fill(connection)
    connection.open(b"1000", geometry=WIDE, level=EXACT)
    connection.pin(b"1000", 10**9)
    used = connection.stats().used_bytes
    with waiting(daemon, connection, lambda other: store(other, 1000, LONG_MS)):
        pass
    for number in numbers[:3]:
        connection.delete(b"%d" % number)
    wait_until(lambda: connection.stats().connections == 1)
    wait_until(lambda: connection.stats().used_bytes < used)
    assert connection.info(b"1000").tokens == 0
    store(connection, 1000, wait_ms=LONG_MS)
    assert_all_hold(connection, [*numbers[3:], 1000])


def test_opening_a_session_at_the_limit_is_served_or_refused_with_full(connection):
    numbers = fill(connection)
    for number in range(5000, 5200):
        try:
            connection.open(b"%d" % number, geometry=WIDE)
        except Refused as error:
            assert error.name == "full"
    assert connection.stats().used_bytes <= LIMIT_BYTES
    assert_all_hold(connection, numbers)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has memory of its own for each session")
def test_many_small_sessions_take_no_more_of_the_system_than_of_the_limit(daemon, connection):
    def taken():
        stats = connection.stats()
        return stats.used_bytes, daemon.rss_bytes() - stats.memory.warm_bytes

    connection.open(b"first", geometry=TINY)
    used_before, resident_before = taken()
    for number in range(20000):
        connection.open(b"%d" % number, geometry=TINY)
    used, resident = taken()
    assert resident - resident_before <= 1.25 * (used - used_before) + (6 << 20)


def test_after_deleting_everything_the_memory_is_back(connection):
    before = connection.stats().used_bytes
    afterwards = []
    for _ in range(4):
        for number in fill(connection):
            connection.delete(b"%d" % number)
        assert not connection.list().sessions
        afterwards.append(connection.stats().used_bytes)
    assert afterwards[0] - before < 2 << 20  # what was set up once: a table, a buffer
    assert afterwards[1:] == afterwards[:-1]


class Writer(threading.Thread):
    """Appends, pins, reads back and deletes sessions of its own until told to end; keeps what was accepted."""

    def __init__(self, daemon, first, ended):
        super().__init__()
        self.daemon_under_test, self.numbers, self.ended = daemon, itertools.count(first), ended
        self.accepted, self.appends, self.refusals, self.fault = [], 0, [], None
        self.generator = random.Random(first)

    def run(self):
        try:
            with Connection(self.daemon_under_test.socket) as connection:
                while not self.ended.is_set():
                    self.step(connection)
        except BaseException as fault:  # told to the test's own thread
            self.fault = fault

    def step(self, connection):
        number = next(self.numbers)
        self.appends += 1
        try:
            connection.open(b"%d" % number, geometry=WIDE, level=EXACT)
            connection.pin(b"%d" % number, LEASE_MS)
            store(connection, number, wait_ms=100)
            self.accepted.append(number)
        except Refused as error:
            self.refusals.append(error)
            with contextlib.suppress(Refused):  # OPEN may have been what was refused
                connection.delete(b"%d" % number)
            if self.generator.random() < 0.5 and self.accepted:
                gone = self.accepted.pop(self.generator.randrange(len(self.accepted)))
                connection.delete(b"%d" % gone)
        if self.accepted and self.generator.random() < 0.2:
            assert_all_hold(connection, [self.generator.choice(self.accepted)])


def test_at_three_times_the_limit_nothing_accepted_is_lost_and_memory_holds(daemon, connection):
    ended = threading.Event()
    writers = [Writer(daemon, 10000 * index, ended) for index in range(1, 5)]
    for writer in writers:
        writer.start()
    rss_bytes, used_bytes, start = [], [], time.monotonic()

    def is_overloaded():
        return sum(writer.appends for writer in writers) * SESSION_BYTES >= 3 * LIMIT_BYTES

    while all(writer.is_alive() for writer in writers):
        if time.monotonic() - start > (OVERLOAD_SECONDS if is_overloaded() else HANG_SECONDS):
            break
        rss_bytes.append(daemon.rss_bytes())
        used_bytes.append(connection.stats().used_bytes)
        time.sleep(0.02)
    ended.set()
    for writer in writers:
        writer.join(LONG_MS / 1000)
        assert writer.fault is None and not writer.is_alive(), writer.fault
    refusals = [error for writer in writers for error in writer.refusals]
    assert is_overloaded()
    assert refusals and all(error.name == "full" and error.retryable for error in refusals)
    assert max(rss_bytes) <= 1.1 * LIMIT_BYTES + RSS_SLACK_BYTES
    assert max(used_bytes) <= LIMIT_BYTES
    for writer in writers:
        assert_all_hold(connection, writer.accepted)
