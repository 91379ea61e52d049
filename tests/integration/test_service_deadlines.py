"""How long a client may take: one that stops halfway holds nothing for good."""

import pytest
from config_support import Reloading
from wire import HELLO, INFO, Closed, Connection, data_frame, encode, frame
from wire_support import SMALL, append, assert_holds, assert_serves, bits, refused, wait_until

SHORT = "100ms"  # set once the clients are where they are to stop


@pytest.fixture
def reloading(start_daemon, tmp_path):
    return Reloading(start_daemon, tmp_path / "test.conf", "idle_timeout = never\n")


@pytest.fixture
def client(reloading):
    with Connection(reloading.daemon.socket) as client:
        yield client


def assert_is_closed(connection):
    with pytest.raises(Closed):
        connection.receive()


def held_bytes(connection):
    stats = connection.stats()
    return stats.used_bytes - stats.memory.warm_bytes


def test_a_client_that_says_nothing_is_closed(reloading, client):
    silent = Connection(reloading.daemon.socket, hello=False)
    reloading.reload(f"stall_timeout = {SHORT}\n")
    assert_is_closed(silent)
    assert client.stats().connections_stalled == 1


@pytest.mark.parametrize("sent", [1, 23, 24, 29])
def test_a_client_that_stays_in_the_middle_of_a_small_frame_is_closed(reloading, client, sent):
    stuck = Connection(reloading.daemon.socket)
    stuck.send(frame(INFO, 2, encode("InfoRequest", session=b"chat"))[:sent])
    reloading.reload(f"stall_timeout = {SHORT}\n")
    assert_is_closed(stuck)
    assert client.stats().connections_stalled == 1


def test_a_client_that_stays_in_the_middle_of_its_hello_is_closed(reloading, client):
    stuck = Connection(reloading.daemon.socket, hello=False)
    stuck.send(frame(HELLO, 1, encode("HelloRequest", version_min=1, version_max=1))[:20])
    reloading.reload(f"stall_timeout = {SHORT}\n")
    assert_is_closed(stuck)


def test_a_client_between_its_requests_has_all_the_time_it_wants(reloading, client):
    silent = Connection(reloading.daemon.socket, hello=False)
    reloading.reload(f"stall_timeout = {SHORT}\n")
    assert_is_closed(silent)  # so the time is over
    client.ping()


def test_an_append_that_is_left_is_cancelled_and_gives_back_what_it_held(reloading, client):
    session = client.open(b"chat", geometry=SMALL, level=-2)
    stuck = Connection(reloading.daemon.socket)
    other = stuck.open(b"chat", geometry=SMALL)
    request_id = other.begin(300)
    stuck.send(data_frame(request_id, 0, 128, 0, 0, bytes(128 * SMALL.token_bytes(0))))
    stuck.ping()
    held = held_bytes(client)
    reloading.reload(f"request_timeout = {SHORT}\n")
    with refused("cancelled"):
        stuck.answer(request_id, "AppendReply")
    wait_until(lambda: held_bytes(client) < held)
    arrays = bits(SMALL, 150)
    append(session, arrays)  # the session has no other writer now
    assert_holds(session, arrays)
    stuck.cancel(request_id)
    stuck.ping()  # the connection goes on
    stuck.close()


def test_with_an_idle_timeout_a_client_that_asks_for_nothing_is_closed(reloading, client):
    reloading.reload(f"idle_timeout = {SHORT}\n")
    assert_is_closed(client)
    assert "asked for nothing" in reloading.log()
    assert_serves(reloading.daemon)
