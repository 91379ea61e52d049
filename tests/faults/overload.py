"""Three times the limit, by mixed clients, for two minutes: the limit holds, nothing fails but for want of
memory, and small requests take no longer than twice as long as in calm.

Prints a table, and exits 1 if one of these does not hold. Calm is the same clients at the same work with a
third of the limit, which they keep to by deleting what is old.
"""

import argparse
import contextlib
import multiprocessing
import pathlib
import random
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

import numpy  # noqa: E402
from conftest import Daemon  # noqa: E402
from wire import EXACT, Connection, Refused, policy  # noqa: E402
from wire_support import WIDE, append, gaussian_bits  # noqa: E402

TOKENS = 600
SESSION_BYTES = TOKENS * 8192
KEPT = ((EXACT, EXACT), (0, 5), (3, 3))  # levels of sessions and their floors
SLACK_BYTES = 64 << 20
PROBES = ("ping", "info", "fetch")
PROBE_PAUSE_SECONDS = 0.002


def values():
    """K and V of a session, the same for all: where a hit is of is seen by its first token."""
    return gaussian_bits(WIDE, TOKENS)


def marked(arrays, number):
    """The same with a number in the first token, which is kept exact as a sink."""
    k = arrays[0].copy()
    k[0, 0, 0, :2] = number >> 16, number & 0xFFFF
    return k, arrays[1]


