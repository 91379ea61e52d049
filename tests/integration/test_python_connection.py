"""The package kvquantd and its connection: where to, how many, shared by whom, and once it is gone."""

import os
import threading

import kvquantd
import numpy as np
import pytest

LAYERS, TOKENS, HEADS, DIM = 3, 200, 2, 64
GEOMETRY = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM)


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


@pytest.fixture
def session(client):
    return client.open("s", model="m", geometry=GEOMETRY, level="exact")


def values(tokens=TOKENS, seed=0):
    shape = (LAYERS, tokens, HEADS, DIM)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def test_threads_may_share_a_client(client):
    def work(number):
        session = client.open(f"s{number}", model="m", geometry=GEOMETRY, level="exact")
        for i in range(5):
            session.append(values(seed=number + i), values(seed=number + i))
        fetched, _ = session.fetch()
        results[number] = np.array_equal(fetched[:, -TOKENS:], values(seed=number + 4))

    results = {}
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(6), True)


def test_a_closed_client_says_so(daemon):
    client = kvquantd.connect(daemon.socket)
    client.close()
    client.close()
    with pytest.raises(kvquantd.ConnectionLost):
        client.ping()


def in_a_forked_process(work):
    """Runs work there and returns the exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_process_is_kept_off_its_parent_s_connection(client, session):
    def work():
        with pytest.raises(kvquantd.ConnectionLost, match="connect anew"):
            session.append(values(), values())
        client.close()
        return 7

    assert in_a_forked_process(work) == 7
    assert session.append(values(), values()) == TOKENS


def test_no_daemon_is_an_exception(tmp_path):
    with pytest.raises(kvquantd.CannotConnect, match="is kvquantd running"):
        kvquantd.connect(str(tmp_path / "none.sock"))
    with pytest.raises(kvquantd.CannotConnect, match="is kvquantd running"):
        kvquantd.connect("localhost:1")
    with pytest.raises(kvquantd.Invalid, match="host:port"):
        kvquantd.connect("localhost")


def test_a_daemon_that_goes_away_is_an_exception(daemon, client, session):
    session.append(values(), values())
    daemon.stop()
    for _ in range(2):
        with pytest.raises(kvquantd.ConnectionLost):
            session.fetch(range(0, TOKENS))


def test_a_client_connects_again_to_a_daemon_that_was_started_anew(start_daemon, tmp_path):
    first = start_daemon(folder=tmp_path / "daemon")
    with kvquantd.connect(first.socket) as client, \
            kvquantd.connect(first.socket, reconnect=False) as strict:
        session = client.open("s", model="m", geometry=GEOMETRY)
        first.stop()
        start_daemon(folder=tmp_path / "daemon")
        client.ping()
        with pytest.raises(kvquantd.Miss):
            session.fetch(range(0, 1))
        for _ in range(2):
            with pytest.raises(kvquantd.ConnectionLost):
                strict.ping()


def test_a_large_append_and_a_large_fetch_use_the_connections_they_may(daemon):
    k = values(24000)  # 35 MiB with v: of a fetch a connection takes 16 MiB at least
    with kvquantd.connect(daemon.socket, connections=2) as writer:
        session = writer.open("s", model="m", geometry=GEOMETRY, level="exact")
        assert writer.status()["connections"] == 1
        session.append(k, k)
        assert writer.status()["connections"] == 2
    with kvquantd.connect(daemon.socket, connections=3) as reader:
        before = reader.status()["connections_accepted"]
        fetched = reader.open("s", model="m").fetch()
        assert reader.status()["connections_accepted"] > before
    assert np.array_equal(fetched[0], k) and np.array_equal(fetched[1], k)
    assert fetched.levels == [{"level": "exact", "tokens": 24000}]


@pytest.mark.parametrize("connections", [0, -1, 9])
def test_a_number_of_connections_that_cannot_be_is_refused(daemon, connections):
    with pytest.raises(ValueError, match="connections is 1 to 8"):
        kvquantd.connect(daemon.socket, connections=connections)


def test_the_daemon_is_found_on_loopback_tcp(start_daemon):
    daemon = start_daemon(arguments=["--tcp", "127.0.0.1:0"])
    with kvquantd.connect(daemon.socket) as client:
        address, = [socket for socket in client.status()["sockets"] if "/" not in socket]
    with kvquantd.connect(address) as client:
        session = client.open("s", model="m", geometry=GEOMETRY, level="exact")
        session.append(values(), values(seed=1))
        assert client.socket == address
        assert np.array_equal(session.fetch()[0], values())
