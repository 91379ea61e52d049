"""Many connections: what an idle one costs, and how those that work share the large buffers."""

import os
import resource
import threading
import time

import pytest
from wire import F32, FETCH, Connection
from wire_support import connection, large, wait_until  # noqa: F401

IDLE = 1000
IDLE_BYTES_MAX = 8192
SESSION_BYTES = 128 << 20  # of "large" as float32


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def rss_bytes(daemon, watcher):
    """Without the memory that the daemon touches ahead, of which no more is touched meanwhile."""
    while True:
        warm_bytes = watcher.stats().memory.warm_bytes
        rss_bytes = daemon.rss_bytes()
        if watcher.stats().memory.warm_bytes == warm_bytes:
            return rss_bytes - warm_bytes


@pytest.mark.skipif(bool(os.environ.get("KVQ_SANITIZE")), reason="a sanitizer has memory of its own")
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_an_idle_connection_costs_at_most_8_kib_of_rss_and_budget(start_daemon, tmp_path, many_files, kind):
    (tmp_path / "test.conf").write_text("connections = 4000\n")
    daemon = start_daemon(arguments=["--config", tmp_path / "test.conf", "--tcp", "127.0.0.1:0"])
    with Connection(daemon.socket) as watcher:
        address = daemon.socket if kind == "unix" else watcher.stats().sockets[1]
        for _ in range(50):  # what the first connections touch, they all share
            Connection(address).close()
        wait_until(lambda: watcher.stats().connections == 1)
        rss, used = rss_bytes(daemon, watcher), watcher.stats().used_bytes
        idle = [Connection(address) for _ in range(IDLE)]
        for one in idle:
            one.ping()
        wait_until(lambda: watcher.stats().connections == IDLE + 1)
        rss, used = rss_bytes(daemon, watcher) - rss, watcher.stats().used_bytes - used
        for one in idle:
            one.close()
        wait_until(lambda: watcher.stats().connections == 1)
    print(f"an idle connection: {rss / IDLE:.0f} bytes of RSS, {used / IDLE:.0f} of budget")
    assert rss / IDLE <= IDLE_BYTES_MAX
    assert 0 < used / IDLE <= IDLE_BYTES_MAX


class Reader(threading.Thread):
    """Fetches the session "large" as float32 and reads on, slowly, so that the daemon always waits for it."""

    def __init__(self, address):
        super().__init__()
        self.connection, self.ending, self.bytes = Connection(address), False, 0
        self.connection.request(FETCH, "FetchRequest", session=b"large", dtype=F32)

    def run(self):
        while not self.ending:
            self.bytes += len(self.connection.socket.recv(1 << 15))
            time.sleep(0.01)
        self.connection.close()


@pytest.fixture
def slow_readers(daemon, large):  # noqa: F811
    readers = [Reader(daemon.socket) for _ in range(16)]
    for reader in readers:
        reader.start()
    yield readers
    for reader in readers:
        reader.ending = True
    for reader in readers:
        reader.join()


def test_more_readers_than_large_buffers_all_get_on(slow_readers):
    wait_until(lambda: all(reader.bytes > 3 << 20 for reader in slow_readers))


def test_a_newcomer_has_its_turn_before_those_who_had_one(daemon, slow_readers):
    wait_until(lambda: all(reader.bytes for reader in slow_readers))
    with Connection(daemon.socket) as newcomer:
        frames, _ = newcomer.fetch(b"large", end=128, end_layer=1, skip_v=True, dtype=F32)
        assert len(frames) == 1
        assert max(reader.bytes for reader in slow_readers) < SESSION_BYTES / 2


def test_who_gives_up_waiting_holds_nobody_up(daemon, slow_readers):
    for _ in range(20):
        with Connection(daemon.socket) as impatient:
            impatient.request(FETCH, "FetchRequest", session=b"large", dtype=F32)
    with Connection(daemon.socket) as undecided:
        for _ in range(20):
            undecided.cancel(undecided.request(FETCH, "FetchRequest", session=b"large", dtype=F32))
        wait_until(lambda: Connection(daemon.socket).stats().connections <= len(slow_readers) + 3)
    wait_until(lambda: all(reader.bytes > 3 << 20 for reader in slow_readers))
