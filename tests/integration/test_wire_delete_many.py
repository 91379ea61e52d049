"""DELETE_MANY: sessions by name, model, idleness and age; and what long deletions leave alone."""

import threading
import time

import pytest
from conftest import SLOWNESS
from wire import CANCEL, DELETE, DELETE_MANY, Connection, frame
from wire_support import SMALL, TINY, append, bits, connection, refused, stored, wait_until  # noqa: F401


def names(connection):
    found, after = [], 0
    while True:
        page = connection.list(after_id=after)
        found += [entry.session for entry in page.sessions]
        if not page.more:
            return found
        after = page.sessions[-1].id


@pytest.fixture
def some(connection):
    for name in (b"chat/1", b"chat/2", b"rag/1"):
        stored(connection, name, TINY, 5)
    session = connection.open(b"chat/3", model=b"other", geometry=TINY, level=-2)
    append(session, bits(TINY, 5))


@pytest.mark.parametrize("conditions, left", [
    ({"prefix": b"chat/"}, [b"rag/1"]),
    ({"prefix": b"chat/1"}, [b"chat/2", b"rag/1", b"chat/3"]),
    ({"prefix": b"chat/111"}, [b"chat/1", b"chat/2", b"rag/1", b"chat/3"]),
    ({"model": b"other"}, [b"chat/1", b"chat/2", b"rag/1"]),
    ({"model": b"other", "prefix": b"rag"}, [b"chat/1", b"chat/2", b"rag/1", b"chat/3"]),
    ({"age_ms": 1 << 40}, [b"chat/1", b"chat/2", b"rag/1", b"chat/3"]),
    ({"idle_ms": 1 << 63}, [b"chat/1", b"chat/2", b"rag/1", b"chat/3"]),
])
def test_what_meets_every_condition_is_deleted(connection, some, conditions, left):
    dry = connection.delete_many(**conditions, dry_run=True)
    assert len(names(connection)) == 4
    before = connection.stats().used_bytes
    reply = connection.delete_many(**conditions)
    assert names(connection) == left
    assert (reply.sessions, reply.freed_bytes) == (4 - len(left), dry.freed_bytes)
    assert dry.sessions == reply.sessions
    assert connection.stats().used_bytes == before - reply.freed_bytes


def test_idle_is_what_was_not_used_and_age_counts_from_the_beginning(connection, some):
    time.sleep(2.1)
    assert connection.delete_many(idle_ms=2000, dry_run=True).sessions == 4
    connection.open(b"chat/1", geometry=TINY)
    connection.fetch(b"chat/2")
    connection.fork(b"rag/1", b"new")
    connection.truncate(b"chat/3", 1)
    assert connection.delete_many(idle_ms=2000).sessions == 0
    assert connection.delete_many(age_ms=2000).sessions == 4
    assert names(connection) == [b"new"]


def test_pinned_sessions_stay_unless_they_are_meant(connection, some):
    connection.pin(b"chat/1", 60000)
    assert connection.delete_many(prefix=b"chat").sessions == 2
    assert names(connection) == [b"chat/1", b"rag/1"]
    assert connection.delete_many(prefix=b"chat", pinned_too=True).sessions == 1


@pytest.mark.parametrize("conditions", [{}, {"pinned_too": True}, {"dry_run": True}, {"prefix": bytes(256)},
                                        {"model": b"\n"}])
def test_what_delete_many_refuses(connection, some, conditions):
    with refused("invalid"):
        connection.delete_many(**conditions)
    assert len(names(connection)) == 4


def test_shared_chunks_are_freed_with_the_last_session_that_lets_go_of_them(connection):
    stored(connection, b"a", tokens=2000, settle=True)
    connection.fork(b"a", b"b")
    whole = connection.info(b"a").stored_bytes
    assert connection.delete(b"a").freed_bytes < 5000
    assert connection.delete_many(prefix=b"b").freed_bytes > whole - 5000


