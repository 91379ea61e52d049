"""CONTROL: drain, read-only and back, and another memory limit, while the daemon serves."""

import threading

import pytest
from config_support import Reloading
from conftest import RSS_SLACK_BYTES, Command
from wire import DRAINED, EXACT, NORMAL, OPEN_EXISTING, OPEN_NEW, READ_ONLY, Connection
from wire_support import (TINY, WIDE, append, assert_holds, bits, connection, refused, stored,  # noqa: F401
                          wait_until)


def changes(connection):
    """What changes a session "chat" that there is, by name."""
    return {
        "truncate": lambda: connection.truncate(b"chat", 5),
        "age": lambda: connection.age(b"chat", 3),
        "policy": lambda: connection.call(17, "Policy", session=b"chat"),
        "delete_many": lambda: connection.delete_many(prefix=b"ch", dry_run=True),
        "delete": lambda: connection.delete(b"chat"),
    }


def assert_takes_nothing_new(connection, session):
    with refused("read_only"):
        append(session, bits(TINY, 1))
    with refused("read_only"):
        connection.fork(b"chat", b"other")
    for mode in (0, OPEN_NEW):
        with refused("read_only"):
            connection.open(b"new", geometry=TINY, mode=mode)


def test_a_drained_daemon_serves_what_it_has_and_takes_nothing_new(connection):
    session, arrays = stored(connection, b"chat", TINY, 10)
    assert connection.control(state=DRAINED).state == DRAINED
    assert_takes_nothing_new(connection, session)
    assert_holds(connection.open(b"chat", geometry=TINY), arrays)
    connection.pin(b"chat", 1000)
    for change in changes(connection).values():
        change()
    with refused("miss"):
        connection.open(b"chat", geometry=TINY, mode=OPEN_EXISTING)


def test_read_only_nothing_changes_but_pins(connection):
    session, arrays = stored(connection, b"chat", TINY, 10)
    connection.control(state=READ_ONLY)
    assert_takes_nothing_new(connection, session)
    for change in changes(connection).values():
        with refused("read_only"):
            change()
    connection.pin(b"chat", 1000)
    assert_holds(connection.open(b"chat", geometry=TINY), arrays)


@pytest.mark.parametrize("state", [DRAINED, READ_ONLY])
def test_an_append_that_began_before_is_finished(daemon, connection, state):
    session = connection.open(b"chat", geometry=TINY, level=EXACT)
    arrays = bits(TINY, 5)
    kv = tuple([layer.tobytes() for layer in part] for part in arrays)
    request_id = session.begin(5)
    with Connection(daemon.socket) as operator:
        wait_until(lambda: {row.operation: row.requests for row in operator.stats().operations}["append"] == 1)
        operator.control(state=state)
    for piece in session.pieces(5):
        session.send_piece(request_id, kv, piece)
    assert session.commit(request_id).tokens == 5


def test_normal_ends_both(connection):
    session, _ = stored(connection, b"chat", TINY, 10)
    for state in (DRAINED, READ_ONLY):
        connection.control(state=state)
        assert connection.stats().state == state
        assert connection.control(state=NORMAL).state == NORMAL
        append(session, bits(TINY, 1))


def test_with_nothing_given_control_only_asks(connection):
    connection.control(state=READ_ONLY)
    reply, stats = connection.control(), connection.stats()
    assert (reply.state, reply.limit_bytes) == (READ_ONLY, 256 << 20)
    assert reply.used_bytes == pytest.approx(stats.used_bytes, rel=0.01)


def test_a_state_that_is_none_is_invalid_and_changes_nothing(connection):
    with refused("invalid"):
        connection.control(state=4, limit_bytes=128 << 20)
    assert (connection.control().state, connection.control().limit_bytes) == (NORMAL, 256 << 20)


def filled(connection, count):
    """So many sessions of 2 MiB of noise; their numbers that are whole."""
    for number in range(count):
        append(connection.open(b"%d" % number, geometry=WIDE, level=EXACT), bits(WIDE, 256, number),
               wait_ms=60000)
    return connection.stats().sessions


def test_a_lower_limit_is_reached_by_eviction_and_holds(daemon, connection):
    assert filled(connection, 80) == 80
    connection.pin(b"0", 60000)
    reply = connection.control(limit_bytes=64 << 20)
    assert reply.limit_bytes == 64 << 20 < reply.used_bytes
    wait_until(lambda: connection.stats().used_bytes <= 64 << 20)
    wait_until(lambda: daemon.rss_bytes() <= 1.1 * (64 << 20) + RSS_SLACK_BYTES)
    assert connection.stats().pressure.evicted_tokens > 0
    assert_holds(connection.open(b"0", geometry=WIDE), bits(WIDE, 256, 0))
    append(connection.open(b"new", geometry=WIDE, level=EXACT), bits(WIDE, 256, 1), wait_ms=60000)
    assert connection.stats().used_bytes <= 64 << 20


@pytest.mark.memory("64M")
def test_a_higher_limit_holds_more(connection):
    connection.control(limit_bytes=128 << 20)
    assert filled(connection, 40) == 40
    assert connection.stats().pressure.evicted_tokens == 0


@pytest.mark.memory("64M")
@pytest.mark.parametrize("limit_bytes", [1, 16 << 20, 129 << 20, 2**63, 2**64 - 1])
def test_a_limit_that_cannot_be_is_invalid_and_changes_nothing(connection, limit_bytes):
    with refused("invalid"):
        connection.control(limit_bytes=limit_bytes)
    assert connection.stats().limit_bytes == 64 << 20


def test_an_append_that_waits_goes_on_under_a_higher_limit(start_daemon):
    daemon = start_daemon(memory="64M")
    with Connection(daemon.socket) as connection, Connection(daemon.socket) as operator:
        session = connection.open(b"large", geometry=WIDE, level=EXACT)
        stats = operator.stats()
        tokens = (stats.limit_bytes - stats.memory.fixed_bytes) * 11 // 10 // 8192  # a little too many
        arrays = bits(WIDE, tokens)
        writer = threading.Thread(target=lambda: append(session, arrays, wait_ms=60000))
        writer.start()
        wait_until(lambda: operator.stats().appends_waiting == 1)
        operator.control(limit_bytes=128 << 20)
        writer.join(60)
        assert session.tokens == tokens


def test_a_reload_changes_the_limit(start_daemon, tmp_path):
    reloading = Reloading(start_daemon, tmp_path / "test.conf", "memory = 64M\n", memory=None)
    with Connection(reloading.daemon.socket) as connection:
        reloading.change("memory = 128M\n")
        wait_until(lambda: connection.stats().limit_bytes == 128 << 20)
        reloading.change("memory = 1G\n")
        wait_until(lambda: "memory can be from" in reloading.log())
        assert connection.stats().limit_bytes == 128 << 20


def test_the_command_drains_and_sets_the_limit(daemon, connection):
    kvq = Command(daemon.socket)
    stored(connection, b"chat", TINY, 5)
    assert "is drained" in kvq("control", "drain").stdout
    assert "attention   the daemon is drained" in kvq("status").stdout
    result = kvq("fork", "chat", "other")
    assert result.returncode == 1 and "drained" in result.stderr
    result = kvq.json("control", "normal", "--memory", "128M")
    assert (result["state"], result["limit_bytes"]) == ("normal", 128 << 20)
    assert "is normal" in kvq("control").stdout
    assert kvq("control", "sleep").returncode == 2
    assert kvq("control", "--memory", "1K").returncode == 1
