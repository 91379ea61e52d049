"""All operations, by clients of three tenants, on about twice the memory limit with a disk: nothing grows that should
not, nothing is left in the end, nothing is slower at the end than at the start, and the log has nothing to say.

Prints a table, and exits 1 if one of these does not hold. What may grow of what the process has for itself, without
the pool and raw tails, is 1 MiB, and 0.1 % of what is resident an hour: in ten minutes there are some
hundred thousand requests, so that a leak of the smallest piece of memory by a few of a hundred of them is seen; in a
day, by one in a thousand.
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

import numpy  # noqa: E402
from conftest import Daemon  # noqa: E402
from monitor_support import metrics  # noqa: E402
from soak_client import TOKENS, run_client  # noqa: E402
from tenant_support import row, token  # noqa: E402
from wire import EXACT, Connection  # noqa: E402
from wire_support import WIDE, append, gaussian_bits  # noqa: E402

TENANTS = ("alpha", "beta", "gamma")
SESSION_BYTES = TOKENS * 8192 // 6  # stored, in the mean
GROWTH_BYTES, GROWTH_PER_HOUR = 1 << 20, 0.001
KEPT_BYTES = 4 << 20
WARM_UP = 0.25  # of the time
PROBES = ("ping", "info", "fetch")
PROBE_PAUSE_SECONDS = 0.01
P99_RATIO_MAX, P99_NOISE_MS = 2, 5
SETTLE_SECONDS = 60
CONFIG = """\
tenants = {folder}/tenants
disk = {folder}/disk
disk_size = {disk}
metrics = {folder}/metrics.sock
tail_idle = 2s
"""
# What a daemon may say.
KNOWN = re.compile("|".join((
    "listening on", "ready", "status page are on", "on disk, in", "memory limit", "stopped", "stops", "SIGTERM",
    "chains of blocks;", "ended$")))


def run_probe(socket, ended, results):
    """Small requests of a tenant of its own, one after the other; the seconds from the start and milliseconds of each."""
    found, begun = {probe: [] for probe in PROBES}, time.monotonic()
    with Connection(socket, token=token("probe")) as connection:
        append(connection.open(b"probe", geometry=WIDE, level=EXACT), gaussian_bits(WIDE, 200))
        connection.pin(b"probe", 7 * 24 * 3600 * 1000)
        calls = {"ping": connection.ping, "info": lambda: connection.info(b"probe"),
                 "fetch": lambda: connection.fetch(b"probe", first=150, end=151)}
        while not ended.is_set():
            for probe, call in calls.items():
                start = time.monotonic()
                call()
                found[probe].append((start - begun, 1000 * (time.monotonic() - start)))
                time.sleep(PROBE_PAUSE_SECONDS)
        connection.delete(b"probe")
    results.put({probe: numpy.array(rows) for probe, rows in found.items()})


def links_of(pid):
    """What the files are that the process has open; one may be closed meanwhile."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(f"/proc/{pid}/fd/{number}")


class State:
    """What the daemon has of the machine and in its budgets, at one moment."""

    def __init__(self, daemon):
        status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
        self.metrics = metrics(daemon.metrics)
        anonymous_bytes = 1024 * int(re.search(r"RssAnon:\s+(\d+)", status)[1])
        self.own_bytes = anonymous_bytes - self.of("memory_part_bytes", "part", "tails")
        self.resident_bytes = daemon.rss_bytes()
        # Without those of the disk, and those that a reactor has in reserve once somebody has connected.
        self.links = [link for link in links_of(daemon.pid) if not link.endswith((".segment", "/null"))]
        self.files = len(self.links)

    def of(self, name, *labels):
        return int(self.metrics[(f"kvquantd_{name}", *labels) if labels else f"kvquantd_{name}"])

    def tenants(self, name):
        return {key[2]: int(value) for key, value in self.metrics.items()
                if key[0] == f"kvquantd_tenant_{name}" and value}


def watch(daemon, seconds, samples):
    """Samples, about 200 of them: the time, and what the process has for itself and of files."""
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < seconds:
        state = State(daemon)
        samples.append((now, state.own_bytes, state.resident_bytes, state.files, state.of("memory_used_bytes"),
                        sum(state.tenants("disk_bytes").values())))
        time.sleep(min(seconds / 200, 30))


