"""`kvq doctor` beside a real daemon: its lines, its JSON, its exit status."""

import os

import pytest
from certificates import Authority
from conftest import Command
from tenant_support import Tenants, row

CHECKS = {"daemon", "memory", "swap", "config", "disk speed", "clock", "unit"}  # some of each group


@pytest.fixture
def configured(start_daemon, tmp_path):
    """A daemon with this text as its configuration, and the command for it."""
    def start(text=""):
        config = tmp_path / "kvquantd.conf"
        config.write_text(text)
        config.chmod(0o600)
        return Command(start_daemon(arguments=["--config", str(config)]).socket)
    return start


def by_name(kvq, *arguments):
    return {row["check"]: row for row in kvq.json("doctor", *arguments)}


def test_a_daemon_that_is_well_is_found_so(configured, tmp_path):
    rows = by_name(configured(f"disk = {tmp_path}/pool\ndisk_size = 64M\n"))
    assert CHECKS <= set(rows)
    for name in ("daemon", "state", "versions", "config", "disk folder", "disk room"):
        assert rows[name]["state"] == "ok" and rows[name]["advice"] is None, rows[name]
    assert "MiB/s" in rows["disk speed"]["found"]
    assert str(tmp_path / "kvquantd.conf") in rows["config"]["found"]


def test_a_line_says_the_state_and_what_to_do(configured):
    result = configured()("doctor")
    assert result.returncode == 0, result.stdout
    lines = {line[6:18].strip(): line for line in result.stdout.splitlines()}
    assert set(lines) >= CHECKS
    assert lines["daemon"].startswith("ok ")
    assert lines["tenants"].startswith("warn ") and " -> " in lines["tenants"]


def test_what_fails_makes_the_exit_status(configured, tmp_path):
    kvq = configured(f"disk = {tmp_path}/pool\ndisk_size = 64M\n")
    os.chmod(tmp_path / "pool", 0o755)
    result = kvq("doctor")
    assert result.returncode == 1
    assert any(line.startswith("fail  disk folder") and "chmod 700" in line for line in result.stdout.splitlines())


def test_without_a_daemon_the_rest_is_checked(tmp_path):
    config = tmp_path / "kvquantd.conf"
    config.write_text("memory = 900T\n")
    result = Command("/none")("doctor", "--config", config)
    failed = [line[6:18].strip() for line in result.stdout.splitlines() if line.startswith("fail")]
    assert result.returncode == 1 and failed == ["daemon", "memory"]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_user_is_told_what_could_not_be_seen(tmp_path):
    config = tmp_path / "kvquantd.conf"
    config.write_text("")
    config.chmod(0o600)

    def become_nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    result = Command("/none")("doctor", "--config", config, preexec_fn=become_nobody)
    unseen = [line[6:18].strip() for line in result.stdout.splitlines() if "run this as root" in line]
    assert unseen == ["config", "tenants", "disk folder", "disk key", "TLS key", "certificate",
                      "clients' CA", "disk room", "disk speed"]


def test_a_daemon_that_knows_no_tenant_of_this_user_is_told_apart_from_one_that_is_not_there(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, row("known", "chat", "worker"))
    result = Command(tenants.daemon.socket)("doctor")
    assert result.returncode == 1
    assert result.stdout.startswith("fail  daemon") and "--token-file" in result.stdout.splitlines()[0]


@pytest.mark.parametrize("days, state", [(400, "ok"), (3, "warn"), (-1, "fail")])
def test_a_certificate_is_told_of_before_it_expires(tmp_path, days, state):
    server = Authority(tmp_path / "ca").server(days=days)
    config = tmp_path / "kvquantd.conf"
    config.write_text(f"tls_certificate = {server.certificate}\n")
    lines = Command("/none")("doctor", "--config", config).stdout.splitlines()
    [line] = [line for line in lines if line[6:18].strip() == "certificate"]
    assert line.startswith(state)
