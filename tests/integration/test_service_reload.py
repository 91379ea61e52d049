"""SIGHUP: the configuration is read again, and what can change changes without a restart."""

import signal
import time

import pytest
from config_support import Reloading
from conftest import STOP_SECONDS
from test_service_life import manager  # noqa: F401
from wire import Closed, Connection, data_frame
from wire_support import SMALL, TINY, append, assert_serves, bits, wait_until


@pytest.fixture
def reloading(start_daemon, tmp_path):
    return Reloading(start_daemon, tmp_path / "test.conf")


def test_a_level_changes_for_new_sessions(reloading):
    with Connection(reloading.daemon.socket) as connection:
        assert connection.open(b"old", geometry=SMALL).level == 3
        assert "level 3 -> exact" in reloading.reload("level = exact\n")
        assert connection.open(b"new", geometry=SMALL).level == -2
        assert connection.open(b"old", geometry=SMALL).level == 3


def test_how_long_appends_wait_changes(reloading):
    with Connection(reloading.daemon.socket) as connection:
        assert connection.limits.append_wait_ms == 2000
    assert "append_wait 2s -> 1500ms" in reloading.reload("append_wait = 1500ms\n")
    with Connection(reloading.daemon.socket) as connection:
        assert connection.limits.append_wait_ms == 1500


def connected(path):
    """A connection, once there is room for it."""
    opened = []

    def opens():
        try:
            opened.append(Connection(path))
        except (Closed, ConnectionError):
            return False
        return True

    wait_until(opens)
    return opened[0]


def takes_one_more(path):
    try:
        Connection(path).close()
        return True
    except (Closed, ConnectionError):
        return False


def test_the_most_connections_change(reloading):
    assert "connections 1024 -> 1" in reloading.reload("connections = 1\n")
    path = reloading.daemon.socket
    with connected(path):
        assert not takes_one_more(path)
        reloading.change("connections = 2\n")
        wait_until(lambda: takes_one_more(path))


def test_the_log_level_changes_in_both_directions(reloading):
    def says_who_connects():
        before = reloading.log()
        Connection(reloading.daemon.socket).close()
        return "connected" in reloading.log()[len(before):]

    assert not says_who_connects()
    reloading.reload("log_level = debug\n")
    wait_until(says_who_connects)  # the line is told before
    reloading.reload("")
    wait_until(lambda: not says_who_connects())


def test_the_time_for_a_frame_changes(reloading):
    with Connection(reloading.daemon.socket) as connection:
        session = connection.open(b"chat", geometry=SMALL)
        reloading.reload("stall_timeout = 100ms\n")
        request_id = session.begin(128)
        whole = data_frame(request_id, 0, 128, 0, 0, bytes(128 * SMALL.token_bytes(0)))
        connection.send(whole[:9000])  # more than a small buffer holds
        with pytest.raises(Exception):
            connection.receive()
    wait_until(lambda: "closed" in reloading.log())


def test_the_time_to_stop_changes(start_daemon, tmp_path):
    reloading = Reloading(start_daemon, tmp_path / "test.conf", "shutdown_timeout = 1h\n")
    reloading.reload("shutdown_timeout = 200ms\n")
    with Connection(reloading.daemon.socket) as connection:
        connection.open(b"chat", geometry=SMALL).begin(300)
        connection.ping()
        assert reloading.daemon.stop() == 0


def test_the_landing_level_changes(reloading):
    assert "landing_level fast8 -> exact" in reloading.reload("landing_level = exact\n")
    with Connection(reloading.daemon.socket) as connection:
        append(connection.open(b"chat", geometry=SMALL), bits(SMALL, 300))


def test_what_needs_a_restart_is_named_and_left(reloading):
    line = reloading.reload("reactors = 3\nlevel = 4\nsocket_mode = 0600\n")
    assert "level 3 -> 4" in line
    waiting = line.split("restart")[1]
    assert "reactors 2 -> 3" in waiting and "socket_mode 0660 -> 0600" in waiting and "level" not in waiting
    assert "reactors 2 -> 3" in reloading.reload("reactors = 3\nlevel = 4\n")


def test_options_of_the_command_line_still_override_the_file(reloading):
    assert "nothing changed" in reloading.reload("memory = 2G\nsocket = /not/there\n")
    assert_serves(reloading.daemon)


@pytest.mark.parametrize("text,line", [("level = exact\nlevel = 7\n", 2), ("memmory = 1G\n", 1), ("\n\nx\n", 3)])
def test_a_faulty_file_is_told_with_its_line_and_changes_nothing(reloading, text, line):
    said = reloading.reload(text)
    assert "error" in said and f"{reloading.path}:{line}:" in said
    with Connection(reloading.daemon.socket) as connection:
        assert connection.open(b"chat", geometry=SMALL).level == 3


def test_a_file_that_is_gone_changes_nothing(reloading):
    reloading.reload("level = 5\n")
    reloading.path.unlink()
    reloading.daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "cannot be read" in reloading.log())
    with Connection(reloading.daemon.socket) as connection:
        assert connection.open(b"chat", geometry=SMALL).level == 5


def test_without_a_file_nothing_happens(daemon):
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "no configuration file" in daemon.log.read_text())
    assert_serves(daemon)


def test_the_manager_is_told_of_the_reload_and_its_end(start_daemon, tmp_path, manager):  # noqa: F811
    reloading = Reloading(start_daemon, tmp_path / "test.conf", environment=manager.environment)
    assert manager.next("READY") == "1"
    for text in ("level = 4\n", "level = 9\n"):
        before_us = time.monotonic_ns() // 1000
        reloading.change(text)
        message = manager.message_with("RELOADING")
        assert message["RELOADING"] == "1"
        assert before_us <= int(message["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert manager.next("READY") == "1"


def test_many_reloads_while_clients_work_do_no_harm(reloading):
    with Connection(reloading.daemon.socket) as connection:
        for number in range(100):
            reloading.change(f"level = {number % 6}\nstall_timeout = {1 + number}s\n")
            append(connection.open(b"%d" % number, geometry=TINY), bits(TINY, 10))
    assert_serves(reloading.daemon)


def test_a_reload_while_the_daemon_ends_does_no_harm(reloading):
    with Connection(reloading.daemon.socket) as connection:
        connection.open(b"chat", geometry=SMALL).begin(300)
        connection.ping()
        reloading.daemon.process.send_signal(signal.SIGTERM)
        for _ in range(20):
            reloading.daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.005)
    assert reloading.daemon.process.wait(STOP_SECONDS) == 0
