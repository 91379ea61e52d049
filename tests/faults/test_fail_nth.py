"""Every allocation and every call into the system of a scripted run fails in turn.

The daemon never ends, never answers wrongly, keeps what it acknowledged, and when the fault is over it works
as before and holds no memory more than before.
"""

import contextlib
import copy
import os
import random
import re
import signal
from datetime import date

import pytest
from faults import SANITIZED, Faults, amount, soon
from journal import Journal, Lost, contents
from wire import EXACT, ON_DISK, Closed, Connection, Refused
from wire_support import SMALL, assert_serves

SEED = int(os.environ.get("KVQ_SEED") or random.randrange(1 << 32))
DISK_INDEX_BYTES = 1 << 20  # that the directory of what is on disk may grow by
WAIT_MS = 20  # that an append at the limit waits
STATE = bytes(range(256)) * 1200  # two pieces
ANSWER_SECONDS = 10 if SANITIZED else 2  # then a connection is given up: it may never have been accepted
IO_KINDS = [kind for kind in Faults.KINDS if kind != "memory"]
# Without those that keep strangers away: a daemon that started could not be told from one that did not.
START_KINDS = [kind for kind in IO_KINDS if kind not in ("accepting", "sending", "receiving")]


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path)


@pytest.fixture(params=["memory", "disk"])
def daemon(request, start_daemon, faults, tmp_path):
    """With a disk its sessions are on it when what was done to them is acknowledged."""
    config = tmp_path / "config"
    config.write_text(f"disk = {tmp_path / 'disk'}\n" if request.param == "disk" else "")
    daemon = start_daemon(environment=faults.environment, arguments=["--config", config])
    daemon.has_disk = request.param == "disk"
    return daemon


def script(connection, journal, has_disk):
    """Some of everything."""
    durable = {"durability": ON_DISK} if has_disk else {}
    journal.open(connection, b"exact", EXACT, **durable)
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
    if has_disk:
        with journal.question():
            connection.flush()
    with journal.question():
        connection.info(b"fork")
    with journal.question():
        connection.list()
    with journal.question():
        connection.stats()
    with journal.question():
        connection.pin(b"fork", 1000)
    with journal.question():
        connection.attach(b"exact", b"state", STATE, wait_ms=WAIT_MS)
    with journal.question():
        connection.fork(b"exact", b"with it")
    with journal.question():
        assert connection.attachment(b"with it", b"state")[0] == STATE
    with journal.question():
        connection.attachments(b"exact")
    with journal.question():
        connection.detach(b"exact", b"state")
    journal.delete(connection, b"fork")
    journal.open(connection, b"fork", EXACT, **durable)
    journal.append(connection, b"fork", 5, 5, wait_ms=WAIT_MS)
    with journal.question():
        connection.delete_many(prefix=b"lossy")


def play(daemon, journal):
    with contextlib.suppress(Lost, Closed, OSError), Connection(daemon.socket, timeout=ANSWER_SECONDS) as connection:
        script(connection, journal, daemon.has_disk)


def beside_sessions(stats):
    """What is reserved for anything but sessions and the daemon itself."""
    return stats.used_bytes - stats.memory.fixed_bytes - stats.unique_bytes


def empty_bytes(daemon):
    """What is reserved beside sessions when there are none."""
    play(daemon, Journal(SMALL))
    with Connection(daemon.socket) as connection:
        connection.delete_many(model=b"model", pinned_too=True)
        soon(lambda: connection.stats().connections == 1)
        return beside_sessions(connection.stats())


def check_afterwards(daemon, journal, most_bytes):
    with Connection(daemon.socket) as connection:
        journal.check(connection)
        connection.delete_many(model=b"model", pinned_too=True)
        soon(lambda: connection.stats().connections == 1)
        soon(lambda: beside_sessions(connection.stats()) <= most_bytes)
        assert connection.stats().unique_bytes == 0


def fail(daemon, faults, nth, most_bytes, **how):
    """A script of which a call fails; how many did."""
    journal = Journal(SMALL)
    faults.arm(nth, **how)
    try:
        play(daemon, journal)
        _, failed = faults.disarm()
        check_afterwards(daemon, journal, most_bytes)
    except BaseException:
        print(f"call {nth}, {how}; daemon: {daemon.process.poll()}\n{daemon.log.read_text()[-3000:]}")
        raise
    return failed


def fail_each(daemon, faults, step, **how):
    """Fails each step'th call, in a script of its own, until none is left; how many scripts there were."""
    most_bytes = empty_bytes(daemon) + (DISK_INDEX_BYTES if daemon.has_disk else 0)
    nth = 1 + date.today().toordinal() % step
    scripts = 1
    while fail(daemon, faults, nth, most_bytes, **how):
        nth += step
        scripts += 1
    assert_serves(daemon)
    return scripts


