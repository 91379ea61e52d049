"""More clients than a daemon is made for, and clients that misbehave: what it costs the others.

`make load` runs this; it prints what it measures.
"""

import socket
import ssl
import time

import pytest
from tls_support import TlsDaemon, context
from wire import APPEND, DELETE, INFO, OPEN, Closed, Connection, Refused, data_frame, encode, frame
from wire_support import LARGE, SMALL, append, assert_holds, bits, wait_until

IDLE = 10_000
IDLE_BYTES_MAX, TLS_IDLE_BYTES_MAX = 8192, 40 << 10
P99_RATIO_MAX = 2
ROUNDS, CALLS = 7, 600


def start(start_daemon, tmp_path, config="", **options):
    path = tmp_path / "test.conf"
    path.write_text(config or "connections = 30000\n")
    return start_daemon(arguments=["--config", path], **options)


def p99_seconds(client, session, arrays):
    """The least of some rounds, which is the daemon's; the rest is the machine's."""
    def round_p99():
        seconds = []
        for _ in range(CALLS):
            begin = time.perf_counter()
            client.info(b"active")
            client.fetch(b"active", end=8)
            seconds.append(time.perf_counter() - begin)
        return sorted(seconds)[CALLS * 99 // 100]
    assert_holds(session, arrays)
    return min(round_p99() for _ in range(ROUNDS))


def held(daemon, client):
    """RSS and what of the limit is used, without memory that is touched ahead."""
    while True:
        warm_bytes = client.stats().memory.warm_bytes
        rss_bytes, used_bytes = daemon.rss_bytes(), client.stats().used_bytes
        if client.stats().memory.warm_bytes == warm_bytes:
            return rss_bytes - warm_bytes, used_bytes - warm_bytes


@pytest.fixture
def active(start_daemon, tmp_path, request):
    """A daemon, a connection, and a session "active" with what it holds."""
    daemon = start(start_daemon, tmp_path, **getattr(request, "param", {}))
    with Connection(daemon.socket) as client:
        session, arrays = client.open(b"active", geometry=SMALL, level=-2), bits(SMALL, 200)
        append(session, arrays, settle=True)
        yield daemon, client, session, arrays


def test_idle_connections_take_little_and_slow_nobody_down(files, active):
    daemon, client, session, arrays = active
    count = min(IDLE, files)
    before = p99_seconds(client, session, arrays)
    wait_until(lambda: client.stats().connections == 1)
    rss, used = held(daemon, client)
    idle = []
    for _ in range(count):
        idle.append(Connection(daemon.socket))
    wait_until(lambda: client.stats().connections == count + 1)
    rss, used = (now - then for now, then in zip(held(daemon, client), (rss, used)))
    during = p99_seconds(client, session, arrays)
    print(f"\n{count} idle connections: {rss / count:.0f} bytes of RSS and {used / count:.0f} of the limit each; "
          f"p99 of INFO and FETCH {before * 1e6:.0f} us without them, {during * 1e6:.0f} us with them")
    assert rss / count <= IDLE_BYTES_MAX and 0 < used / count <= IDLE_BYTES_MAX
    assert during <= P99_RATIO_MAX * before
    for one in idle:
        one.close()
    wait_until(lambda: client.stats().connections == 1)


def test_idle_connections_over_tls_take_little_and_slow_nobody_down(files, start_daemon, tmp_path):
    """Each has shaken hands, and shown its certificate; the active ones are over TLS, too."""
    count = min(IDLE, files // 2)
    tls = TlsDaemon(start_daemon, tmp_path, config=f"connections = {count + 10}\n", memory="1G")
    context = tls.context()
    with Connection(tls.daemon.socket) as local, tls.connect_tls() as client:
        session, arrays = client.open(b"active", geometry=SMALL, level=-2), bits(SMALL, 200)
        append(session, arrays, settle=True)
        before = p99_seconds(client, session, arrays)
        rss, used = held(tls.daemon, local)
        begin = time.monotonic()
        idle = [tls.connect_tls(tls=context) for _ in range(count)]
        seconds = time.monotonic() - begin
        rss, used = (now - then for now, then in zip(held(tls.daemon, local), (rss, used)))
        during = p99_seconds(client, session, arrays)
        print(f"\n{count} idle connections over TLS, made in {seconds:.0f} s: {rss / count:.0f} bytes of RSS and "
              f"{used / count:.0f} of the limit each; p99 of INFO and FETCH {before * 1e6:.0f} us without them, "
              f"{during * 1e6:.0f} us with them")
        assert rss / count <= TLS_IDLE_BYTES_MAX and 0 < used / count <= TLS_IDLE_BYTES_MAX
        assert rss <= used  # what is charged is what it takes
        assert during <= P99_RATIO_MAX * before
        for one in idle:
            one.close()
        wait_until(lambda: local.stats().connections == 2)


def test_a_flood_of_handshakes_that_fail_leaves_nothing(start_daemon, tmp_path):
    tls = TlsDaemon(start_daemon, tmp_path)
    nobody = context(tls.authority)
    with Connection(tls.daemon.socket) as local, tls.connect_tls() as client:
        before = held(tls.daemon, local)
        for _ in range(2000):
            with pytest.raises((ssl.SSLError, Closed)):
                Connection(tls.address, tls=nobody)
        client.ping()
        wait_until(lambda: local.stats().connections == 2)
        wait_until(lambda: held(tls.daemon, local)[1] <= before[1])
        assert held(tls.daemon, local)[0] <= before[0] + (8 << 20)


@pytest.mark.parametrize("active", [{"config": "stall_timeout = 2s\n"}], indirect=True)
def test_slow_senders_hold_nobody_up_and_nothing_for_long(active):
    """More clients than there are large buffers stop in the middle of a page."""
    daemon, client, session, arrays = active
    before = held(daemon, client)[1]
    senders = []
    for number in range(200):
        sender = Connection(daemon.socket)
        request_id = sender.open(b"%d" % number, geometry=LARGE).begin(128)
        page = data_frame(request_id, 0, 128, 0, 0, bytes(128 * LARGE.token_bytes(0)))
        sender.socket.setblocking(False)
        sender.socket.send(page[:100_000])
        senders.append(sender)
    begin = time.monotonic()
    for _ in range(20):
        assert_holds(session, arrays)
        append(client.open(b"other", geometry=SMALL, level=-2), bits(SMALL, 128))
        client.call(DELETE, "Delete", session=b"other")
    print(f"\n200 slow senders: 20 appends and fetches took {time.monotonic() - begin:.1f} s beside them")
    wait_until(lambda: client.stats().connections == 1)
    for number in range(200):
        client.call(DELETE, "Delete", session=b"%d" % number)
    wait_until(lambda: held(daemon, client)[1] <= before + 65536)
    assert client.stats().connections_stalled == 200


def test_clients_that_hang_up_halfway_are_gone(files, active):
    daemon, client, _, _ = active
    before = held(daemon, client)[1]
    halves = [Connection(daemon.socket) for _ in range(2000)]
    for number, half in enumerate(halves):
        if number % 2:
            half.send(frame(INFO, 2, encode("InfoRequest", session=b"active"))[:number % 29 + 1])
        half.socket.shutdown(socket.SHUT_WR)
    wait_until(lambda: client.stats().connections == 1)
    wait_until(lambda: held(daemon, client)[1] <= before)
    for half in halves:
        half.close()


def test_clients_that_go_away_without_a_word_over_tcp_are_gone(start_daemon, tmp_path):
    (tmp_path / "tcp.conf").write_text("request_timeout = 500ms\nidle_timeout = 500ms\n")
    daemon = start_daemon(arguments=["--config", tmp_path / "tcp.conf", "--tcp", "127.0.0.1:0"])
    with Connection(daemon.socket) as client:
        address = client.stats().sockets[1]
    quiet = [Connection(address) for _ in range(100)]
    for one in quiet[:50]:
        one.open(b"chat", geometry=SMALL)
        one.request(APPEND, "AppendRequest", session=b"chat", first=0, tokens=100)
    wait_until(lambda: Connection(daemon.socket).stats().connections <= 1 + 50)
    for one in quiet:
        one.close()


@pytest.mark.parametrize("active", [{"memory": "64M"}], indirect=True)
def test_a_flood_of_opens_stays_within_the_limit(active):
    daemon, client, session, arrays = active
    rss = daemon.rss_bytes()
    answered = refused = 0
    with Connection(daemon.socket) as flood:
        for at in range(0, 100_000, 25):
            names = [b"%07d" % number + b"x" * 240 for number in range(at, at + 25)]
            ids = [flood.request(OPEN, "OpenRequest", session=name, model=b"m", geometry=SMALL) for name in names]
            for request_id in ids:
                try:
                    flood.answer(request_id, "OpenReply")
                    answered += 1
                except Refused as error:
                    assert error.name == "full", error
                    refused += 1
    stats = client.stats()
    print(f"\n100,000 opens: {answered} sessions made, {refused} refused, {stats.sessions} there now, "
          f"{stats.used_bytes >> 20} of {stats.limit_bytes >> 20} MiB, RSS {rss >> 20} MiB before and "
          f"{daemon.rss_bytes() >> 20} MiB after")
    assert stats.used_bytes <= stats.limit_bytes
    assert daemon.rss_bytes() <= 1.1 * stats.limit_bytes + (64 << 20)
    wait_until(lambda: is_served(client))  # room is made, if not for the first who asks


def is_served(client):
    try:
        arrays = bits(SMALL, 10)
        session = client.open(b"a stranger's", geometry=SMALL, level=-2)
        append(session, arrays)
        assert_holds(session, arrays)
        return True
    except Refused as error:
        assert error.name in ("full", "wrong_first"), error
        return False


@pytest.mark.parametrize("active", [{"config": "connections = 500\n"}], indirect=True)
def test_a_flood_of_connections_is_refused_and_leaves_nothing(active):
    daemon, client, session, arrays = active
    for _ in range(5):
        flood = []
        for _ in range(1500):
            try:
                flood.append(Connection(daemon.socket, hello=False))
            except OSError:
                break
        assert_holds(session, arrays)
        for one in flood:
            one.close()
        wait_until(lambda: client.stats().connections == 1)
    assert client.stats().connections_refused > 0
    with pytest.raises(Closed):
        for one in [Connection(daemon.socket, hello=False) for _ in range(600)]:
            one.hello()
