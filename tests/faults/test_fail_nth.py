"""Every allocation and every call into the system of a scripted run fails in turn.

The daemon never ends, never answers wrongly, keeps what it acknowledged, and when the fault is over it works
as before and holds no memory more than before.
"""

import contextlib
import re
import signal
from datetime import date

import pytest
from faults import SANITIZED, Faults, amount, soon
from journal import Journal, Lost
from wire import EXACT, Closed, Connection
from wire_support import SMALL, assert_serves

WAIT_MS = 20  # that an append at the limit waits
ANSWER_SECONDS = 10 if SANITIZED else 2  # then a connection is given up: it may never have been accepted
IO_KINDS = [kind for kind in Faults.KINDS if kind != "memory"]
# Without those that keep strangers away: a daemon that started could not be told from one that did not.
START_KINDS = [kind for kind in IO_KINDS if kind not in ("accepting", "sending", "receiving")]


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path)


@pytest.fixture
def daemon(start_daemon, faults):
    return start_daemon(environment=faults.environment)


def script(connection, journal):
    """Some of everything."""
    journal.open(connection, b"exact", EXACT)
    journal.append(connection, b"exact", 200, 1, wait_ms=WAIT_MS)
    journal.append(connection, b"exact", 1, 2, wait_ms=WAIT_MS)
    journal.fork(connection, b"exact", b"fork", 150)
    journal.append(connection, b"fork", 110, 3, settle=True, wait_ms=WAIT_MS)
    journal.append(connection, b"exact", 60, 4, wait_ms=WAIT_MS)
    journal.fetch(connection, b"exact")
    journal.truncate(connection, b"exact", 130)
    journal.fetch(connection, b"fork", 100, 240)
    with journal.question():
        connection.open(b"lossy", geometry=SMALL, level=1)
    with journal.question():
        connection.open(b"lossy", geometry=SMALL).append(
            130, [[bytes(130 * SMALL.token_bytes(part))] * SMALL.layers for part in (0, 1)], wait_ms=WAIT_MS)
    with journal.question():
        connection.age(b"lossy", 4)
    with journal.question():
        connection.info(b"fork")
    with journal.question():
        connection.list()
    with journal.question():
        connection.stats()
    with journal.question():
        connection.pin(b"fork", 1000)
    journal.delete(connection, b"fork")
    journal.open(connection, b"fork", EXACT)
    journal.append(connection, b"fork", 5, 5, wait_ms=WAIT_MS)
    with journal.question():
        connection.delete_many(prefix=b"lossy")


def play(daemon, journal):
    with contextlib.suppress(Lost, Closed, OSError), Connection(daemon.socket, timeout=ANSWER_SECONDS) as connection:
        script(connection, journal)


def beside_sessions(stats):
    """What is reserved for anything but sessions and the daemon itself."""
    return stats.used_bytes - stats.memory.fixed_bytes - stats.unique_bytes


def check_afterwards(daemon, journal, empty_bytes):
    with Connection(daemon.socket) as connection:
        journal.check(connection)
        connection.delete_many(model=b"model", pinned_too=True)
        soon(lambda: connection.stats().connections == 1)
        soon(lambda: beside_sessions(connection.stats()) == empty_bytes)
        assert connection.stats().unique_bytes == 0


def fail_each(daemon, faults, first, step, **how):
    """Fails call number first, first + step and so on, each in a script of its own, until none is left.

    Returns how many scripts there were.
    """
    play(daemon, Journal(SMALL))
    with Connection(daemon.socket) as connection:
        connection.delete_many(model=b"model", pinned_too=True)
        soon(lambda: connection.stats().connections == 1)
        empty_bytes = beside_sessions(connection.stats())
    nth, failed = first, 1
    while failed:
        journal = Journal(SMALL)
        faults.arm(nth, **how)
        play(daemon, journal)
        _, failed = faults.disarm()
        try:
            check_afterwards(daemon, journal, empty_bytes)
        except BaseException:
            print(f"call {nth}, {how}; daemon: {daemon.process.poll()}\n{daemon.log.read_text()[-3000:]}")
            raise
        nth += step
    assert_serves(daemon)
    return (nth - first) // step


@pytest.mark.parametrize("how", [{}, {"sticky": True}], ids=["once", "sticky"])
@pytest.mark.skipif(SANITIZED, reason="allocations are the sanitizer's")
def test_memory_that_is_not_given(daemon, faults, how):
    scripts = fail_each(daemon, faults, 1, amount(usual=1, torture=1), kinds=["memory"], **how)
    print(scripts, "scripts")


@pytest.mark.parametrize("how", [{}, {"sticky": True}, {"how": "do half"}, {"how": "do half", "sticky": True}],
                         ids=["once", "sticky", "half", "always half"])
def test_calls_into_the_system_that_fail(daemon, faults, how):
    scripts = fail_each(daemon, faults, 1, amount(usual=1, torture=1, sanitized=7), kinds=IO_KINDS, **how)
    print(scripts, "scripts")


def start_with_fault(start_daemon, faults, nth, **how):
    """True if the daemon started in spite of the fault, or without one; it may refuse to, in words.

    libuv's own beginning aborts where it gets no memory: nothing was promised to anybody by then.
    """
    faults.arm(nth, **how)
    try:
        daemon = start_daemon(environment=faults.environment)
    except RuntimeError as error:
        status = re.search("ended with (-?[0-9]+):\n(.*)", str(error), re.DOTALL)
        assert status and "Listening" not in status[2], (nth, how, str(error))
        assert int(status[1]) == -signal.SIGABRT or int(status[1]) > 0 and status[2].strip(), \
            (nth, how, str(error))
        return False
    finally:
        faults.disarm()
    assert_serves(daemon)
    faults.arm(nth, **how)
    try:
        assert daemon.stop() == 0, (nth, how, daemon.log.read_text())
    finally:
        faults.disarm()
    return True


@pytest.mark.parametrize("how", [{}, {"sticky": True}], ids=["once", "sticky"])
@pytest.mark.parametrize("kinds", [["memory"], START_KINDS], ids=["memory", "system"])
def test_a_start_that_fails_is_told_and_an_end_is_orderly(start_daemon, faults, kinds, how):
    if SANITIZED and kinds == ["memory"]:
        pytest.skip("allocations are the sanitizer's")
    assert start_with_fault(start_daemon, faults, 1 << 40, kinds=kinds)
    faults.arm(1 << 40, kinds=kinds)
    daemon = start_daemon(environment=faults.environment)
    calls, _ = faults.disarm()
    daemon.stop()
    step = max(1, calls // amount(usual=25, torture=calls))
    first = 1 + date.today().toordinal() % step
    started = sum(start_with_fault(start_daemon, faults, nth, kinds=kinds, **how)
                  for nth in range(first, calls + step, step))
    print(f"{calls} calls, every {step}th from the {first}th on failed, {started} times it started")
