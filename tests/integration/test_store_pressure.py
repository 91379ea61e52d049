"""When memory runs short: the coldest sessions lose their newest tokens, what is left is a hit and says how
long it is, and the limit holds."""

import contextlib
import random
import threading
import time

import pytest
from config_support import Reloading
from conftest import RSS_SLACK_BYTES, Command
from wire import EXACT, Connection, Refused
from wire_support import (WIDE, append, assert_holds, bits, connection, gaussian_bits, packed,  # noqa: F401
                          refused, wait_until)

LIMIT_BYTES = 64 << 20
TOKENS = 300
SESSION_BYTES = TOKENS * 8192
LONG_TOKENS = 1000  # several times what goes at once, from the high mark to the low one
LONG = 1000  # the number of the session that has so many
SESSIONS = 2 * LIMIT_BYTES // SESSION_BYTES
IDLE_SECONDS = 1.1  # what was used since then goes only for appends that wait
OVERLOAD_SECONDS = 3
HANG_SECONDS = 1800
LONG_MS = 60000  # nothing here takes so long

pytestmark = pytest.mark.memory("64M")


def store(connection, number, tokens=TOKENS, **fields):
    """Appends what bits(number) gives to a session of that name."""
    session = connection.open(b"%d" % number, geometry=WIDE, level=EXACT)
    append(session, bits(WIDE, tokens, number), **fields)
    return session


def listed(connection):
    sessions, more = [], True
    while more:
        page = connection.list(after_id=sessions[-1].id if sessions else 0)
        sessions, more = sessions + page.sessions, page.more
    return sessions


def lengths(connection):
    """(tokens, tokens_available) of every session by its number."""
    return {int(info.session): (info.tokens, info.tokens_available) for info in listed(connection)}


def assert_prefix_holds(connection, number, available):
    """All that is left of the session is bit for bit what was accepted."""
    session = connection.open(b"%d" % number, geometry=WIDE)
    assert session.tokens == available
    assert_holds(session, tuple(part[:, :available] for part in bits(WIDE, TOKENS, number)))


def overfill(connection):
    """Twice the limit, one session after the other; their lengths when all are idle."""
    for number in range(SESSIONS):
        store(connection, number, wait_ms=LONG_MS)
    return idle_lengths(connection)


def idle_lengths(connection):
    time.sleep(IDLE_SECONDS)
    wait_until(lambda: share_used(connection) < 0.92)
    return lengths(connection)


def share_used(connection):
    """Of what the limit leaves to sessions."""
    stats = connection.stats()
    fixed = stats.memory.fixed_bytes
    return (stats.used_bytes - fixed) / (stats.limit_bytes - fixed)


def shortened(connection):
    """How many tokens are left of a long session that has lost some of them and not all, and is pinned."""
    store(connection, LONG, LONG_TOKENS)
    for number in range(SESSIONS):
        store(connection, number, wait_ms=LONG_MS)
        if connection.info(b"%d" % LONG).tokens_available < LONG_TOKENS:
            connection.pin(b"%d" % LONG, 3600000)
            return connection.info(b"%d" % LONG).tokens_available
    raise AssertionError("it is whole")


def test_appends_at_the_limit_are_served_and_what_is_left_is_exact(connection):
    left = overfill(connection)
    assert len(left) < SESSIONS and SESSIONS - 1 in left
    for number, (tokens, available) in left.items():
        assert tokens == TOKENS and available > 0
        assert_prefix_holds(connection, number, available)


def test_most_of_the_memory_stays_in_use(connection):
    overfill(connection)
    stats = connection.stats()
    for_sessions = stats.limit_bytes - stats.memory.fixed_bytes
    assert stats.unique_bytes > 0.75 * for_sessions


def test_the_oldest_of_those_that_nobody_reads_go_first(connection):
    left = sorted(overfill(connection))
    assert left == list(range(left[0], SESSIONS))


def test_what_is_read_again_stays_while_others_pass(connection):
    for number in range(3):
        store(connection, number)
    for number in range(10, 10 + SESSIONS):
        store(connection, number, wait_ms=LONG_MS)
        if number % 8 == 0:
            for resumed in range(3):
                assert connection.fetch(b"%d" % resumed)[1].tokens == TOKENS
    assert not {0, 1, 2} - set(lengths(connection))


