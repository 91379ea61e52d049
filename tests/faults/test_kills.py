"""kill -9 at random moments: what was acknowledged as on disk comes back exactly, the rest is a miss or right.

The oracle (journal.py) is this process, which outlives the daemon. Of a session in memory that comes back all the
same every token must be the one that was accepted last.
"""

import contextlib
import os
import random
import threading
import time
from datetime import date

import pytest
import wire
from faults import SANITIZED, Faults, amount
from journal import Journal, Lost
from wire import EXACT, Closed, Connection
from wire_support import SMALL

ON_DISK = getattr(wire, "ON_DISK", None)  # a session's durability; None: there is no disk
SEED = int(os.environ.get("KVQ_SEED") or random.randrange(1 << 32))
IN_MEMORY = [b"in memory 1", b"in memory 2"]
NAMES = IN_MEMORY + [b"on disk 1", b"on disk 2", b"on disk 3"] * (ON_DISK is not None)
FILE_KINDS = ["space", "writing", "syncing", "renaming"]
STEP = amount(usual=4, torture=1, sanitized=16)  # of calls that fail in turn
TOKENS_MAX = 700
REQUESTS_MOST = 40  # of a life
LAST_SECONDS = 0.02  # at most, between them and its end


class Writer:
    """Does random things to sessions, on a journal, until the daemon is gone."""

    def __init__(self, seed):
        self.random, self.journal, self.requests = random.Random(seed), Journal(SMALL), 0

    def open(self, connection, name):
        fields = {"durability": ON_DISK} if name.startswith(b"on disk") else {}
        self.journal.open(connection, name, EXACT, **fields)

    def append(self, connection, name):
        held = self.journal.one(name)
        tokens = self.random.choice([1, 3, 127, 128, 129, self.random.randint(1, 300)])
        if held and held[0].shape[1] + tokens <= TOKENS_MAX:
            self.journal.append(connection, name, tokens, self.random.randrange(1 << 30),
                                settle=self.random.random() < 0.2)

    def truncate(self, connection, name):
        held = self.journal.one(name)
        if held:
            self.journal.truncate(connection, name, self.random.randint(0, held[0].shape[1]))

    def fork(self, connection, name):
        held = self.journal.one(name)
        kind = name.rsplit(b" ", 1)[0]
        target = self.random.choice([other for other in NAMES if other.startswith(kind)])
        if held and target != name:
            self.journal.fork(connection, name, target, self.random.randint(0, held[0].shape[1]))

    def delete(self, connection, name):
        self.journal.delete(connection, name)

    def fetch(self, connection, name):
        self.journal.fetch(connection, name)

    def step(self, connection):
        doing = {self.append: 10, self.truncate: 3, self.fork: 2, self.delete: 1, self.fetch: 3}
        name = self.random.choice(NAMES)
        if self.journal.one(name) is None:
            self.open(connection, name)
        self.random.choices(list(doing), list(doing.values()))[0](connection, name)
        self.requests += 1


def start(start_daemon, tmp_path, environment=None):
    folder, config = tmp_path / "daemon", tmp_path / "config"
    config.write_text(f"disk = {tmp_path / 'disk'}\n" if ON_DISK else "")
    return start_daemon(memory="64M", folder=folder, arguments=["--config", config],
                        environment=environment)


def live_and_die(daemon, writer):
    """A connection that writes until the daemon is killed, some requests and a moment later."""
    killer = threading.Timer(writer.random.uniform(0, LAST_SECONDS), daemon.process.kill)
    with contextlib.suppress(Lost, Closed, OSError), Connection(daemon.socket) as connection:
        for _ in range(writer.random.randint(0, REQUESTS_MOST)):
            writer.step(connection)
        killer.start()
        while True:
            writer.step(connection)
    killer.join()
    daemon.process.wait()


def test_what_was_acknowledged_as_on_disk_outlives_kill_9(start_daemon, tmp_path):
    writer, kills, began = Writer(SEED), amount(usual=100, torture=2000), time.monotonic()
    print("KVQ_SEED =", SEED)
    for _ in range(kills):
        daemon = start(start_daemon, tmp_path)
        with Connection(daemon.socket) as connection:
            writer.journal.check(connection)
        live_and_die(daemon, writer)
        writer.journal.killed(IN_MEMORY)
    with Connection(start(start_daemon, tmp_path).socket) as connection:
        writer.journal.check(connection)
    print(f"{kills} kills, {writer.requests} requests, {time.monotonic() - began:.0f} s")


