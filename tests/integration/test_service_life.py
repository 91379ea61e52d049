"""A daemon's life as its service manager sees it: READY, STATUS, STOPPING, SIGTERM, log lines."""

import os
import resource
import signal
import subprocess
import time

import numpy
import pytest
from conftest import STOP_SECONDS, program
from manager_support import Manager
from wire import FETCH, INFO, REPLY, Closed, Connection, Refused, decode
from wire_support import (SMALL, WIDE, append, assert_serves, begun_fetch, bits, connection,  # noqa: F401
                          drain, large, packed, wait_until)

DROPPED = "did not end in time"  # what the log says when the daemon waits for requests no longer


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request, tmp_path):
    manager = Manager(f"\0{tmp_path.name}-{os.getpid()}" if "abstract" in request.param
                      else str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def test_ready_is_told_once_the_socket_answers(manager, start_daemon):
    path = start_daemon(environment=manager.environment).socket
    assert manager.next("READY") == "1"
    Connection(path).close()


def test_ready_is_not_told_before_the_socket_answers(manager, tmp_path):
    path = str(tmp_path / "kvquantd.sock")
    process = subprocess.Popen([program("KVQUANTD", "kvquantd"), "--socket", path, "--memory", "64M"],
                               env={**os.environ, **manager.environment}, stderr=subprocess.DEVNULL)
    try:
        assert manager.next("READY") == "1"
        with Connection(path) as connection:
            connection.ping()
    finally:
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0


def test_status_is_told_in_words(manager, start_daemon):
    start_daemon(environment=manager.environment)
    assert manager.next("STATUS").strip()


def test_stopping_is_told_on_sigterm(manager, start_daemon):
    daemon = start_daemon(environment=manager.environment)
    manager.next("READY")
    assert daemon.stop() == 0
    assert manager.next("STOPPING") == "1"


@pytest.mark.parametrize("address", ["/not/there", "relative", "@nobody listens here", "", "n" * 200])
def test_a_manager_that_is_not_there_does_no_harm(start_daemon, address):
    assert_serves(start_daemon(environment={"NOTIFY_SOCKET": address}))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_daemon_exits_0_and_its_socket_file_is_gone(daemon, number):
    assert_serves(daemon)
    daemon.process.send_signal(number)
    assert daemon.process.wait(STOP_SECONDS) == 0
    assert DROPPED not in daemon.log.read_text()
    assert not os.path.exists(daemon.socket)


def test_idle_connections_do_not_hold_a_stopping_daemon_up(daemon):
    idle = [Connection(daemon.socket) for _ in range(20)] + [Connection(daemon.socket, hello=False)]
    assert daemon.stop() == 0
    assert DROPPED not in daemon.log.read_text()
    for client in idle:
        client.close()


def test_a_running_fetch_is_finished_on_sigterm(daemon, connection, large):  # noqa: F811
    request_id = begun_fetch(connection)
    daemon.process.send_signal(signal.SIGTERM)
    frames = drain(connection, request_id)
    assert frames[-1].type == REPLY and decode("FetchReply", frames[-1].control).tokens == 1024
    connection.close()
    assert daemon.process.wait(STOP_SECONDS) == 0


def test_a_running_append_is_finished_on_sigterm(daemon, connection):
    session = connection.open(b"chat", geometry=SMALL)
    kv = packed(bits(SMALL, 300))
    request_id = session.begin(300)
    pieces = list(session.pieces(300))
    session.send_piece(request_id, kv, pieces[0])
    connection.ping()
    daemon.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "SIGTERM" in daemon.log.read_text())
    for piece in pieces[1:]:
        session.send_piece(request_id, kv, piece)
    assert session.commit(request_id).tokens == 300
    connection.close()
    assert daemon.process.wait(STOP_SECONDS) == 0


