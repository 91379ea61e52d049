"""TLS with clients that stop, drip, do not read or never end: what they hold is free again, and others are served."""

import socket
import threading

import pytest
from tls_handshake import Handshake, Libssl
from tls_support import TlsDaemon
from wire import DATA, FETCH, HELLO, INFO, REPLY, Closed, Connection, Geometry, Refused, encode, frame
from wire_support import SMALL, append, assert_holds, bits, stored, wait_until

SHORT = "100ms"  # set once the clients are where they are to stop
WIDE = Geometry(layers=8, heads=8, head_dim_k=64, head_dim_v=64)


@pytest.fixture
def tls(start_daemon, tmp_path):
    return TlsDaemon(start_daemon, tmp_path, config="idle_timeout = never\n")


@pytest.fixture
def local(tls):
    with Connection(tls.daemon.socket) as connection:
        yield connection


def shorten(tls):
    tls.change(tls.config + f"stall_timeout = {SHORT}\n")


def assert_alone(local):
    wait_until(lambda: local.stats().connections == 1)


def hello():
    return frame(HELLO, 1, encode("HelloRequest", version_min=1, version_max=1))


def flights(tls):
    """What a client sends until it is through, the last of it as one."""
    with Handshake(tls.address, tls.context()) as client:
        sent = [client.flight()]
        client.socket.sendall(sent[0])
        return [*sent, client.flight()]


def test_a_handshake_that_breaks_off_at_any_byte_leaves_nothing(tls, local):
    first, last = flights(tls)
    used = local.stats().used_bytes - local.stats().memory.warm_bytes
    context = tls.context()
    for count in range(len(first)):
        with socket.create_connection(tls.address.split(":")) as client:
            client.sendall(first[:count])
            client.shutdown(socket.SHUT_WR)
    for count in range(0, len(last), 23):
        with Handshake(tls.address, context) as client:
            client.socket.sendall(client.flight())
            client.socket.sendall(client.flight()[:count])
            client.socket.shutdown(socket.SHUT_WR)
    assert_alone(local)
    wait_until(lambda: local.stats().used_bytes - local.stats().memory.warm_bytes <= used)
    tls.connect_tls().close()


@pytest.mark.parametrize("flight, count", [(0, 0), (0, 1), (0, 100), (1, 0), (1, 5), (1, 200)])
def test_a_client_that_stops_in_its_handshake_is_closed(tls, local, flight, count):
    with Handshake(tls.address, tls.context()) as client:
        for _ in range(flight):
            client.socket.sendall(client.flight())
        client.socket.sendall(client.flight()[:count])
        shorten(tls)
        assert_alone(local)
        assert local.stats().connections_stalled == 1


def test_a_refused_client_that_stays_is_closed(tls, local):
    with Handshake(tls.address, tls.context()) as client:
        client.socket.sendall(b"KVQ1" * 100)
        wait_until(lambda: "TLS handshake failed" in tls.log())
        shorten(tls)
        assert_alone(local)


def test_a_client_that_says_no_hello_after_its_handshake_is_closed(tls, local):
    with tls.connect_tls(hello=False):
        shorten(tls)
        assert_alone(local)


@pytest.mark.parametrize("is_greeted", [False, True])
def test_a_client_that_stays_in_the_middle_of_a_record_is_closed(tls, local, is_greeted):
    with Handshake(tls.address, tls.context()) as client:
        client.finish()
        if is_greeted:
            client.socket.sendall(client.record(hello()))
            client.socket.recv(1)
        client.socket.sendall(client.record(bytes(100))[:-1])
        shorten(tls)
        assert_alone(local)
        assert local.stats().connections_stalled == 1


def test_a_client_between_its_requests_has_all_the_time_it_wants(tls, local):
    with tls.connect_tls() as patient, tls.connect_tls(hello=False):
        shorten(tls)
        wait_until(lambda: local.stats().connections == 2)  # so the time is over
        patient.ping()


