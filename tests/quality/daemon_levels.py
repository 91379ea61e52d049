"""The daemon's levels as rows of the tables: through a daemon of this run's own, and back."""

import contextlib
import pathlib
import subprocess
import tempfile
import time

import kvquantd
from continuation import squares
from samples import AT_REST, Row, decibels

LEVELS = ["exact", "fast8", 0, 1, 2, 3, 4, 5]
ACTIVE_LEVELS = [2, 3, 4]
MEMORY_MIN_BYTES = 256 << 20
START_SECONDS = STOP_SECONDS = 20
SETTLE_SECONDS = 60
REPORT_TOLERANCE_DB = 0.01


@contextlib.contextmanager
def private_daemon(program, geometry, tokens):
    """A client of a daemon that runs as long as this, with room for a session of so many tokens."""
    raw_bytes = 2 * geometry.layers * tokens * geometry.heads * (geometry.head_dim + geometry.head_dim_v)
    memory = str(MEMORY_MIN_BYTES + 2 * raw_bytes)
    with tempfile.TemporaryDirectory(prefix="kvquant-quality-") as folder:
        socket, log = f"{folder}/kvquantd.sock", pathlib.Path(folder, "kvquantd.log")
        with open(log, "wb") as output:
            process = subprocess.Popen([program, "--socket", socket, "--memory", memory],
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            with connected(socket, process, log) as client:
                yield client
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def connected(socket, process, log):
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return kvquantd.connect(socket)
        except kvquantd.CannotConnect:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"kvquantd did not start:\n{log.read_text()}") from None
            time.sleep(0.02)


def level_name(level):
    return f"level {level}" if isinstance(level, int) else level


class Level:
    """A session at a level. Idle: all of it is coded. Active: the tail is as it came."""

    def __init__(self, client, judge, level, active=False):
        self.client, self.judge, self.level, self.active = client, judge, level, active
        self.places = {str(level), "sinks"} | ({"tail"} if active else set())
        counted = "all that the daemon counts for the session: pages, sinks, directories"
        self.row = Row(level_name(level) + (", active" if active else ""), AT_REST,
                       counted + (", the tail in float16" if active else ""))

    def sample(self, continuation):
        k, v, info = self.through(continuation)
        sample = continuation.sample(self.row, info["stored_bytes"], k, v)
        if self.level == "exact":
            check_lossless(sample, (continuation.k, continuation.v), (k, v))
        return sample

    def through(self, continuation):
        """K and V as they come back, and what the daemon says of them."""
        session = self.client.open("quality", model=self.judge.name, geometry=self.judge.geometry,
                                   level=self.level, new=True)
        try:
            session.append(continuation.k, continuation.v, settle=not self.active)
            info = self.settled(session)
            self.check_report(continuation, session, info)
            return *session.fetch(), info
        finally:
            self.client.delete(session.name)

    def settled(self, session):
        """The daemon's account, once nothing is left at a finer level than it will be."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            info = session.info()
            found = {str(part["level"]) for part in info["levels"]}
            if found <= self.places:
                return info
            if not self.active or time.monotonic() > end:
                raise SystemExit(f"asked for {self.row.name}, info() speaks of {found}")
            time.sleep(0.02)

    def check_report(self, continuation, session, info):
        """The daemon's own account of the loss, which is of values as float32, must be true. It does
        not count a tail as coded."""
        if self.active:
            return
        reported = info["snr_k_db"], info["snr_v_db"]
        came = session.fetch(dtype="float32")
        losses = (squares(*pair) for pair in zip((continuation.k, continuation.v), came))
        measured = [decibels(energy, error) for error, energy in losses]
        for said, found in zip(reported, measured):
            agree = (said == found if None in (said, found)
                     else abs(said - found) < REPORT_TOLERANCE_DB)
            if not agree:
                raise SystemExit(f"{continuation.text}, {self.row.name}: info() says {reported} dB of K "
                                 f"and V, measured are {measured}")


def check_lossless(sample, given, restored):
    same = all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in zip(given, restored))
    if not same:
        raise SystemExit(f"{sample.text}: level exact does not give the bits back")
    if sample.divergence.any() or not sample.same.all():
        raise SystemExit(f"{sample.text}: the model says something else of the same bits: "
                         f"KLD {sample.divergence.mean():.3g}")


def daemon_levels(client, judge, levels, active):
    return ([Level(client, judge, level) for level in levels]
            + [Level(client, judge, level, True) for level in active])
