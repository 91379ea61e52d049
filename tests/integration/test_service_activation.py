"""Socket activation: the daemon serves the sockets that its service manager opened for it."""

import os
import socket
import subprocess

import pytest
from conftest import COMMAND_SECONDS, activated, address_of, program
from wire import Connection
from wire_support import SMALL, assert_holds, assert_serves, stored


@pytest.fixture
def listen(tmp_path):
    """listen("unix"), listen("tcp"): a listening socket."""
    opened = []

    def new(kind):
        if kind == "unix":
            one = socket.socket(socket.AF_UNIX)
            one.bind(str(tmp_path / f"{len(opened)}.sock"))
        elif kind == "abstract":
            one = socket.socket(socket.AF_UNIX)
            one.bind(f"\0{tmp_path}")
        else:
            one = socket.socket(socket.AF_INET)
            one.bind(("127.0.0.1" if kind == "tcp" else "0.0.0.0", 0))
        one.listen()
        opened.append(one)
        return one

    yield new
    for one in opened:
        one.close()


def start_that_fails(tmp_path, *sockets):
    command = [program("KVQUANTD", "kvquantd"), "--socket", str(tmp_path / "own.sock"), "--memory", "64M"]
    done = subprocess.run(activated(command, sockets), pass_fds=[one.fileno() for one in sockets],
                          capture_output=True, text=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "own.sock").exists()
    return done.stderr


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_socket_that_is_handed_over_is_served(start_daemon, listen, kind):
    daemon = start_daemon(listening=[listen(kind)])
    with Connection(daemon.socket) as connection:
        assert_holds(*stored(connection, b"chat", SMALL, 50))


def test_who_connected_before_the_daemon_ran_is_served(start_daemon, listen):
    one = listen("unix")
    early = socket.socket(socket.AF_UNIX)
    early.connect(one.getsockname())
    daemon = start_daemon(listening=[one])
    assert_serves(daemon)
    early.close()


def test_several_sockets_are_all_served_and_named(start_daemon, listen):
    sockets = [listen("unix"), listen("tcp"), listen("unix")]
    daemon = start_daemon(listening=sockets)
    addresses = [address_of(one) for one in sockets]
    for address in addresses:
        with Connection(address) as connection:
            assert connection.stats().sockets == addresses
    log = daemon.log.read_text()
    assert all(address in log for address in addresses)


def test_sockets_of_the_configuration_are_not_opened_then(start_daemon, listen, tmp_path):
    folder = tmp_path / "daemon"
    daemon = start_daemon(folder=folder, listening=[listen("unix")], arguments=["--tcp", "127.0.0.1:0"])
    assert not (folder / "kvquantd.sock").exists()
    with Connection(daemon.socket) as connection:
        assert len(connection.stats().sockets) == 1


def test_the_managers_socket_file_stays_at_the_end(start_daemon, listen):
    one = listen("unix")
    daemon = start_daemon(listening=[one])
    assert daemon.stop() == 0
    assert os.path.exists(one.getsockname())


def test_the_next_daemon_serves_the_same_socket(start_daemon, listen):
    one = listen("unix")
    for _ in range(3):
        daemon = start_daemon(listening=[one])
        assert_serves(daemon)
        assert daemon.stop() == 0


def test_an_abstract_name_is_named_with_an_at(start_daemon, listen):
    sockets = [listen("unix"), listen("abstract")]
    daemon = start_daemon(listening=sockets)
    with Connection(daemon.socket) as connection:
        assert connection.stats().sockets[1] == "@" + sockets[1].getsockname()[1:].decode()


def test_tcp_beyond_loopback_is_refused_because_it_needs_tls(tmp_path, listen):
    one = listen("any")
    error = start_that_fails(tmp_path, one)
    assert address_of(one) in error and "TLS" in error


@pytest.mark.parametrize("family,kind", [(socket.AF_UNIX, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_SEQPACKET),
                                         (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)],
                         ids=["unix datagram", "unix packets", "udp", "a stream that does not listen"])
def test_a_socket_of_another_kind_is_refused_in_plain_words(tmp_path, listen, family, kind):
    with socket.socket(family, kind) as other:
        other.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "other"))
        error = start_that_fails(tmp_path, listen("unix"), other)
    assert "socket 2" in error and "stream" in error


def test_a_file_that_is_no_socket_is_refused(tmp_path):
    with open(tmp_path / "file", "w") as file:
        assert "socket 1" in start_that_fails(tmp_path, file)


def test_sockets_for_another_process_are_not_taken(start_daemon):
    daemon = start_daemon(environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert_serves(daemon)
    with Connection(daemon.socket) as connection:
        assert connection.stats().sockets == [daemon.socket]


@pytest.mark.parametrize("count", ["x", "-1", "99999999999"])
def test_an_environment_that_makes_no_sense_is_refused(tmp_path, count):
    command = ["sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', program("KVQUANTD", "kvquantd"), "--socket",
               str(tmp_path / "own.sock"), "--memory", "64M"]
    done = subprocess.run(command, env={**os.environ, "LISTEN_FDS": count}, capture_output=True, text=True,
                          timeout=COMMAND_SECONDS)
    assert done.returncode == 1 and "service manager" in done.stderr