def test_records_of_a_byte_make_a_frame_like_any(tls):
    with Handshake(tls.address, tls.context()) as client:
        client.finish()
        for byte in hello():
            client.socket.sendall(client.record(bytes([byte])))
        assert client.socket.recv(1)


def test_what_is_no_record_after_the_handshake_ends_the_connection(tls, local):
    with Handshake(tls.address, tls.context()) as client:
        client.finish()
        client.socket.sendall(client.record(hello()))
        spoilt = bytearray(client.record(frame(INFO, 2, encode("InfoRequest", session=b"chat"))))
        spoilt[-1] ^= 1
        client.socket.sendall(spoilt)
        assert_alone(local)


def test_a_client_that_goes_away_in_any_manner_is_gone(tls, local):
    for leave in (lambda one: one.close(), lambda one: one.shutdown(socket.SHUT_WR),
                  lambda one: one.unwrap(), lambda one: one.shutdown(socket.SHUT_RDWR)):
        connection = tls.connect_tls()
        leave(connection.socket)
        assert_alone(local)
        connection.close()


def test_a_client_that_does_not_read_is_closed_and_holds_up_nobody(tls, local):
    with tls.connect_tls() as slow, tls.connect_tls() as other:
        stored(other, b"chat", WIDE, 2000)
        for _ in range(8):
            slow.request(FETCH, "FetchRequest", session=b"chat")
        assert_holds(*stored(other, b"other", SMALL, 200))
        shorten(tls)
        wait_until(lambda: local.stats().connections == 2)
        assert local.stats().connections_stalled == 1
        assert other.list().sessions


def test_a_client_that_reads_late_gets_all_of_it(tls):
    with tls.connect_tls() as connection:
        session, arrays = stored(connection, b"chat", WIDE, 1000)
        open_ids = {connection.request(FETCH, "FetchRequest", session=b"chat") for _ in range(4)}
        while open_ids:
            got = connection.receive()
            assert got.type in (DATA, REPLY)
            open_ids -= {got.request_id} if got.type == REPLY else set()
        assert_holds(session, arrays)


def test_what_waits_for_memory_is_read_on_once_there_is_room(start_daemon, tmp_path):
    """All that the client sends is there, deciphered in part, before the wait is over; nothing comes to wake it."""
    tls = TlsDaemon(start_daemon, tmp_path, memory="64M", config="append_wait = 600s\n")
    with Connection(tls.daemon.socket) as local, tls.connect_tls("admin") as client:
        with pytest.raises(Refused, match="full"):
            for number in range(1000):
                session = local.open(b"%d" % number, geometry=WIDE, level=-2)
                append(session, bits(WIDE, 128), wait_ms=1)
                local.pin(b"%d" % number, 10_000_000)
        arrays = bits(WIDE, 300)
        session = client.open(b"chat", geometry=WIDE, level=-2)
        thread = threading.Thread(target=append, args=(session, arrays))
        thread.start()
        wait_until(lambda: local.stats().appends_waiting)
        for number in range(4):
            local.delete(b"%d" % number)
        thread.join()
        assert_holds(session, arrays)


# --- changing keys ---


def libssl(tls):
    client = Connection.__new__(Connection)
    client.socket, client.token = Libssl(tls.address, tls.authority, tls.authority.client()), b""
    client.request_ids = iter(range(1, 10_000))
    client.hello()
    return client


def test_keys_may_change_at_any_time(tls):
    with libssl(tls) as client:
        for number in range(5):
            assert client.socket.change_keys()
            assert_holds(*stored(client, b"%d" % number, SMALL, 50))


def test_a_client_that_changes_keys_all_the_time_is_closed(tls, local):
    with libssl(tls) as client:
        changes = 0
        while client.socket.change_keys() and is_answered(client):
            changes += 1
            assert changes < 2000
    assert_alone(local)
    assert "changes its keys all the time" in tls.log()


def is_answered(client):
    try:
        client.ping()
        return True
    except Closed:
        return False
