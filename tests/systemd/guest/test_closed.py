"""What the daemon cannot do, seen from within its own namespaces and limits."""

import pathlib
import subprocess

import pytest
from service import peek, uid_of


def writes(service, path):
    """Whether the daemon's user can make this file where the daemon is."""
    uid = uid_of(service.pid)
    done = subprocess.run(["nsenter", "--target", str(service.pid), "--mount", "setpriv", "--reuid", str(uid),
                           "--regid", str(uid), "--clear-groups", "touch", path], capture_output=True, text=True)
    assert done.returncode == 0 or "touch: " in done.stderr, done.stderr
    return done.returncode == 0


@pytest.fixture
def running(service):
    service.kvq("ping")
    return service


def test_it_writes_where_it_has_to_and_nowhere_else(running):
    for path in ("/var/lib/kvquantd/new", "/run/kvquantd/new"):
        assert writes(running, path)
        pathlib.Path(path).unlink()
    for folder in ("/usr", "/etc/kvquant", "/var", "/var/lib", "/home", "/root", "/boot", "/run"):
        assert not writes(running, f"{folder}/new")


def test_it_has_no_network_but_its_own(running):
    interfaces = running.run("nsenter", "--target", running.pid, "--net", "cat", "/proc/net/dev")
    assert [line.split(":")[0].strip() for line in interfaces.splitlines()[2:]] == ["lo"]


def test_it_has_no_capability_and_cannot_get_one(running):
    status = dict(line.split(":\t", 1) for line in peek(running.pid, "status").decode().splitlines() if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


def test_no_core_can_be_written_of_it(running):
    limits = peek(running.pid, "limits").decode()
    assert ["Max", "core", "file", "size", "0", "0", "bytes"] in [line.split() for line in limits.splitlines()]


def test_what_it_can_write_it_cannot_run(running):
    mounts = [line.split() for line in peek(running.pid, "mountinfo").decode().splitlines()]
    options = {mount[4]: set(mount[5].split(",")) for mount in mounts}  # the last is on top
    for folder in ("/var/lib/kvquantd", "/run/kvquantd", "/tmp", "/var/tmp", "/dev/shm"):
        assert {"rw", "noexec", "nosuid"} <= options[folder]


def test_a_recall_plugin_is_loaded(service):
    plugin = next(pathlib.Path("/usr/lib").rglob("recall-hnswlib.so"))
    service.configure(recall_plugin=plugin)
    service.kvq("ping")
    assert str(plugin).encode() in peek(service.pid, "maps")
    assert "recall_plugin" not in service.journal("PRIORITY=3")
