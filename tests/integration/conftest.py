"""Fixtures for whole-system tests: a daemon of one's own on a socket in tmp_path, and the kvq command.

KVQUANTD and KVQ name the programs under test; without them those under build/ are taken.
"""

import json
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from wire import connect

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANITIZED = bool(os.environ.get("KVQ_SANITIZE"))
SLOWNESS = 10 if SANITIZED else 1  # of the programs under test: the thread sanitizer takes that
START_SECONDS = 60 * SLOWNESS
STOP_SECONDS = 60 * SLOWNESS
COMMAND_SECONDS = 120 * SLOWNESS
# What a bound on the daemon's RSS allows over the memory limit: program, stacks, allocator. A
# sanitizer's shadow and quarantine are several times the program's memory: no bound says anything.
RSS_SLACK_BYTES = math.inf if SANITIZED else 64 << 20


def program(variable, default):
    return os.environ.get(variable) or str(ROOT / "build" / default)


# Hands descriptors over as sd_listen_fds(3) wants it: from descriptor 3 on, to this process.
ACTIVATE = """
import fcntl, os, sys
numbers, names, command = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 100) for number in numbers]
for index, copy in enumerate(copies):
    os.dup2(copy, 3 + index)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execv(command[0], command)
"""


def activated(command, sockets, kept=()):
    """The command that runs this one with these sockets handed over, and then these pairs of a name and a
    descriptor that the service manager kept; all go into pass_fds.
    """
    numbers = ",".join(str(one) for one in [*(one.fileno() for one in sockets), *(file for _, file in kept)])
    names = ":".join([*("kvquantd.socket" for _ in sockets), *(name for name, _ in kept)]) if kept else ""
    return [sys.executable, "-c", ACTIVATE, numbers, names, *command]


def address_of(listening):
    """As Connection takes it."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return name
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


class Daemon:
    """A running kvquantd. `log` is the file that takes its stderr.

    With `listening` sockets it is activated by them, and `socket` is the first one's address. `kept` are pairs
    of a name and a descriptor, from the service manager's store.
    """

    def __init__(self, folder, memory="256M", arguments=(), environment=None, listening=(), kept=()):
        self.socket = str(folder / "kvquantd.sock")
        self.log = folder / "kvquantd.log"
        command = [program("KVQUANTD", "kvquantd"), "--socket", self.socket]
        command += ["--memory", memory] if memory else []
        if os.geteuid() != 0:  # what /proc tells of a daemon is else root's alone
            command += ["--core-files", "yes"]
        if listening:
            self.socket = address_of(listening[0])
        if "--tcp" in arguments or any(one.family != socket.AF_UNIX for one in listening):
            command += ["--tcp-token", "no"]  # who wants it says so behind this
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                activated([*command, *arguments], listening, kept) if listening or kept
                else [*command, *arguments],
                pass_fds=[*(one.fileno() for one in listening), *(file for _, file in kept)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        try:
            self.wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self):
        return self.process.pid

    def connect(self):
        """A raw connection, for tests that speak the protocol themselves."""
        return connect(self.socket, START_SECONDS)

    def connect_and_leave(self):
        """Returns once the daemon has seen both: then it has begun, and its log says so."""
        with self.connect() as connection:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    def wait_until_it_answers(self):
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect_and_leave()
                return
            except OSError as error:
                if self.process.poll() is not None:
                    status, text = self.process.returncode, self.log.read_text()
                    raise RuntimeError(f"kvquantd ended with {status}:\n{text}") from error
                if time.monotonic() > end:
                    raise RuntimeError(f"no daemon on {self.socket} after {START_SECONDS} s") from error
                time.sleep(0.01)

    def rss_bytes(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the daemon is gone")

    def stop(self):
        """SIGTERM, then its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self):
        self.process.kill()
        self.process.wait()


def sanitizer_reports():
    folder = os.environ.get("KVQ_SANITIZER_REPORTS")
    return set(pathlib.Path(folder).iterdir()) if folder else set()


@pytest.fixture(autouse=True)
def no_sanitizer_reports():
    """What a program under test is found to do wrong fails the test, whatever its exit status."""
    before = sanitizer_reports()
    yield
    new = sorted(sanitizer_reports() - before)
    assert not new, "\n".join(report.read_text(errors="replace") for report in new)


@pytest.fixture
def start_daemon(tmp_path):
    """start_daemon(memory="64M", arguments=[...]) starts one more daemon, each with its own folder.

    Those that still run at the test's end are stopped and must exit 0.
    """
    daemons = []

    def start(memory="256M", arguments=(), environment=None, folder=None, listening=(), kept=()):
        if folder is None:
            folder = tmp_path / f"daemon{len(daemons)}"
        folder.mkdir(exist_ok=True)
        daemons.append(Daemon(folder, memory, arguments, environment, listening, kept))
        return daemons[-1]

    yield start
    failures = []
    for daemon in daemons:
        if daemon.process.returncode is not None:
            continue
        try:
            status = daemon.stop()
        except subprocess.TimeoutExpired:
            daemon.kill()
            status = f"still running {STOP_SECONDS} s after SIGTERM"
        if status != 0:
            failures.append(f"kvquantd exit status: {status}\n{daemon.log.read_text()}")
    assert not failures, "\n".join(failures)


@pytest.fixture
def daemon(request, start_daemon):
    """One daemon; @pytest.mark.memory("64M") sets its limit."""
    marker = request.node.get_closest_marker("memory")
    return start_daemon(memory=marker.args[0] if marker else "256M")


class Command:
    """Runs kvq against one socket: kvq("info", "a") gives a CompletedProcess with text output."""

    def __init__(self, path):
        self.socket = path

    def __call__(self, *arguments, timeout=COMMAND_SECONDS, **options):
        command = [program("KVQ", "kvq"), *map(str, arguments)]
        environment = {**os.environ, "KVQ_SOCKET": self.socket}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment, **options
        )

    def json(self, *arguments):
        """The output of a command that must succeed, parsed."""
        result = self(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture
def kvq(daemon):
    return Command(daemon.socket)


def pytest_configure(config):
    config.addinivalue_line("markers", "memory(size): the daemon's memory limit, as in --memory")
