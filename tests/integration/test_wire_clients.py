"""Clients that go away, or never read: nothing of theirs stays, and others do not notice."""

import socket
import time

import pytest
from conftest import RSS_SLACK_BYTES
from wire import F32, FETCH, HELLO, INFO, STATS, Connection, Refused, encode, frame
from wire_support import (SMALL, TINY, WIDE, append, assert_holds, assert_serves, begun_fetch,  # noqa: F401
                          bits, connection, large, packed, refused, stored, wait_until)


def used_bytes(connection):
    return connection.stats().used_bytes


def half_an_append(daemon, name, pieces_sent):
    """A connection in the middle of an append of 1,024 tokens to a session that exists."""
    writer = Connection(daemon.socket)
    session = writer.open(name, geometry=WIDE)
    kv = packed(bits(WIDE, 1024))
    request_id = session.begin(1024)
    for piece in list(session.pieces(1024))[:pieces_sent]:
        session.send_piece(request_id, kv, piece)
    writer.ping()
    return writer


@pytest.mark.parametrize("pieces_sent", [0, 1, 16, 17, 100, 128])
def test_a_client_that_dies_in_an_append_leaves_nothing(daemon, connection, pieces_sent):
    session = connection.open(b"chat", geometry=WIDE, level=-2)
    half_an_append(daemon, b"chat", pieces_sent).close()
    wait_until(lambda: connection.stats().connections == 1)
    before = used_bytes(connection)
    writer = half_an_append(daemon, b"chat", pieces_sent)
    assert connection.info(b"chat").tokens == 0
    writer.close()
    wait_until(lambda: used_bytes(connection) == before)
    arrays = bits(WIDE, 200, seed=3)
    append(session, arrays)
    assert_holds(session, arrays)


def test_a_client_that_dies_in_an_append_to_what_is_there_leaves_it_as_it_was(daemon, connection):
    session, arrays = stored(connection, b"chat", WIDE, 200)
    half_an_append(daemon, b"other", 3).close()
    wait_until(lambda: connection.stats().connections == 1)
    before = used_bytes(connection)
    with Connection(daemon.socket) as writer:
        other = writer.open(b"chat", geometry=WIDE)
        request_id = other.begin(1024)
        kv = packed(bits(WIDE, 1024, seed=7))
        for piece in list(other.pieces(1024))[:40]:
            other.send_piece(request_id, kv, piece)
        writer.ping()
    wait_until(lambda: used_bytes(connection) == before)
    assert connection.info(b"chat").version == session.version
    assert_holds(session, arrays)


def test_a_second_writer_may_proceed_once_the_first_has_died(daemon, connection):
    session = connection.open(b"chat", geometry=WIDE, level=-2)
    writer = half_an_append(daemon, b"chat", 20)
    arrays = bits(WIDE, 150, seed=5)
    request_id = session.begin(150)
    with refused("busy"):
        connection.answer(request_id, "AppendReply")
    connection.cancel(request_id)
    writer.close()

    def accepted():
        try:
            append(session, arrays)
        except Refused as error:
            assert error.name == "busy"
            return False
        return True

    wait_until(accepted)
    assert_holds(session, arrays)


def test_a_hundred_clients_that_die_in_an_append_leave_no_memory_behind(daemon, connection):
    connection.open(b"chat", geometry=WIDE)
    half_an_append(daemon, b"chat", 39).close()
    wait_until(lambda: connection.stats().connections == 1)
    before = used_bytes(connection)
    for pieces_sent in range(0, 100):
        wait_until(lambda: used_bytes(connection) == before)
        half_an_append(daemon, b"chat", pieces_sent % 40).close()
    wait_until(lambda: used_bytes(connection) == before)
    wait_until(lambda: connection.stats().connections == 1)


