"""What the service manager is told while the daemon runs: signs of life, and a status that follows changes."""

import contextlib
import ctypes
import os
import pathlib
import re
import statistics
import time

import pytest
from manager_support import MESSAGE_SECONDS, Manager
from wire import Connection
from wire_support import SMALL, append, bits, wait_until

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WATCHDOG_SECONDS = 0.4


@pytest.fixture
def manager(tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def watched(manager, seconds=WATCHDOG_SECONDS):
    return {**manager.environment, "WATCHDOG_USEC": str(int(seconds * 1e6))}


def messages(manager, seconds):
    """What comes in this time, as dicts with the time of each."""
    end, got = time.monotonic() + seconds, []
    while (left := end - time.monotonic()) > 0:
        manager.socket.settimeout(left)
        with contextlib.suppress(TimeoutError):
            text = manager.socket.recv(4096).decode()
            got.append(dict(line.split("=", 1) for line in text.splitlines()) | {"at": time.monotonic()})
    manager.socket.settimeout(MESSAGE_SECONDS)
    return got


def signs_of_life(manager, seconds):
    return [message["at"] for message in messages(manager, seconds) if "WATCHDOG" in message]


def assert_often(at, seconds=WATCHDOG_SECONDS):
    """However late one of these times is."""
    assert statistics.median(b - a for a, b in zip(at, at[1:])) < seconds


def threads_of(daemon, name):
    return [int(task.name) for task in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir()
            if (task / "comm").read_text().strip() == name]


@contextlib.contextmanager
def stopped(thread):
    """One thread of another process stands still."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(PTRACE_SEIZE, thread, None, None) != 0:
        pytest.skip(f"threads cannot be stopped here: {os.strerror(ctypes.get_errno())}")
    try:
        assert libc.ptrace(PTRACE_INTERRUPT, thread, None, None) == 0
        os.waitpid(thread, 0x40000000)  # __WALL
        yield
    finally:
        assert libc.ptrace(PTRACE_DETACH, thread, None, None) == 0


def test_signs_of_life_come_at_half_of_the_managers_time(manager, start_daemon):
    start_daemon(environment=watched(manager))
    manager.next("READY")
    manager.next("WATCHDOG")
    at = signs_of_life(manager, 10 * WATCHDOG_SECONDS / 2)
    assert len(at) <= 11
    assert_often(at, 0.75 * WATCHDOG_SECONDS)


def test_without_a_watchdog_no_signs_come(manager, start_daemon):
    start_daemon(environment=manager.environment)
    manager.next("READY")
    assert signs_of_life(manager, 1) == []


def test_a_watchdog_for_another_process_is_not_answered(manager, start_daemon):
    start_daemon(environment={**watched(manager), "WATCHDOG_PID": "1"})
    manager.next("READY")
    assert signs_of_life(manager, 1) == []


@pytest.mark.parametrize("value", ["", "x", "0", "-1", "18446744073709551615"])
def test_a_watchdog_time_that_makes_no_sense_does_no_harm(manager, start_daemon, value):
    daemon = start_daemon(environment={**manager.environment, "WATCHDOG_USEC": value})
    manager.next("READY")
    Connection(daemon.socket).close()


@pytest.mark.parametrize("number", [0, 1])
def test_a_reactor_that_stands_still_is_caught_and_forgiven_once_it_goes_on(manager, start_daemon, number):
    daemon = start_daemon(environment=watched(manager))
    manager.next("READY")
    manager.next("WATCHDOG")
    with stopped(threads_of(daemon, "reactor")[number]):
        assert len(signs_of_life(manager, 1.5)) <= 1  # which was under way
    manager.next("WATCHDOG")


def test_signs_of_life_go_on_while_the_daemon_is_busy(manager, start_daemon):
    daemon = start_daemon(environment=watched(manager))
    manager.next("READY")
    with Connection(daemon.socket) as connection:
        session = connection.open(b"chat", geometry=SMALL)
        append(session, bits(SMALL, 200))
        end, signs = time.monotonic() + MESSAGE_SECONDS, []
        while len(signs) < 5:
            assert time.monotonic() < end
            append(session, bits(SMALL, 200))
            signs += signs_of_life(manager, 0.001)
        assert_often(signs)


def test_signs_of_life_go_on_while_requests_are_finished(manager, start_daemon):
    daemon = start_daemon(environment=watched(manager))
    manager.next("READY")
    with Connection(daemon.socket) as connection:
        connection.open(b"chat", geometry=SMALL).begin(300)
        connection.ping()
        daemon.process.terminate()
        manager.next("STOPPING")
        signs = []
        while len(signs) < 5:
            manager.next("WATCHDOG")
            signs.append(time.monotonic())
        assert_often(signs)


def statuses(manager, seconds):
    return [message["STATUS"] for message in messages(manager, seconds) if "STATUS" in message]


def test_the_status_tells_sessions_bytes_and_ratio(manager, start_daemon):
    daemon = start_daemon(environment=manager.environment)
    assert manager.next("STATUS") == f"0 sessions in 0.0 MiB; listening on {daemon.socket}"
    with Connection(daemon.socket) as connection:
        append(connection.open(b"chat", geometry=SMALL), bits(SMALL, 3000))
        while "ratio" not in (said := manager.next("STATUS")):
            assert re.fullmatch(rf"1 sessions? in 0.0 MiB; listening on {daemon.socket}", said), said
        assert re.fullmatch(rf"1 sessions? in \d+\.\d MiB \(ratio \d+\.\d\d\); listening on {daemon.socket}", said), said


def test_the_status_follows_changes_at_most_every_five_seconds_and_the_last_counts(manager, start_daemon):
    start = time.monotonic()
    daemon = start_daemon(environment=manager.environment)
    manager.next("READY")
    with Connection(daemon.socket) as connection:
        told, number = [], 0
        while not told:
            number += 1
            connection.open(b"%d" % number, geometry=SMALL)
            told += statuses(manager, 0.05)
        while not told[-1].startswith(f"{number} sessions"):
            told.append(manager.next("STATUS"))
        assert 5 * len(told) <= time.monotonic() - start
        connection.delete(b"1")
        assert manager.next("STATUS").startswith(f"{number - 1} sessions")


def test_while_nothing_changes_no_status_is_told(manager, start_daemon):
    daemon = start_daemon(environment=manager.environment)
    manager.next("READY")
    with Connection(daemon.socket) as connection:
        connection.ping()
        connection.stats()
        assert statuses(manager, 7) == []


def activity(daemon):
    """CPU ticks of the process, and how often each of its threads gave up the processor."""
    fields = pathlib.Path(f"/proc/{daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
    switches = {task.name: re.findall(r"ctxt_switches:\s*(\d+)", (task / "status").read_text())
                for task in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir()}
    return fields[11:13], switches


def sleeps(daemon, seconds):
    before = activity(daemon)
    time.sleep(seconds)
    return activity(daemon) == before


def assert_sleeps(daemon, seconds=4):
    wait_until(lambda: sleeps(daemon, 0.5))  # what was begun ends
    assert sleeps(daemon, seconds)


@pytest.mark.skipif("KVQ_SANITIZE" in os.environ and os.environ["KVQ_SANITIZE"] != "",
                    reason="a sanitizer has a thread of its own")
class TestIdleness:
    def test_an_idle_daemon_does_not_wake(self, daemon):
        assert_sleeps(daemon)

    def test_idle_connections_do_not_wake_it(self, daemon):
        connections = [Connection(daemon.socket) for _ in range(20)]
        assert_sleeps(daemon)
        for connection in connections:
            connection.close()

    def test_after_work_and_its_status_it_sleeps_again(self, manager, start_daemon):
        daemon = start_daemon(environment=manager.environment)
        with Connection(daemon.socket) as connection:
            append(connection.open(b"chat", geometry=SMALL), bits(SMALL, 1000), settle=True)
            messages(manager, 6)
            assert_sleeps(daemon)

    def test_a_daemon_with_a_tcp_socket_does_not_wake(self, start_daemon):
        assert_sleeps(start_daemon(arguments=["--tcp", "127.0.0.1:0"]))
