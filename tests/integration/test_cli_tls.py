"""kvq over TLS, and the commands of client/TLS.md, which are run here as they stand there."""

import os
import pathlib
import re
import subprocess

import pytest
from conftest import COMMAND_SECONDS, ROOT, Command, program
from tls_support import TlsDaemon

PAGE = (ROOT / "client/TLS.md").read_text()


@pytest.fixture
def tls(start_daemon, tmp_path):
    return TlsDaemon(start_daemon, tmp_path)


def options_of(tls, name="worker", **options):
    certificate, key = tls.authority.client(name, **options)
    return ["--tls-ca", tls.authority.certificate, "--tls-certificate", certificate, "--tls-key", key]


def test_options_name_the_files(tls):
    assert Command(tls.address).json("ping", *options_of(tls))["tenant"] == "chat"


def test_options_go_before_the_environment(tls, monkeypatch):
    certificate, key = tls.authority.client("other")
    for name, file in ("CA", tls.authority.certificate), ("CERTIFICATE", certificate), ("KEY", key):
        monkeypatch.setenv(f"KVQ_TLS_{name}", str(file))
    kvq = Command(tls.address)
    assert kvq.json("ping")["tenant"] == "mail"
    assert kvq.json("ping", *options_of(tls))["tenant"] == "chat"


def test_a_name_is_what_the_daemons_certificate_must_bear(tls):
    kvq = Command(tls.address)
    assert kvq("ping", *options_of(tls), "--tls-name", "localhost").returncode == 0
    done = kvq("ping", *options_of(tls), "--tls-name", "example.com")
    assert done.returncode == 1 and "does not name example.com" in done.stderr


@pytest.mark.parametrize("change, says", [
    (lambda given: given[:2], "it wants one"), (lambda given: given[2:], "no CA"), (lambda given: [], "--tls-ca"),
    (lambda given: given[:4], "both or not at all"), (lambda given: given[:5] + given[3:4], "chmod 600")])
def test_a_failure_is_one_line_that_says_what_to_do(tls, change, says):
    done = Command(tls.address)("ping", *change(options_of(tls)))
    assert done.returncode == 1 and done.stderr.startswith("kvq: ") and done.stderr.count("\n") == 1
    assert says in done.stderr


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def shell(commands, folder):
    path = f"{pathlib.Path(program('KVQ', 'kvq')).resolve().parent}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-euc", commands], cwd=folder, env={**os.environ, "PATH": path}, text=True,
                          capture_output=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pages_commands_make_a_daemon_and_a_worker_that_know_each_other(start_daemon, tmp_path):
    *making, using = blocks("sh")
    (config,), (tenants,) = blocks("conf"), blocks("tenants")
    shell("".join(making), tmp_path)
    (tmp_path / "tenants").write_text(tenants)
    (tmp_path / "kvquantd.conf").write_text(config.replace(":7421", ":0"))
    daemon = start_daemon(arguments=["--config", tmp_path / "kvquantd.conf"],
                          environment={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    port = re.search(r"Listening on .*?127\.0\.0\.1(:\d+)", daemon.log.read_text())[1]
    assert "a worker of the tenant chat" in shell(using.replace(":7421", port), tmp_path)