def test_clients_that_die_in_a_fetch_leave_no_memory_behind(daemon, connection, large):  # noqa: F811
    with Connection(daemon.socket) as reader:
        begun_fetch(reader)
    wait_until(lambda: connection.stats().connections == 1)
    before = used_bytes(connection)
    for _ in range(20):
        with Connection(daemon.socket) as reader:
            begun_fetch(reader)
    wait_until(lambda: connection.stats().connections == 1)
    wait_until(lambda: used_bytes(connection) == before)
    assert_serves(daemon)


def test_a_client_that_dies_with_requests_unread_harms_nothing(daemon):
    for _ in range(50):
        with Connection(daemon.socket, hello=False) as raw:
            raw.send(frame(HELLO, 1, encode("HelloRequest", version_min=1, version_max=1)))
            raw.send(b"".join(frame(STATS, request_id) for request_id in range(2, 22)))
    assert_serves(daemon)


def test_clients_that_never_read_a_fetch_do_not_hold_up_others(daemon, connection, large):  # noqa: F811
    before = daemon.rss_bytes()
    readers = [Connection(daemon.socket) for _ in range(20)]
    for reader in readers:
        reader.request(FETCH, "FetchRequest", session=b"large", dtype=F32)
    start = time.monotonic()
    for number in range(20):
        assert_holds(*stored(connection, b"%d" % number, SMALL, 20))
    assert time.monotonic() - start < 20
    stats = connection.stats()
    assert stats.used_bytes <= stats.limit_bytes
    assert daemon.rss_bytes() <= max(before, 1.1 * stats.limit_bytes + RSS_SLACK_BYTES)
    for reader in readers:
        reader.close()


def test_a_client_that_begins_fetches_and_never_reads_takes_bounded_memory(daemon, connection, large):  # noqa: F811
    before = used_bytes(connection)
    with Connection(daemon.socket) as reader:
        for _ in range(reader.limits.requests_max):
            reader.request(FETCH, "FetchRequest", session=b"large", dtype=F32)
        assert_serves(daemon)
        assert used_bytes(connection) - before <= 32 << 20


@pytest.mark.memory("64M")
def test_a_client_that_sends_requests_and_never_reads_the_answers_is_not_buffered_for(daemon, connection):
    stored(connection, b"chat", TINY, 10)
    with Connection(daemon.socket) as deaf:
        deaf.socket.settimeout(1)
        before = daemon.rss_bytes()
        control = encode("InfoRequest", session=b"chat")
        info = b"".join(frame(INFO, request_id, control) for request_id in range(1, 1001))
        sent = 0
        with pytest.raises((TimeoutError, socket.timeout)):
            while sent < 64 << 20:
                sent += deaf.socket.send(info)
        assert_serves(daemon)
        assert daemon.rss_bytes() <= max(before + (16 << 20), 1.1 * (64 << 20) + RSS_SLACK_BYTES)


def test_a_client_that_stays_in_the_middle_of_a_frame_does_not_hold_up_others(daemon):
    waiting = [Connection(daemon.socket) for _ in range(30)]
    for number, client in enumerate(waiting):
        client.send(frame(INFO, 1, encode("InfoRequest", session=b"chat"))[:number + 1])
    assert_serves(daemon)
    for client in waiting:
        client.close()


def test_a_slow_reader_gets_everything(daemon, connection):
    session, arrays = stored(connection, b"chat", WIDE, 256)
    with Connection(daemon.socket) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        receive = slow.receive_bytes

        def slowly(count):
            time.sleep(0.002)
            return receive(count)

        slow.receive_bytes = slowly
        assert_holds(slow.open(b"chat", geometry=WIDE), arrays)


def test_a_burst_of_connections_is_served(daemon):
    clients = [Connection(daemon.socket, hello=False) for _ in range(400)]
    for client in clients:
        client.hello()
    for client in clients:
        client.close()


def test_two_hundred_connections_are_served(daemon, connection):
    clients = [Connection(daemon.socket) for _ in range(200)]
    assert connection.stats().connections == 201
    for client in clients:
        client.ping()
    for client in clients:
        client.close()
    wait_until(lambda: connection.stats().connections == 1)