def settled(daemon, before):
    """The state, once everything that was deleted is gone, or as it is after a while."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        state = State(daemon)
        gone = not any(state.tenants(name) for name in ("sessions", "stored_bytes", "disk_bytes"))
        if gone and state.files <= before.files and state.of("connections") == 0 or time.monotonic() > end:
            return state
        time.sleep(0.2)


def run(options, folder):
    limit_bytes = options.memory << 20
    (folder / "tenants").write_text("".join(row(name, name, "worker") for name in (*TENANTS, "probe")))
    (folder / "tenants").chmod(0o600)
    (folder / "conf").write_text(CONFIG.format(folder=folder, disk=8 * limit_bytes))
    daemon = Daemon(folder, f"{options.memory}M", ["--config", folder / "conf"])
    daemon.metrics = str(folder / "metrics.sock")
    before, samples = State(daemon), []
    kept = max(4, int(2 * limit_bytes / SESSION_BYTES / options.clients))
    context = multiprocessing.get_context("spawn")
    ended, results, probed = context.Event(), context.Queue(), context.Queue()
    workers = [context.Process(target=run_client, args=(daemon.socket, token(TENANTS[index % len(TENANTS)]),
                                                        index % len(TENANTS), index + 1, kept, ended, results))
               for index in range(options.clients)]
    workers.append(context.Process(target=run_probe, args=(daemon.socket, ended, probed)))
    for worker in workers:
        worker.start()
    try:
        watch(daemon, options.seconds, samples)
        requests = sum(value for key, value in State(daemon).metrics.items() if key[0] == "kvquantd_requests_total")
    finally:
        ended.set()
    counts = [results.get(timeout=600) for _ in range(options.clients)]
    milliseconds = probed.get(timeout=600)
    for worker in workers:
        worker.join(60)
    failed = [count for count in counts if isinstance(count, Exception)]
    after = settled(daemon, before)
    assert daemon.stop() == 0, daemon.log.read_text()
    return {"samples": numpy.array(samples, float), "before": before, "after": after, "milliseconds": milliseconds,
            "requests": int(requests), "log": daemon.log.read_text(), "limit_bytes": limit_bytes, "failed": failed,
            "counts": {key: sum(count.get(key, 0) for count in counts if isinstance(count, dict))
                       for key in sorted({key for count in counts if isinstance(count, dict) for key in count})}}


def measured(found):
    """Those samples that are not of the warm-up."""
    samples = found["samples"]
    return samples[samples[:, 0] >= WARM_UP * samples[-1, 0]]


def growth(samples, column):
    """By a straight line through the samples, over all of their time."""
    seconds = samples[:, 0]
    return numpy.polyfit(seconds, samples[:, column], 1)[0] * (seconds[-1] - seconds[0])


def p99(rows, first, last, end):
    """In the middle of ten parts of that share of the time, in milliseconds."""
    parts = numpy.linspace(first * end, last * end, 11)
    split = [rows[(rows[:, 0] >= a) & (rows[:, 0] < b), 1] for a, b in zip(parts, parts[1:])]
    return statistics.median(numpy.percentile(part, 99) for part in split if len(part))


def ends(found, probe):
    rows = found["milliseconds"][probe]
    end = rows[-1, 0]
    return p99(rows, WARM_UP, (1 + WARM_UP) / 2, end), p99(rows, (1 + WARM_UP) / 2, 1, end)


def unknown_lines(log):
    return [line for line in log.splitlines() if not KNOWN.search(line)]


def print_table(found):
    samples, before, after = measured(found), found["before"], found["after"]
    hours = (samples[-1, 0] - samples[0, 0]) / 3600
    print("| what | |\n|---|---|")
    print(f"| requests, and what clients did | {found['requests']}: {found['counts']} |")
    print(f"| on disk, of the memory limit | {samples[:, 5].mean() / found['limit_bytes']:.2f} x |")
    for name, column in (("own memory", 1), ("resident", 2)):
        grown, mean = growth(samples, column), samples[:, column].mean()
        print(f"| {name}: mean, growth | {mean / 2**20:.1f} MiB, {grown / 2**10:+.0f} KiB in {60 * hours:.1f} min "
              f"({100 * grown / mean / hours:+.3f} % an hour) |")
    quarters = ", ".join(f"{part[:, 1].mean() / 2**20:.2f}" for part in numpy.array_split(samples, 4))
    print(f"| own memory by quarters of that | {quarters} MiB |")
    print(f"| own memory before, after all is deleted | {before.own_bytes / 2**20:.1f}, {after.own_bytes / 2**20:.1f} MiB |")
    print(f"| in use before, after all is deleted | {before.of('memory_used_bytes') / 2**20:.2f}, "
          f"{after.of('memory_used_bytes') / 2**20:.2f} MiB |")
    print(f"| files before, most, after | {before.files}, {samples[:, 3].max():.0f}, {after.files} |")
    for probe in PROBES:
        start, end = ends(found, probe)
        print(f"| {probe}, p99 at the start and the end | {start:.2f}, {end:.2f} ms |")


def faults(found):
    """What does not hold, in words."""
    samples, before, after = measured(found), found["before"], found["after"]
    hours = (samples[-1, 0] - samples[0, 0]) / 3600
    for error in found["failed"]:
        yield f"a client failed: {error!r}"
    if samples[:, 4].max() > found["limit_bytes"]:
        yield "more than the limit was in use"
    if growth(samples, 1) > GROWTH_BYTES + GROWTH_PER_HOUR * hours * samples[:, 2].mean():
        yield "the daemon's own memory grew"
    if after.files > before.files:
        yield f"{after.files - before.files} files are open still: {after.links}, before {before.links}"
    for name in ("sessions", "tokens", "stored_bytes", "disk_bytes"):
        if left := after.tenants(name):
            yield f"something is left of {name}, by tenant: {left}"
    for part in ("pages", "tails"):
        if left := after.of("memory_part_bytes", "part", part):
            yield f"{left} bytes of {part} are in use still"
    if after.of("memory_used_bytes") > before.of("memory_used_bytes") + KEPT_BYTES:
        yield "more memory is in use than tables that stay as large as they were take"
    for line in unknown_lines(found["log"]):
        yield f"the log says: {line}"
    for probe in PROBES:
        start, end = ends(found, probe)
        if end > P99_RATIO_MAX * start and end > P99_NOISE_MS:
            yield f"{probe} takes longer at the end than at the start"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--memory", type=int, default=128, help="the limit in MiB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options, pathlib.Path(folder))
    print_table(found)
    wrong = list(faults(found))
    for fault in wrong:
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
