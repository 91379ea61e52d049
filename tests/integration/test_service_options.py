"""Command line and configuration file: what is taken, and how a mistake is told."""

import pathlib
import re
import stat
import subprocess
from os import stat as status_of

import pytest
from certificates import Authority
from conftest import COMMAND_SECONDS, ROOT, program
from wire import Closed, Connection, Geometry
from wire_support import SMALL, TINY, append, assert_ends, assert_serves, bits, refused, wait_until

SHIPPED = ROOT / "config" / "kvquantd.conf"


def run(*arguments):
    return subprocess.run([program("KVQUANTD", "kvquantd"), *map(str, arguments)], capture_output=True,
                          text=True, errors="replace", timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)


def check(tmp_path, text):
    """--check-config of a file with this text."""
    path = tmp_path / "test.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return run("--check-config", "--config", path)


def start_with(start_daemon, tmp_path, text, **options):
    path = tmp_path / "test.conf"
    path.write_text(text)
    return start_daemon(arguments=["--config", path], **options)


def test_help_names_every_option_on_stdout():
    done = run("--help")
    assert done.returncode == 0 and not done.stderr
    for option in ("--config", "--socket", "--memory", "--log-level", "--check-config", "--version", "--help"):
        assert option in done.stdout


def test_version_is_one_line_on_stdout():
    done = run("--version")
    assert done.returncode == 0 and not done.stderr
    assert re.fullmatch(r"kvquantd \d+\.\d+\.\d+\n", done.stdout)


def test_the_version_is_the_one_clients_are_told(daemon):
    with Connection(daemon.socket) as connection:
        assert connection.stats().version in run("--version").stdout