def test_thousands_of_sessions_are_deleted(connection):
    for number in range(3000):
        connection.request(3, "OpenRequest", session=b"%d" % number, model=b"model", geometry=TINY)
        connection.receive()
    assert connection.delete_many(prefix=b"1").sessions == 1111
    assert connection.stats().sessions == 1889
    assert len(names(connection)) == 1889
    connection.delete_many(model=b"model")
    assert names(connection) == []


@pytest.fixture
def one_reactor(start_daemon, tmp_path):
    config = tmp_path / "kvquantd.conf"
    config.write_text("reactors = 1\n")
    return start_daemon(memory="512M", arguments=["--config", str(config)])


def longest_ping(path, work):
    """Seconds that a ping took at most while work() ran elsewhere."""
    longest, done = 0.0, threading.Event()
    worker = threading.Thread(target=lambda: (work(), time.sleep(0.05), done.set()))
    with Connection(path) as pinger:
        worker.start()
        while not done.is_set():
            start = time.monotonic()
            pinger.ping()
            longest = max(longest, time.monotonic() - start)
    worker.join()
    return longest


def many_chunks(client, name, chunks=7000):
    session = client.open(name, geometry=TINY, level=-2)
    append(session, bits(TINY, 128 * chunks), settle=True)
    return session


@pytest.mark.parametrize("operation", ["delete", "truncate", "delete_many", "fork", "age", "lost"])
def test_a_neighbour_is_served_while_thousands_of_chunks_are_worked_on(one_reactor, operation):
    """One of several tries must show it: the machine may have other work, too."""
    def worst(number):
        name = b"%d" % number
        with Connection(one_reactor.socket) as client:
            client.delete_many(model=b"model")
            session = many_chunks(client, name)
            if operation == "lost":
                request_id, arrays = session.begin(128 * 7000), [[bytes(128 * 7000 * 16)]] * 2
                for offset, *rest in session.pieces(128 * 7000):
                    session.send_piece(request_id, arrays, (offset, *rest))
                client.ping()
            return longest_ping(one_reactor.socket, {
                "delete": lambda: client.delete(name),
                "truncate": lambda: client.truncate(name, 100),
                "delete_many": lambda: client.delete_many(prefix=name),
                "fork": lambda: client.fork(name, b"fork of " + name),
                "age": lambda: client.age(name, 3, settle=False),
                "lost": client.close,
            }[operation])

    assert any(worst(number) < 0.01 * SLOWNESS for number in range(20))
    with Connection(one_reactor.socket) as other:
        other.delete_many(model=b"model")
        wait_until(lambda: other.stats().memory.pages_bytes == 0)


def test_what_a_lost_connection_began_to_delete_is_freed(one_reactor):
    with Connection(one_reactor.socket) as other:
        other.open(b"first", geometry=TINY)
        before = other.stats().used_bytes
        with Connection(one_reactor.socket) as client:
            many_chunks(client, b"a")
            client.request(DELETE, "DeleteRequest", session=b"a")
        wait_until(lambda: other.stats().used_bytes <= before + 4096)
        assert names(other) == [b"first"]


def test_a_cancelled_deletion_in_bulk_leaves_whole_sessions(connection):
    for number in range(300):
        stored(connection, b"%d" % number, SMALL, 200)
    request_id = connection.request(DELETE_MANY, "DeleteManyRequest", model=b"model")
    connection.send(frame(CANCEL, request_id))
    connection.receive()
    for name in names(connection):
        assert connection.info(name).tokens == 200


def test_a_page_of_the_list_is_short_where_sessions_are_long(one_reactor):
    with Connection(one_reactor.socket) as client:
        for number in range(3):
            many_chunks(client, b"%d" % number, 5000)
        page = client.list()
        assert (len(page.sessions), bool(page.more)) == (2, True)
        assert names(client) == [b"0", b"1", b"2"]
