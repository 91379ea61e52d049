"""TCP in the clear: off by default, refused beyond loopback unless that is wanted, and served like the unix socket."""

import re
import socket
import statistics
import struct
import subprocess
import time

import pytest
from conftest import COMMAND_SECONDS, program
from tenant_support import row, token
from wire import Connection, Geometry
from wire_support import SMALL, append, assert_ends, assert_holds, assert_serves, bits, refused, stored, wait_until

BEYOND = ["0.0.0.0:7420", "[::]:7420", "192.168.1.1:7420", "10.0.0.1:7420", "[fe80::1]:7420",
          "[::ffff:192.168.1.1]:7420", "126.255.255.255:7420", "128.0.0.1:7420"]
MALFORMED = ["127.0.0.1", "127.0.0.1:", ":7420", "7420", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:7x",
             "::1:7420", "[::1]", "[::1:7420", "127.1:7420", "127.0.0.1:000001", "[]:7420", "", "example.com:7420", "h" * 300 + ":1"]


def run(*arguments):
    return subprocess.run([program("KVQUANTD", "kvquantd"), *map(str, arguments)], capture_output=True,
                          text=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)


def tcp_address(daemon):
    """Where the log says that it listens."""
    found = re.search(r"Listening on .*?(127\.\d+\.\d+\.\d+:\d+|\[::1\]:\d+)", daemon.log.read_text())
    assert found, daemon.log.read_text()
    return found[1]


@pytest.fixture
def address(start_daemon):
    return tcp_address(start_daemon(arguments=["--tcp", "127.0.0.1:0"]))


def tcp_listeners_of(pid):
    inodes = {re.sub(r"\D", "", line) for line in
              subprocess.run(["find", f"/proc/{pid}/fd", "-lname", "socket:*", "-printf", "%l\n"],
                             capture_output=True, text=True).stdout.splitlines()}
    lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/{pid}/net/{name}").readlines()[1:]]
    return [line for line in lines if line[9] in inodes]


def test_without_the_option_there_is_no_tcp_socket(daemon):
    assert tcp_listeners_of(daemon.pid) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]"])
def test_every_loopback_address_serves(start_daemon, host):
    if host == "[::1]" and not ipv6():
        pytest.skip("this machine has no ::1")
    daemon = start_daemon(arguments=["--tcp", f"{host}:0"])
    assert len(tcp_listeners_of(daemon.pid)) == 1
    with Connection(tcp_address(daemon)) as connection:
        assert_holds(*stored(connection, b"chat", SMALL, 50))
    assert_serves(daemon)


def ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.parametrize("address", BEYOND)
def test_an_address_beyond_loopback_is_refused_because_it_needs_tls(tmp_path, address):
    done = run("--tcp", address, "--socket", tmp_path / "socket")
    assert done.returncode == 2
    assert address in done.stderr and "TLS" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "socket").exists()


@pytest.mark.parametrize("address", MALFORMED)
def test_what_is_no_address_is_refused_with_the_form_it_should_have(address):
    done = run("--tcp", address, "--check-config")
    assert done.returncode == 2
    assert "HOST:PORT" in done.stderr


def test_a_wrong_address_in_the_file_is_told_with_its_line(tmp_path):
    (tmp_path / "test.conf").write_text("# one\ntcp = example.com:7420\n")
    done = run("--check-config", "--config", tmp_path / "test.conf")
    assert done.returncode == 2
    assert f"{tmp_path}/test.conf:2" in done.stderr and "HOST:PORT" in done.stderr


def beyond(start_daemon, tmp_path, text):
    (tmp_path / "test.conf").write_text(f"tcp = 0.0.0.0:0\ntcp_beyond_loopback = yes\n{text}")
    daemon = start_daemon(arguments=["--config", tmp_path / "test.conf"])
    log = daemon.log.read_text()
    return log, "127.0.0.1:" + re.search(r"Listening on .*0\.0\.0\.0:(\d+)", log)[1]