class Client:
    """Stores sessions, goes on with them, resumes and forks them, forgets the oldest."""

    def __init__(self, connection, index, kept):
        self.connection, self.kept, self.next = connection, kept, index << 24
        self.random, self.arrays = random.Random(index), values()
        self.sessions, self.counts = [], dict.fromkeys(("stored_bytes", "hits", "misses", "refused"), 0)

    def step(self):
        action = self.random.choices((self.store, self.resume, self.fork), (4, 5, 1))[0]
        try:
            action()
        except Refused as error:
            if error.name not in ("full", "miss", "wrong_first", "exists"):
                raise
            self.counts["refused" if error.name == "full" else "misses"] += 1

    def store(self):
        self.next += 1
        level, floor = self.random.choice(KEPT)
        session = self.connection.open(b"%d" % self.next, geometry=WIDE, level=level,
                                       policy=policy(floor=floor))
        append(session, marked(self.arrays, self.next), wait_ms=10000)
        self.counts["stored_bytes"] += SESSION_BYTES
        self.keep(session, self.next)

    def keep(self, session, number):
        self.sessions.append((session, number))
        if len(self.sessions) > self.kept:
            with contextlib.suppress(Refused):
                self.connection.delete(self.sessions.pop(0)[0].name)

    def resume(self):
        if not self.sessions:
            return
        session, number = self.random.choice(self.sessions[-self.kept // 2:])
        frames, reply = self.connection.fetch(session.name, end=0)
        mark = numpy.frombuffer(frames[0][4][:4], numpy.uint16) if frames else ()
        assert reply.tokens == 0 or tuple(mark) == (number >> 16, number & 0xFFFF), "another session's values"
        self.counts["hits"] += 1

    def fork(self):
        if not self.sessions:
            return
        session, number = self.random.choice(self.sessions)
        self.next += 1
        self.connection.fork(session.name, b"%d" % self.next)
        self.keep(self.connection.open(b"%d" % self.next, geometry=WIDE), number)


def run_client(socket, index, kept, ended, results):
    with Connection(socket, timeout=60) as connection:
        client = Client(connection, index, kept)
        while not ended.is_set():
            client.step()
    results.put(client.counts)


def run_probe(socket, ended, results):
    """Small requests, one after the other, with a pause between them; their milliseconds."""
    milliseconds = {probe: [] for probe in PROBES}
    with Connection(socket, timeout=60) as connection:
        session = connection.open(b"probe", geometry=WIDE, level=EXACT)
        append(session, tuple(part[:, :200] for part in values()))
        connection.pin(b"probe", 3600000)
        calls = {"ping": connection.ping, "info": lambda: connection.info(b"probe"),
                 "fetch": lambda: connection.fetch(b"probe", first=150, end=151)}
        while not ended.is_set():
            for probe, call in calls.items():
                start = time.perf_counter()
                call()
                milliseconds[probe].append(1000 * (time.perf_counter() - start))
                time.sleep(PROBE_PAUSE_SECONDS)
    results.put(milliseconds)


def watch(daemon, seconds):
    """The most that was resident and in use, and the daemon's last statistics."""
    rss_bytes = used_bytes = 0
    with Connection(daemon.socket) as connection:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rss_bytes = max(rss_bytes, daemon.rss_bytes())
            used_bytes = max(used_bytes, connection.stats().used_bytes)
            time.sleep(0.01)
        return rss_bytes, used_bytes, connection.stats()


def run_phase(options, limit_bytes, share):
    """So many times the limit is kept, by all clients together."""
    kept = max(2, int(share * limit_bytes / SESSION_BYTES / options.clients))
    context = multiprocessing.get_context("spawn")
    ended, results, probed = context.Event(), context.Queue(), context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(pathlib.Path(folder), f"{limit_bytes >> 20}M")
        workers = [context.Process(target=run_client, args=(daemon.socket, index, kept, ended, results))
                   for index in range(1, options.clients + 1)]
        workers.append(context.Process(target=run_probe, args=(daemon.socket, ended, probed)))
        for worker in workers:
            worker.start()
        try:
            rss_bytes, used_bytes, stats = watch(daemon, options.seconds / 2)
        finally:
            ended.set()
        counts = [results.get(timeout=60) for _ in range(options.clients)]
        milliseconds = probed.get(timeout=60)
        for worker in workers:
            worker.join(60)
        assert all(worker.exitcode == 0 for worker in workers), "a client failed"
        assert daemon.stop() == 0, daemon.log.read_text()
    total = {key: sum(count[key] for count in counts) for key in counts[0]}
    return {"rss_bytes": rss_bytes, "used_bytes": used_bytes, "pressure": stats.pressure,
            "errors": {row.error: row.count for row in stats.errors}, "milliseconds": milliseconds, **total}


def p99(milliseconds):
    return statistics.quantiles(milliseconds, n=100)[98]


def print_table(calm, overload):
    def row(name, text):
        print(f"| {name} | {text(calm)} | {text(overload)} |")

    print("| | calm | overload |\n|---|---|---|")
    row("stored", lambda phase: f"{phase['stored_bytes'] / 2**30:.2f} GiB")
    row("hits, misses, refused", lambda phase: f"{phase['hits']}, {phase['misses']}, {phase['refused']}")
    row("sessions aged to their floor", lambda phase: phase["pressure"].aged_sessions)
    row("tokens evicted", lambda phase: phase["pressure"].evicted_tokens)
    row("most in use", lambda phase: f"{phase['used_bytes'] / 2**20:.1f} MiB")
    row("most resident", lambda phase: f"{phase['rss_bytes'] / 2**20:.1f} MiB")
    for probe in PROBES:
        row(f"{probe}, p50 and p99", lambda phase: "{:.2f} and {:.2f} ms".format(
            statistics.median(phase["milliseconds"][probe]), p99(phase["milliseconds"][probe])))


def faults(calm, overload, limit_bytes):
    """What does not hold, in words."""
    if overload["stored_bytes"] < 3 * limit_bytes:
        yield "less than three times the limit was stored"
    if max(calm["used_bytes"], overload["used_bytes"]) > limit_bytes:
        yield "more than the limit was in use"
    if overload["rss_bytes"] > 1.1 * limit_bytes + SLACK_BYTES:
        yield "more was resident than 1.10 x the limit + 64 MiB"
    unexpected = set(overload["errors"]) - {"full", "miss", "wrong_first"}
    if unexpected:
        yield f"errors that are none of memory: {unexpected}"
    for probe in PROBES:
        if p99(overload["milliseconds"][probe]) > 2 * p99(calm["milliseconds"][probe]):
            yield f"{probe} took more than twice as long as in calm, at the 99th percentile"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="of both phases together")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--memory", type=int, default=256, help="the limit in MiB")
    options = parser.parse_args()
    limit_bytes = options.memory << 20
    calm = run_phase(options, limit_bytes, 1 / 3)
    overload = run_phase(options, limit_bytes, 3)
    print_table(calm, overload)
    found = list(faults(calm, overload, limit_bytes))
    for fault in found:
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