@pytest.mark.parametrize("arguments", [
    ["--unknown"], ["-x"], ["--socket"], ["--memory"], ["--config"], ["--log-level"], ["word"], ["--memory="],
    ["--memory", "much"], ["--memory", "0"], ["--memory", "-1"], ["--memory", "1X"], ["--memory", "64MB "],
    ["--memory", ""], ["--memory", "1K"], ["--memory", "99999999999999999999"], ["--memory", "17179869184G"],
    ["--log-level", "loud"], ["--socket", ""],
], ids=" ".join)
def test_wrong_usage_exits_2_and_says_what_is_wrong(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip() and not done.stdout


@pytest.mark.parametrize("value", ["much", "0", "1X", "1K", "99999999999999999999"])
def test_a_wrong_memory_size_is_told_what_is_allowed(value):
    error = run("--memory", value).stderr
    assert value in error and re.search(r"\d+[MG]", error)


@pytest.mark.parametrize("text", [
    "", "# nothing\n", "; nothing\n", "\n\n  \n", "memory = 2G", "memory=2G\n", "  memory   =   512M  \n",
    "level = exact\n", "level = 5\n", "log_level = debug\r\n", "memory = 64M ; small\n",
    "socket = /run/kvquantd/kvquantd.sock\nmemory = 1T\nreactors = 4\n",
], ids=repr)
def test_a_valid_file_is_said_to_be_valid(tmp_path, text):
    done = check(tmp_path, text)
    assert done.returncode == 0, done.stderr


BAD_LINES = {
    "an option there is not": "memmory = 1G",
    "a size that is none": "memory = much",
    "a size too small": "memory = 1K",
    "a size beyond 64 bits": "memory = 99999999999999999999",
    "a size that overflows with its unit": "memory = 99999999999999T",
    "a negative size": "memory = -1G",
    "no value": "memory =",
    "no equals sign": "memory",
    "a level there is not": "level = 6",
    "a level in other words": "level = EXACT",
    "a number too large": "reactors = 100000",
    "no reactor": "reactors = 0",
    "a number with a fraction": "reactors = 1.5",
    "hexadecimal": "reactors = 0x2",
    "a time without a unit": "append_wait = 2",
    "a time of another unit": "append_wait = 2h",
    "a mode with a digit 8": "socket_mode = 0688",
    "a log level there is not": "log_level = loud",
    "a section": "[memory]\nlimit = 1G",
    "a line of 5,000 bytes": "socket = /" + "s" * 5000,
    "bytes that are no text": "\udcff\udcfe = 1",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_mistake_is_told_with_its_file_and_line(tmp_path, line):
    text = ("# first line\n\nlevel = 3\n" + line + "\n").encode("utf-8", "surrogateescape")
    done = check(tmp_path, text)
    assert done.returncode not in (0, -6, -11)
    assert str(tmp_path / "test.conf") in done.stderr
    assert re.search(r"\b[45]\b", done.stderr.replace(str(tmp_path), "")), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("line,allowed", [
    ("memory = much", "512M"), ("level = 6", "exact, fast8, 0, 1, 2, 3, 4, 5"),
    ("log_level = loud", "error, warning, info, debug"), ("reactors = 0", "1 to"),
    ("append_wait = 2", "500ms"), ("socket_mode = 999", "octal"), ("memmory = 1G", "memory"),
], ids=lambda text: text)
def test_a_mistake_is_told_what_is_allowed(tmp_path, line, allowed):
    assert allowed in check(tmp_path, line + "\n").stderr


def test_a_limit_below_what_the_daemon_itself_needs_is_told_with_that_need(tmp_path):
    done = check(tmp_path, "memory = 32M\nreactors = 64\n")
    assert done.returncode == 2
    need = re.search(r"memory = 32M: with 64 reactors and 1 codec threads the daemon itself needs (\d+M)",
                     done.stderr)[1]
    done = check(tmp_path, f"memory = {need}\nreactors = 64\n")
    assert done.returncode == 0, done.stderr


def test_the_least_limit_is_enough_for_the_default_reactors(start_daemon):
    assert_serves(start_daemon(memory="32M"))


def test_the_first_mistake_is_the_one_that_is_told(tmp_path):
    error = check(tmp_path, "level = 7\nmemory = much\n").stderr
    assert "level" in error and "much" not in error


def test_a_daemon_with_a_mistake_in_its_file_does_not_start(tmp_path):
    (tmp_path / "test.conf").write_text("level = 7\n")
    path = tmp_path / "kvquantd.sock"
    done = run("--config", tmp_path / "test.conf", "--socket", path)
    assert done.returncode not in (0, -6, -11)
    assert "level" in done.stderr and not path.exists()


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["none", "a folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, make):
    path = tmp_path / "test.conf"
    make(path)
    done = run("--check-config", "--config", path)
    assert done.returncode not in (0, -6, -11)
    assert str(path) in done.stderr


def test_the_shipped_file_is_valid():
    assert run("--check-config", "--config", SHIPPED).returncode == 0


def test_the_shipped_file_documents_every_option(tmp_path):
    told = check(tmp_path, "no_such_option = 1\n").stderr
    names = re.findall(r"[a-z_]+", told.split("there are")[1])
    assert len(names) >= 5
    shipped = SHIPPED.read_text()
    for name in names:
        assert re.search(rf"^[#;]?\s*{name}\s*=", shipped, re.MULTILINE), name


def test_the_defaults_in_the_shipped_file_are_valid_values(tmp_path):
    commented = re.findall(r"^[#;]\s?([a-z_]+ = .*)$", SHIPPED.read_text(), re.MULTILINE)
    assert commented
    (tmp_path / "tenants").write_text(f"token {'0' * 64} default worker\ncertificate worker default worker\n")
    authority = Authority(tmp_path / "ca")
    server = authority.server()
    files = {"tenants": tmp_path / "tenants", "server.crt": server.certificate, "server.key": server.key,
             "clients-ca.crt": authority.certificate, "clients.crl": authority.revoke()}
    text = "\n".join(commented)
    for name, path in files.items():
        text = text.replace(f"/etc/kvquant/{name}", str(path))
    done = check(tmp_path, text)
    assert done.returncode == 0, done.stderr


def test_check_config_starts_no_daemon(tmp_path):
    path = tmp_path / "kvquantd.sock"
    assert run("--check-config", "--socket", path).returncode == 0
    assert not path.exists()


def test_the_command_line_overrides_the_file(start_daemon, tmp_path):
    daemon = start_with(start_daemon, tmp_path, "memory = 2G\nsocket = /not/there\n", memory="64M")
    with Connection(daemon.socket) as connection:
        assert connection.stats().limit_bytes == 64 << 20


def test_the_files_level_is_that_of_sessions_opened_without_one(start_daemon, tmp_path):
    with Connection(start_with(start_daemon, tmp_path, "level = exact\n").socket) as connection:
        assert connection.open(b"chat", geometry=TINY).level == -2


def test_the_default_level_is_3(daemon):
    with Connection(daemon.socket) as connection:
        assert connection.open(b"chat", geometry=TINY).level == 3


def test_the_files_socket_mode_is_that_of_the_socket(start_daemon, tmp_path):
    daemon = start_with(start_daemon, tmp_path, "socket_mode = 0600\n")
    assert stat.S_IMODE(status_of(daemon.socket).st_mode) == 0o600


def test_the_files_append_wait_is_that_of_appends_without_one(start_daemon, tmp_path):
    daemon = start_with(start_daemon, tmp_path, "append_wait = 100ms\n", memory="64M")
    wide = Geometry(layers=8, heads=4, head_dim_k=64, head_dim_v=64)
    arrays = bits(wide, 1024)
    with Connection(daemon.socket) as connection, refused("full"):
        for number in range(20):
            append(connection.open(b"%d" % number, geometry=wide, level=-2), arrays)
            connection.pin(b"%d" % number, 60000)


@pytest.mark.parametrize("reactors", [1, 2, 8])
def test_any_number_of_reactors_serves(start_daemon, tmp_path, reactors):
    daemon = start_with(start_daemon, tmp_path, f"reactors = {reactors}\n")
    clients = [Connection(daemon.socket) for _ in range(20)]
    for number, client in enumerate(clients):
        append(client.open(b"%d" % number, geometry=SMALL), bits(SMALL, 50))
    for client in clients:
        assert len(client.list().sessions) == 20
        client.close()


def test_connections_beyond_the_most_are_turned_away_and_those_there_served(start_daemon, tmp_path):
    daemon = start_with(start_daemon, tmp_path, "connections = 4\n")
    clients = [Connection(daemon.socket)]
    wait_until(lambda: clients[0].stats().connections == 1)  # the fixture's own has gone
    clients += [Connection(daemon.socket) for _ in range(3)]
    with pytest.raises((Closed, ConnectionError)):
        Connection(daemon.socket)
    for client in clients:
        client.ping()
    clients.pop().close()
    for client in clients:
        client.ping()
        client.close()


def log_of(start_daemon, level):
    """What a daemon logs of a client that is served, then refused, then breaks the framing."""
    daemon = start_daemon(arguments=["--log-level", level])
    assert_serves(daemon)
    with Connection(daemon.socket) as connection:
        with refused("miss"):
            connection.info(b"not there")
        connection.send(bytes(24))
        assert_ends(connection, "protocol")
    assert daemon.stop() == 0
    return daemon.log.read_text().splitlines()


def test_a_coarser_log_level_says_less(start_daemon):
    lines = {level: log_of(start_daemon, level) for level in ("error", "warning", "info", "debug")}
    assert lines["error"] == []
    assert len(lines["error"]) <= len(lines["warning"]) <= len(lines["info"])
    assert lines["info"] and len(lines["debug"]) > len(lines["info"])


def test_every_log_line_names_its_level(start_daemon):
    for line in log_of(start_daemon, "debug"):
        assert re.search(r"\b(error|warning|info|debug)\b", line), line


def test_a_hostile_client_name_does_not_break_log_lines(start_daemon):
    daemon = start_daemon(arguments=["--log-level", "debug"])
    with Connection(daemon.socket, hello=False) as raw:
        raw.call(1, "Hello", version_min=1, version_max=1, client="a\nkvquantd: error: forged\x1b[2J%s%n")
    assert_serves(daemon)
    assert daemon.stop() == 0
    log = pathlib.Path(daemon.log).read_text()
    assert "\nkvquantd: error: forged" not in log and "\x1b" not in log
