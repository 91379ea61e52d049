"""Fixtures for whole-system tests: a daemon of one's own on a socket in tmp_path, and the kvq command.

KVQUANTD and KVQ name the programs under test; without them those under build/ are taken.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS = 20
STOP_SECONDS = 20


def program(variable, default):
    return os.environ.get(variable) or str(ROOT / "build" / default)


class Daemon:
    """A running kvquantd. `log` is the file that takes its stderr."""

    def __init__(self, folder, memory="256M", arguments=(), environment=None):
        self.socket = str(folder / "kvquantd.sock")
        self.log = folder / "kvquantd.log"
        command = [program("KVQUANTD", "kvquantd"), "--socket", self.socket, "--memory", memory]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
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
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(START_SECONDS)
        connection.connect(self.socket)
        return connection

    def wait_until_it_answers(self):
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
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


@pytest.fixture
def start_daemon(tmp_path):
    """start_daemon(memory="64M", arguments=[...]) starts one more daemon, each with its own folder.

    Those that still run at the test's end are stopped and must exit 0.
    """
    daemons = []

    def start(memory="256M", arguments=(), environment=None, folder=None):
        if folder is None:
            folder = tmp_path / f"daemon{len(daemons)}"
        folder.mkdir(exist_ok=True)
        daemons.append(Daemon(folder, memory, arguments, environment))
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

    def __call__(self, *arguments, timeout=120, **options):
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