def test_a_pinned_session_stays(connection):
    store(connection, 1000)
    connection.pin(b"1000", 3600000)
    overfill(connection)
    assert_prefix_holds(connection, 1000, TOKENS)


def test_beyond_what_is_left_a_fetch_is_a_miss_that_says_how_much_there_is(connection):
    available, name = shortened(connection), b"%d" % LONG
    with refused("miss") as caught:
        connection.fetch(name, end=LONG_TOKENS)
    assert caught.value.tokens == available
    assert str(available) in caught.value.message
    assert connection.fetch(name, end=available)[1].tokens == available


def test_an_append_continues_at_what_is_left(connection):
    available, name = shortened(connection), b"%d" % LONG
    arrays = bits(WIDE, LONG_TOKENS, LONG)
    session = connection.open(name, geometry=WIDE)
    rest = tuple(part[:, available:] for part in arrays)
    with refused("wrong_first") as caught:
        session.begin(5, first=LONG_TOKENS)
        connection.answer(connection.request_ids.__next__() - 1, "AppendReply")
    assert caught.value.tokens == available and f"{LONG_TOKENS}" in caught.value.message
    append(session, rest, wait_ms=LONG_MS)
    info = connection.info(name)
    assert info.tokens == info.tokens_available == LONG_TOKENS
    assert_holds(session, arrays)


def test_the_command_says_how_much_is_left(daemon, connection):
    available = shortened(connection)
    kvq = Command(daemon.socket)
    assert f"of which {available} are there" in kvq("info", LONG).stdout
    result = kvq("export", LONG, "/dev/null", "--tokens", f"0:{LONG_TOKENS}")
    assert result.returncode == 3 and str(available) in result.stderr


def test_each_stage_is_counted(daemon, connection):
    overfill(connection)
    pressure = connection.stats().pressure
    assert pressure.rounds > 0 and pressure.refused == 0
    assert pressure.evicted_tokens >= pressure.evicted_sessions > 0
    assert pressure.evicted_bytes > LIMIT_BYTES / 2
    assert 0 < pressure.deleted_sessions <= pressure.evicted_sessions
    page = Command(daemon.socket)("status").stdout
    assert f"{pressure.deleted_sessions:,} sessions whole" in page


def test_above_the_high_mark_idle_sessions_go_before_anybody_waits(start_daemon, tmp_path):
    reloading = Reloading(start_daemon, tmp_path / "test.conf", memory="64M")
    with Connection(reloading.daemon.socket) as connection:
        for number in range(11):
            store(connection, number)
        assert share_used(connection) > 0.5
        assert "memory_low 88 -> 40" in reloading.reload("memory_high = 50\nmemory_low = 40\n")
        store(connection, 11)
        wait_until(lambda: share_used(connection) <= 0.41)
        assert connection.stats().errors == []
        assert 11 in lengths(connection)


def test_an_append_that_no_eviction_makes_room_for_costs_nobody_a_token(connection):
    for number in range(5):
        store(connection, number)
    with refused("too_large"):
        store(connection, 1000, tokens=12_000)  # one and a half times the limit
    connection.delete(b"1000")
    assert lengths(connection) == {number: (TOKENS, TOKENS) for number in range(5)}
    assert connection.stats().pressure.evicted_tokens == 0


def test_forks_that_share_all_are_evicted_when_an_append_waits(connection):
    store(connection, 1000)
    for number in range(40):
        connection.fork(b"1000", b"%d" % (2000 + number))
    overfill(connection)
    assert connection.stats().errors == []


class Client(threading.Thread):
    """Stores, resumes and deletes sessions of its own until told to end; checks every byte it gets."""

    def __init__(self, daemon, first, ended):
        super().__init__()
        self.daemon_under_test, self.next, self.ended = daemon, first, ended
        self.stored, self.bytes, self.refusals, self.fault = {}, 0, [], None
        self.generator = random.Random(first)

    def run(self):
        try:
            with Connection(self.daemon_under_test.socket) as connection:
                while not self.ended.is_set():
                    self.step(connection)
        except BaseException as fault:  # told to the test's own thread
            self.fault = fault

    def step(self, connection):
        self.next += 1
        try:
            self.stored[self.next] = store(connection, self.next, wait_ms=LONG_MS)
            self.bytes += SESSION_BYTES
        except Refused as error:
            self.refusals.append(error)
        number = self.generator.choice(list(self.stored))
        self.resume(number)
        if self.generator.random() < 0.1:
            del self.stored[number]
            with contextlib.suppress(Refused):
                connection.delete(b"%d" % number)

    def resume(self, number):
        """A hit is the beginning of what was accepted; all else is a miss."""
        try:
            (k, _), reply = self.stored[number].fetch()
        except Refused as error:
            assert error.name == "miss", error
            return
        assert k[0] == bits(WIDE, TOKENS, number)[0][0, :reply.tokens].tobytes()