@pytest.mark.skipif(ON_DISK is None, reason="there is no disk")
def test_what_was_saved_at_an_orderly_end_is_there_after_the_next_start(start_daemon, tmp_path):
    writer = Writer(SEED)
    for _ in range(amount(usual=10, torture=100)):
        daemon = start(start_daemon, tmp_path)
        with Connection(daemon.socket) as connection:
            writer.journal.check(connection)
            with contextlib.suppress(Lost):
                for _ in range(REQUESTS_MOST):
                    writer.step(connection)
        assert daemon.stop() == 0
        writer.journal.killed(in_memory=[])


def script(connection, journal):
    """Everything that is written to the disk."""
    for name in (b"on disk 1", b"on disk 2"):
        journal.open(connection, name, EXACT, durability=ON_DISK)
    journal.append(connection, b"on disk 1", 200, 1)
    journal.append(connection, b"on disk 2", 30, 2)
    journal.append(connection, b"on disk 1", 90, 3)
    journal.fork(connection, b"on disk 1", b"on disk 3", 150)
    journal.truncate(connection, b"on disk 1", 100)
    journal.append(connection, b"on disk 1", 60, 4, settle=True)
    journal.delete(connection, b"on disk 2")
    journal.open(connection, b"on disk 2", EXACT, durability=ON_DISK)
    journal.append(connection, b"on disk 2", 10, 5)


def play_and_kill(start_daemon, tmp_path, faults, nth, **how):
    """The script with a fault, a kill, and a start that finds what it must. How many calls failed."""
    journal, daemon = Journal(SMALL), start(start_daemon, tmp_path, faults.environment)
    faults.arm(nth, **how)
    with contextlib.suppress(Lost, Closed, OSError), Connection(daemon.socket) as connection:
        script(connection, journal)
    _, failed = faults.disarm()
    if not (failed and "kill" in how.get("how", "")):
        with Connection(daemon.socket) as connection:
            journal.check(connection)
        daemon.kill()
    daemon.process.wait()
    journal.killed(IN_MEMORY)
    again = start(start_daemon, tmp_path)
    with Connection(again.socket) as connection:
        journal.check(connection)
        connection.delete_many(model=b"model")
    again.kill()
    return failed


@pytest.mark.skipif(ON_DISK is None, reason="there is no disk")
@pytest.mark.parametrize("how, kinds", [("kill", FILE_KINDS),
                                        ("kill after half", ["writing"])], ids=["before", "half way"])
def test_a_kill_at_any_call_that_changes_a_file_loses_nothing_acknowledged(start_daemon, tmp_path, how, kinds):
    """At every write, or in its middle, fdatasync, rename, ftruncate and unlink, one after the other."""
    faults, nth, failed = Faults(tmp_path), 0, 1
    while failed:
        nth += 1
        failed = play_and_kill(start_daemon, tmp_path, faults, nth, kinds=kinds, how=how)
    print(f"{nth - 1} calls")


@pytest.mark.skipif(ON_DISK is None, reason="there is no disk")
@pytest.mark.parametrize("how", [{}, {"sticky": True}], ids=["once", "sticky"])
@pytest.mark.parametrize("kinds", [[*FILE_KINDS, "reading"], ["memory"]], ids=["files", "memory"])
def test_what_was_acknowledged_holds_although_calls_fail(start_daemon, tmp_path, kinds, how):
    """What is closed with `disk` is done in memory, and may be on disk."""
    if SANITIZED and kinds == ["memory"]:
        pytest.skip("allocations are the sanitizer's")
    faults, failed, step = Faults(tmp_path), 1, 2 * STEP if kinds == ["memory"] else STEP
    nth = 1 + date.today().toordinal() % step
    while failed:
        failed = play_and_kill(start_daemon, tmp_path, faults, nth, kinds=kinds, **how)
        nth += step
    print(f"each {step}th of {nth - step} calls")


@pytest.mark.skipif(ON_DISK is None, reason="there is no disk")
def test_what_a_failed_save_left_in_a_file_does_not_outlast_an_acknowledged_delete(start_daemon, tmp_path):
    faults, journal = Faults(tmp_path), Journal(SMALL)
    daemon = start(start_daemon, tmp_path, faults.environment)
    with Connection(daemon.socket) as connection:
        for name in (b"on disk 1", b"on disk 2"):
            journal.open(connection, name, EXACT, durability=ON_DISK)
        journal.append(connection, b"on disk 2", 10, 2)
        faults.arm(1, kinds=["syncing"], sticky=True)
        journal.append(connection, b"on disk 1", 30, 1)
        journal.delete(connection, b"on disk 1")
    faults.disarm()
    daemon.kill()
    journal.killed(IN_MEMORY)
    with Connection(start(start_daemon, tmp_path).socket) as connection:
        journal.check(connection)
