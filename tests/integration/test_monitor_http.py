"""Metrics and status page as an HTTP server: off by default, local, read-only, and hard to upset."""

import contextlib
import os
import socket
import stat
import subprocess

import pytest
from conftest import COMMAND_SECONDS, program
from monitor_support import Monitor, ask, metrics, monitored, raw, start_monitored, status  # noqa: F401
from wire import Connection
from wire_support import TINY, assert_serves, stored, wait_until

PATHS = ["/", "/metrics", "/status.json", "/healthz"]
HOSTILE = {
    "nothing": b"",
    "no version": b"GET /metrics\r\n\r\n",
    "a version there is not": b"GET /metrics HTTP/9.9\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long path": b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"b" * 200000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(10000)) + b"\r\n",
    "a body of more bytes than there are": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "a negative length": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a chunk that is none": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a null byte": b"GET /metr\x00ics HTTP/1.1\r\nHost: x\r\n\r\n",
}

INCOMPLETE = [b"\x00\x01\x02\xff" * 200, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), b"G",
              b"GET / HTTP/1.1\r\nHost: x\r\nX", b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx"]


def run(*arguments):
    return subprocess.run([program("KVQUANTD", "kvquantd"), *map(str, arguments)], capture_output=True, text=True,
                          timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)


def connected(daemon):
    """The socket of a client that has said nothing yet."""
    monitor = Monitor(daemon.metrics)
    monitor.connect()
    return monitor.sock


@pytest.fixture
def on_tcp(start_monitored):
    return start_monitored(metrics="127.0.0.1:0")


def test_without_the_option_nothing_is_served(daemon):
    assert "status page" not in daemon.log.read_text()


def test_the_socket_has_the_sockets_mode_and_goes_with_the_daemon(start_monitored):
    daemon = start_monitored(text="socket_mode = 0600\n")
    assert stat.S_IMODE(os.stat(daemon.metrics).st_mode) == 0o600
    assert daemon.stop() == 0
    assert not os.path.exists(daemon.metrics)


@pytest.mark.parametrize("address", ["0.0.0.0:9420", "192.168.1.1:9420", "example.com:9420", "9420", "metrics"])
def test_an_address_beyond_this_machine_is_refused(tmp_path, address):
    (tmp_path / "test.conf").write_text(f"metrics = {address}\n")
    done = run("--check-config", "--config", tmp_path / "test.conf")
    assert done.returncode == 2
    assert "loopback" in done.stderr and "test.conf:1" in done.stderr


def test_a_taken_port_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        (tmp_path / "test.conf").write_text(f"metrics = {address}\n")
        done = run("--config", tmp_path / "test.conf", "--socket", tmp_path / "socket", "--memory", "64M")
    assert done.returncode == 1
    assert address in done.stderr


def test_each_path_answers_on_tcp_too(on_tcp):
    for path in PATHS:
        answer = ask(on_tcp.metrics, path)
        assert answer.status == 200 and answer.text, path


def test_head_has_the_headers_alone(monitored):
    for path in PATHS:
        answer = ask(monitored.metrics, path, "HEAD")
        assert answer.status == 200 and answer.text == "" and int(answer.headers["Content-Length"]) > 0, path


def test_nothing_can_be_changed(monitored):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"):
        answer = ask(monitored.metrics, "/metrics", method)
        assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD", method


def test_what_there_is_not_is_not_found(monitored):
    for path in ("/metrics/", "/../etc/passwd", "/%2e%2e/", "//", "/Metrics", "/status.jso"):
        assert ask(monitored.metrics, path).status == 404, path


def test_every_answer_is_kept_to_itself(monitored):
    for path in PATHS:
        headers = ask(monitored.metrics, path).headers
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers


def test_the_page_runs_only_what_carries_a_nonce_of_its_own(monitored):
    first, second = ask(monitored.metrics, "/"), ask(monitored.metrics, "/")
    policy = first.headers["Content-Security-Policy"]
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert len(nonce) == 32 and policy != second.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "http" not in policy
    assert first.text.count(f'nonce="{nonce}"') == 2 and "NONCE" not in first.text


def test_a_name_that_was_led_here_is_turned_away(on_tcp):
    for host in ("localhost", "localhost:9420", "127.0.0.1", "[::1]:80", "[::1]"):
        assert ask(on_tcp.metrics, "/status.json", Host=host).status == 200, host
    for host in ("attacker.example", "attacker.example:9420", "127.0.0.1.attacker.example", "", "192.168.1.1",
                 "localhost:", "h" * 300):
        assert ask(on_tcp.metrics, "/status.json", Host=host).status == 403, host


def test_hostile_bytes_are_refused_or_dropped_and_the_daemon_goes_on(monitored):
    for what, sent in HOSTILE.items():
        answer = raw(monitored.metrics, sent)
        assert answer == b"" or answer.startswith(b"HTTP/1.") and b" 200 " not in answer.split(b"\r\n")[0], what
        assert ask(monitored.metrics, "/healthz").status == 200, what
    assert_serves(monitored)


def test_who_sends_half_a_request_keeps_nobody_waiting(monitored):
    with contextlib.ExitStack() as stack:
        for sent in INCOMPLETE:
            stack.enter_context(connected(monitored)).sendall(sent)
        assert ask(monitored.metrics, "/healthz").status == 200
        assert_serves(monitored)


def test_many_idle_clients_do_not_keep_the_daemon_from_its_work(monitored):
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(connected(monitored))
        assert_serves(monitored)
    wait_until(lambda: ask(monitored.metrics, "/healthz").status == 200)


def test_a_daemon_that_is_drained_is_healthy_and_says_so(monitored):
    with Connection(monitored.socket) as connection:
        connection.control(state=2)
        assert ask(monitored.metrics, "/healthz").status == 200
        assert status(monitored.metrics)["daemon"]["state"] == "drained"
        assert metrics(monitored.metrics)["kvquantd_state", "state", "drained"] == 1


def test_a_daemon_ends_while_a_client_of_its_metrics_stays(monitored):
    with connected(monitored):
        assert monitored.stop() == 0


def test_names_of_sessions_are_json_whatever_they_are(monitored):
    names = {'"', "\\", "</script><script>alert(1)</script>", "\u2028\u2029", "\U0001f980", "a" * 255}
    with Connection(monitored.socket) as connection:
        for name in names:
            stored(connection, name.encode(), TINY, 5)
    assert {row["session"] for row in status(monitored.metrics)["sessions"]["largest"]} == names


def test_on_a_port_that_anybody_may_ask_there_are_sums_and_no_names(on_tcp):
    with Connection(on_tcp.socket) as connection:
        stored(connection, b"a secret name", TINY, 5)
    row, = status(on_tcp.metrics)["sessions"]["largest"]
    assert row["session"] is row["model"] is row["tenant"] is None and row["tokens"] == 5
    assert status(on_tcp.metrics)["tenants"] == []
    assert "tenant" not in ask(on_tcp.metrics, "/metrics").text
    assert "secret" not in ask(on_tcp.metrics, "/status.json").text