def test_beyond_loopback_with_the_override_is_served_and_warned_of_at_every_start(start_daemon, tmp_path):
    for _ in range(2):
        log, address = beyond(start_daemon, tmp_path, "tcp_token = no\n")
        assert [line for line in log.splitlines() if "warning" in line and "tcp_beyond_loopback" in line]
        with Connection(address) as connection:
            connection.ping()


def test_beyond_loopback_a_token_is_needed_all_the_same(start_daemon, tmp_path):
    (tmp_path / "tenants").write_text(row("a", "chat", "worker"))
    _, address = beyond(start_daemon, tmp_path, f"tenants = {tmp_path / 'tenants'}\n")
    with refused("unauthenticated"):
        Connection(address)
    Connection(address, token=token("a")).close()


@pytest.mark.parametrize("value", ["kvquantd.sock", "127.0.0.1:7420"])
def test_a_socket_without_a_slash_is_refused_and_the_other_option_named(value):
    for done in (run("--socket", value, "--check-config"),
                 subprocess.run([program("KVQUANTD", "kvquantd"), "--check-config"], capture_output=True,
                                text=True, timeout=COMMAND_SECONDS, env={"KVQ_SOCKET": value})):
        assert done.returncode == 2
        assert value in done.stderr and "tcp" in done.stderr


def test_a_taken_port_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        done = run("--tcp", address, "--tcp-token", "no", "--socket", tmp_path / "socket", "--memory", "64M")
    assert done.returncode == 1
    assert address in done.stderr and "in use" in done.stderr
    assert not (tmp_path / "socket").exists()


def test_a_port_is_taken_again_right_after_the_daemon_that_had_it(start_daemon):
    first = start_daemon(arguments=["--tcp", "127.0.0.1:0"])
    address = tcp_address(first)
    connection = Connection(address)
    assert first.stop() == 0  # the daemon closes first: its side of the connection lingers
    connection.close()
    start_daemon(arguments=["--tcp", address])
    Connection(address).close()


def test_status_and_log_name_every_socket(start_daemon):
    daemon = start_daemon(arguments=["--tcp", "127.0.0.1:0"])
    with Connection(tcp_address(daemon)) as connection:
        assert connection.stats().sockets == [daemon.socket, tcp_address(daemon)]
    listening = [line for line in daemon.log.read_text().splitlines() if "Listening" in line]
    assert len(listening) == 1 and daemon.socket in listening[0]


def test_the_log_says_who_can_connect_and_warns_of_nothing(start_daemon):
    daemon = start_daemon(arguments=["--tcp", "127.0.0.1:0"])
    log = daemon.log.read_text()
    assert "whoever is on this machine" in log
    assert "warning" not in log


def test_both_sockets_show_the_same_sessions(start_daemon):
    daemon = start_daemon(arguments=["--tcp", "127.0.0.1:0"])
    with Connection(daemon.socket) as unix, Connection(tcp_address(daemon)) as tcp:
        _, arrays = stored(unix, b"chat", SMALL, 50)
        assert_holds(tcp.open(b"chat", geometry=SMALL), arrays)


def test_a_large_session_goes_through_tcp_both_ways(address):
    wide = Geometry(layers=8, heads=4, head_dim_k=64, head_dim_v=64)
    with Connection(address) as connection:
        assert_holds(*stored(connection, b"chat", wide, 2000))


def test_bytes_that_are_not_the_protocol_end_the_connection(address):
    with Connection(address) as connection:
        connection.send(bytes(24))
        assert_ends(connection, "protocol")


def test_a_reset_connection_leaves_nothing_behind(address):
    with Connection(address) as watcher:
        for _ in range(20):
            connection = Connection(address)
            append(connection.open(b"chat", geometry=SMALL), bits(SMALL, 20))
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            watcher.delete(b"chat")
        wait_until(lambda: watcher.stats().connections == 1)


def test_small_requests_do_not_wait_for_nagle(address):
    """With Nagle's algorithm against delayed acknowledgements each would take 40 ms."""
    with Connection(address) as connection:
        seconds = []
        for _ in range(50):
            start = time.monotonic()
            connection.ping()
            seconds.append(time.monotonic() - start)
        assert statistics.median(seconds) < 0.03