def test_new_connections_are_refused_once_stopping(daemon, connection, large):  # noqa: F811
    begun_fetch(connection)
    daemon.process.send_signal(signal.SIGTERM)

    def refuses():
        try:
            Connection(daemon.socket).close()
        except (OSError, Closed, Refused):
            return True
        return False

    wait_until(refuses)
    connection.close()
    assert daemon.process.wait(STOP_SECONDS) == 0


def test_new_requests_are_told_that_the_daemon_is_shutting_down(daemon, connection, large):  # noqa: F811
    idle = [Connection(daemon.socket) for _ in range(8)]  # some with the reactor that the fetch is with
    request_id = begun_fetch(connection)
    daemon.process.send_signal(signal.SIGTERM)
    for one in idle:
        with pytest.raises(Closed):
            one.receive()
    late = connection.request(INFO, "InfoRequest", session=b"large")
    frames = drain(connection, request_id)
    connection.close()
    assert daemon.process.wait(STOP_SECONDS) == 0
    answers = [got for got in frames if got.request_id == late]
    assert [Refused(got.control).name for got in answers] == ["shutting_down"]


@pytest.fixture
def impatient(start_daemon, tmp_path):
    """A daemon that waits a second for what runs when it is stopped."""
    (tmp_path / "test.conf").write_text("shutdown_timeout = 1s\n")
    return start_daemon(arguments=["--config", tmp_path / "test.conf"])


def stop_at_the_limit(daemon):
    start = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - start >= 0.9 and DROPPED in daemon.log.read_text()
    assert not os.path.exists(daemon.socket)


def test_a_client_that_never_reads_does_not_hold_a_stopping_daemon_up_for_ever(impatient):
    with Connection(impatient.socket) as connection:
        session = connection.open(b"chat", geometry=WIDE, level=-2)
        append(session, bits(WIDE, 1024))
        connection.request(FETCH, "FetchRequest", session=b"chat")
        connection.receive()
        stop_at_the_limit(impatient)


def test_a_writer_that_never_commits_does_not_hold_a_stopping_daemon_up_for_ever(impatient):
    with Connection(impatient.socket) as connection:
        connection.open(b"chat", geometry=SMALL).begin(300)
        connection.ping()
        stop_at_the_limit(impatient)


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 20, 40, 80])
def test_a_daemon_stopped_while_the_keeper_works_exits_0(daemon, connection, delay_ms):
    session = connection.open(b"chat", geometry=WIDE, level=3)
    values = numpy.random.default_rng(1).normal(size=(8, 1500, 4, 64)).astype(numpy.float16)
    append(session, (values.view(numpy.uint16),) * 2)
    time.sleep(delay_ms / 1000)
    assert daemon.stop() == 0


def test_many_sigterms_do_no_harm(daemon, connection):
    append(connection.open(b"chat", geometry=WIDE, level=-2), bits(WIDE, 1024))
    while daemon.process.poll() is None:
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.0005)
    assert daemon.process.returncode == 0


def test_a_log_line_names_the_socket(daemon):
    lines = [line for line in daemon.log.read_text().splitlines() if daemon.socket in line]
    assert len(lines) == 1


def test_a_broken_pipe_does_not_end_the_daemon(daemon, connection, large):  # noqa: F811
    with Connection(daemon.socket) as reader:
        begun_fetch(reader)
    wait_until(lambda: connection.stats().connections == 1)
    assert_serves(daemon)


def test_a_daemon_out_of_file_descriptors_serves_whom_it_has_and_later_others(daemon):
    client = Connection(daemon.socket)
    used = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 5, used + 5))
    more = [Connection(daemon.socket, hello=False) for _ in range(20)]
    time.sleep(0.5)
    client.ping()
    assert len(daemon.log.read_text().splitlines()) < 100
    for one in more:
        one.close()
    wait_until(lambda: client.stats().connections == 1)
    assert_serves(daemon)


def test_a_daemon_started_and_stopped_many_times_serves_each_time(start_daemon, tmp_path):
    for _ in range(10):
        daemon = start_daemon(folder=tmp_path)
        assert_serves(daemon)
        assert daemon.stop() == 0