@pytest.mark.parametrize("how", [{}, {"sticky": True}], ids=["once", "sticky"])
@pytest.mark.skipif(SANITIZED, reason="allocations are the sanitizer's")
def test_memory_that_is_not_given(daemon, faults, how):
    step = amount(usual=5 if daemon.has_disk else 1, torture=1)
    print(fail_each(daemon, faults, step, kinds=["memory"], **how), "scripts")


@pytest.mark.parametrize("how", [{}, {"sticky": True}, {"how": "do half"}, {"how": "do half", "sticky": True}],
                         ids=["once", "sticky", "half", "always half"])
def test_calls_into_the_system_that_fail(daemon, faults, how):
    step = amount(usual=5 if daemon.has_disk else 1, torture=1, sanitized=7)
    print(fail_each(daemon, faults, step, kinds=IO_KINDS, **how), "scripts")


def test_two_calls_that_fail(daemon, faults):
    """By chance: as often as not one soon after the other."""
    print("KVQ_SEED =", SEED)
    chance, kinds = random.Random(SEED), IO_KINDS if SANITIZED else Faults.KINDS
    faults.arm(1 << 40, kinds=kinds)
    most_bytes = empty_bytes(daemon) + (DISK_INDEX_BYTES if daemon.has_disk else 0)
    calls, _ = faults.disarm()
    for _ in range(amount(usual=40, torture=4000, sanitized=20)):
        second = chance.randint(1, chance.choice([10, calls]))
        fail(daemon, faults, chance.randint(1, calls), most_bytes, kinds=kinds, second=second)
    assert_serves(daemon)


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


def start_on(start_daemon, faults, config):
    return start_daemon(environment=faults.environment, arguments=["--config", config])


def put_on_disk(start_daemon, faults, config):
    """Sessions, one with a tail, one of chunks that the other has too."""
    journal, daemon = Journal(SMALL), start_on(start_daemon, faults, config)
    with Connection(daemon.socket) as connection:
        journal.open(connection, b"exact", EXACT, durability=ON_DISK)
        journal.append(connection, b"exact", 300, 1)
        journal.fork(connection, b"exact", b"fork", 200)
        journal.append(connection, b"fork", 30, 2, settle=True)
    daemon.kill()
    return journal


@pytest.mark.parametrize("how", [{}, {"sticky": True}], ids=["once", "sticky"])
@pytest.mark.parametrize("kinds", [["memory"], START_KINDS], ids=["memory", "system"])
def test_a_start_that_fails_takes_nothing_off_the_disk(start_daemon, faults, tmp_path, kinds, how):
    """What it could not read, or had no memory for, is there after the next start."""
    if SANITIZED and kinds == ["memory"]:
        pytest.skip("allocations are the sanitizer's")
    config = tmp_path / "config"
    config.write_text(f"disk = {tmp_path / 'disk'}\n")
    journal = put_on_disk(start_daemon, faults, config)
    faults.arm(1 << 40, kinds=kinds)
    daemon = start_on(start_daemon, faults, config)
    with Connection(daemon.socket) as connection:
        journal.check(connection)
    calls, _ = faults.disarm()
    assert daemon.stop() == 0
    step = max(1, calls // amount(usual=12, torture=calls))
    for nth in range(1 + date.today().toordinal() % step, calls + step, step):
        faults.arm(nth, kinds=kinds, **how)
        with contextlib.suppress(RuntimeError):
            daemon = start_on(start_daemon, faults, config)
        faults.disarm()
        if daemon.process.poll() is None:
            with Connection(daemon.socket) as connection:
                found = copy.deepcopy(journal)
                found.killed([b"exact", b"fork"])
                found.check(connection)
            assert daemon.stop() == 0
        daemon = start_on(start_daemon, faults, config)
        with Connection(daemon.socket) as connection:
            journal.check(connection)
        assert daemon.stop() == 0


def test_what_the_device_did_not_give_is_there_when_it_does(start_daemon, faults, tmp_path):
    config = tmp_path / "config"
    config.write_text(f"disk = {tmp_path / 'disk'}\n")
    journal = put_on_disk(start_daemon, faults, config)
    daemon = start_on(start_daemon, faults, config)
    with Connection(daemon.socket) as connection:
        assert len(connection.list().sessions) == 2
        faults.arm(1, kinds=["reading"], sticky=True)
        with pytest.raises(Refused, match="miss"):
            connection.fetch(b"exact")
        faults.disarm()
        soon(lambda: contents(connection, b"exact") is not None)
        journal.check(connection)
