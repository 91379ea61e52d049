"""What outlives the process: the pool in the service manager's keeping, and what is on disk."""

import os
import pathlib
import signal

import pytest
from service import wait_until


def test_a_restart_keeps_sessions(service):
    stored, pid = service.store("chat"), service.pid
    service.restart()
    assert service.pid != pid
    assert service.fetch("chat") == stored


def test_a_stop_lets_go(service):
    service.store("chat")
    service.run("systemctl", "stop", service.UNIT)
    assert service.show("NFileDescriptorStore") == "0"
    assert not service.has("chat")


def test_a_client_that_comes_while_it_restarts_is_served(service):
    stored = service.store("chat")
    service.run("systemctl", "--no-block", "restart", service.UNIT)
    assert service.fetch("chat") == stored


def test_a_reload_applies_the_file(service):
    service.store("chat")
    service.configure(log_level="debug")
    pid = service.pid
    service.run("systemctl", "reload", service.UNIT)
    assert service.pid == pid and service.has("chat")
    assert "log_level" in service.journal()


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def abort(pid):
    os.kill(pid, signal.SIGABRT)


def hang(pid):
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize("harm", [kill, abort, hang])
def test_a_daemon_that_comes_to_harm_is_started_again_with_what_is_durable(service, harm):
    service.configure(disk="/var/lib/kvquantd")
    stored = service.store("durable", options=["--durable"])
    service.store("in-memory")
    pid = service.pid
    harm(pid)
    service.wait_for_another(pid)
    assert service.show("NRestarts") == "1"
    wait_until(lambda: service.has("durable"))
    assert service.fetch("durable") == stored
    assert not service.has("in-memory")
    journal = service.journal()
    assert "starting cold" in journal and ("Watchdog timeout" in journal) == (harm == hang)
    assert not list(pathlib.Path("/var/lib/systemd/coredump").glob("*"))
    assert not list(pathlib.Path("/var/lib/kvquantd").glob("core*"))