def test_overload_keeps_the_limit_and_every_hit_exact(daemon, connection):
    ended = threading.Event()
    clients = [Client(daemon, 100000 * index, ended) for index in range(1, 5)]
    for client in clients:
        client.start()
    rss_bytes, used_bytes, start = [], [], time.monotonic()

    def is_overloaded():
        return sum(client.bytes for client in clients) >= 3 * LIMIT_BYTES

    while all(client.is_alive() for client in clients):
        if time.monotonic() - start > (OVERLOAD_SECONDS if is_overloaded() else HANG_SECONDS):
            break
        rss_bytes.append(daemon.rss_bytes())
        used_bytes.append(connection.stats().used_bytes)
        time.sleep(0.01)
    ended.set()
    for client in clients:
        client.join(LONG_MS / 1000)
        assert client.fault is None and not client.is_alive(), client.fault
    assert is_overloaded()
    assert {error.name for client in clients for error in client.refusals} <= {"full"}
    assert max(used_bytes) <= LIMIT_BYTES
    assert max(rss_bytes) <= 1.1 * LIMIT_BYTES + RSS_SLACK_BYTES


def test_sessions_are_aged_to_their_floors_before_anybody_loses_tokens(start_daemon, tmp_path):
    config = tmp_path / "kvquantd.conf"
    config.write_text("level = 0\nfloor = 5\nlanding_level = 0\n")
    daemon = start_daemon(memory="64M", arguments=["--config", str(config)])
    tokens = 512
    pages = gaussian_bits(WIDE, tokens)
    with Connection(daemon.socket) as connection:
        for number in range(40):  # more than fits at level 0, and less at level 5
            append(connection.open(b"%d" % number, geometry=WIDE), pages, wait_ms=LONG_MS)
        pressure, left = connection.stats().pressure, lengths(connection)
        assert pressure.aged_sessions > 0 and pressure.aged_bytes > 1 << 20
        assert pressure.evicted_tokens == 0 and connection.stats().errors == []
        assert list(left.values()) == [(tokens, tokens)] * 40
        coldest, warmest = connection.info(b"0"), connection.info(b"39")
        assert coldest.stored_bytes < 0.7 * warmest.stored_bytes


def test_summaries_of_keys_and_recalls_by_them_are_within_the_limit(daemon, connection):
    """At the coarsest level, where summaries take most beside what they are of."""
    tokens, rss_bytes, used_bytes, of_keys, recalls = 512, [], [], [0], 0
    pages = packed(gaussian_bits(WIDE, tokens))
    queries = [(layer, [1.0] * (WIDE.heads * WIDE.head_dim_k)) for layer in range(WIDE.layers)]
    while connection.stats().pressure.evicted_bytes < LIMIT_BYTES / 8 or max(of_keys) <= LIMIT_BYTES / 16:
        assert len(used_bytes) < 1000
        name = b"%d" % len(used_bytes)
        session = connection.open(name, geometry=WIDE, level=5, key_summaries=True)
        session.append(tokens, pages, wait_ms=LONG_MS)
        with contextlib.suppress(Refused):  # for want of memory
            answer = connection.recall_keys(queries, session=name, query_heads=WIDE.heads, k=65536, fetch=True)
            assert answer[1].tokens == tokens * WIDE.layers
            recalls += 1
        rss_bytes.append(daemon.rss_bytes())
        used_bytes.append(connection.stats().used_bytes)
        of_keys.append(sum(info.key_summaries_bytes for info in listed(connection)))
    assert recalls > 0
    assert {row.error for row in connection.stats().errors} <= {"full"}
    assert max(used_bytes) <= LIMIT_BYTES
    assert max(rss_bytes) <= 1.1 * LIMIT_BYTES + RSS_SLACK_BYTES
