"""The log in the journal, with fields; and as text, with the same behind the sentence.

The test plays the journal: a socket of its own at the journal's place, in a mount namespace of the daemon's.
"""

import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import time

import pytest
from conftest import STOP_SECONDS, program
from wire import HELLO, Connection
from wire_support import SMALL, assert_ends, refused, wait_until

# Binds descriptor 3 as the journal's socket in this mount namespace and becomes the command.
BIND = """
import os, socket, sys
os.makedirs("/run/systemd/journal")
journal = socket.socket(fileno=int(sys.argv[1]))
journal.bind("/run/systemd/journal/socket")
journal.detach()
stream = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{stream.st_dev}:{stream.st_ino}"
os.execv(sys.argv[2], sys.argv[2:])
"""
IN_NAMESPACE = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]


def fields_of(datagram):
    """Of a message in the journal's own protocol: NAME=value, or NAME, length and bytes."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, has_value, value = line.partition(b"=")
        if not has_value:
            size, = struct.unpack_from("<Q", datagram)
            value, datagram = datagram[8:8 + size], datagram[8 + size + 1:]
        fields[name.decode()] = value.decode()
    return fields


class Journal:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(STOP_SECONDS)
        self.messages = []

    def find(self, text):
        """The first message with this text, which may be still to come."""
        while True:
            for fields in self.messages:
                if text in fields["MESSAGE"]:
                    return fields
            self.messages.append(fields_of(self.socket.recv(65536)))


def can_have_a_namespace():
    return shutil.which("unshare") and subprocess.run([*IN_NAMESPACE, "true"], capture_output=True).returncode == 0


@pytest.fixture
def journal():
    if not can_have_a_namespace():
        pytest.skip("this system permits no mount namespace to put a journal into")
    journal = Journal()
    yield journal
    journal.socket.close()


@pytest.fixture
def start_logging(journal, tmp_path):
    """start_logging("debug") runs a daemon whose stderr is the journal; its socket and its process."""
    running = []

    def start(level="debug", *arguments):
        path, number = str(tmp_path / "kvquantd.sock"), str(journal.socket.fileno())
        command = [sys.executable, "-c", BIND, number, program("KVQUANTD", "kvquantd"), "--socket", path,
                   "--memory", "64M", "--log-level", level, *arguments]
        with open(tmp_path / "stderr", "wb") as stderr:
            running.append(subprocess.Popen([*IN_NAMESPACE, *command], pass_fds=[journal.socket.fileno()],
                                            stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr))
        return path, running[-1]

    yield start
    for process in running:
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    assert (tmp_path / "stderr").read_text() == ""


def test_messages_have_priority_and_identifier(journal, start_logging):
    path, process = start_logging("info")
    fields = journal.find("Listening")
    assert path in fields["MESSAGE"] and not fields["MESSAGE"].startswith(("<", "kvquantd"))
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == ("6", "kvquantd")


def test_who_connects_is_told_at_debug(journal, start_logging):
    path, _ = start_logging("debug")
    journal.find("Listening")
    with Connection(path):
        fields = journal.find("has connected")
    assert fields["PRIORITY"] == "7"
    assert fields["KVQ_PEER"] == f"pid {os.getpid()}, uid {os.getuid()}"
    assert journal.find("has ended")["KVQ_CLIENT"] == "wire.py"


def test_who_misbehaves_is_told_at_info_with_peer_client_and_error(journal, start_logging):
    path, _ = start_logging("info")
    journal.find("Listening")
    with Connection(path) as connection:
        connection.send(bytes(24))
        assert_ends(connection, "protocol")
    fields = journal.find("closed")
    assert fields["PRIORITY"] == "6"
    assert (fields["KVQ_CLIENT"], fields["KVQ_ERROR"]) == ("wire.py", "protocol")
    assert f"pid {os.getpid()}," in fields["KVQ_PEER"]


def test_a_refused_request_is_told_with_operation_session_and_error(journal, start_logging):
    path, _ = start_logging("debug")
    journal.find("Listening")
    with Connection(path) as connection, refused("miss"):
        connection.info("nicht dä".encode())
    fields = journal.find("is refused")
    assert (fields["KVQ_OPERATION"], fields["KVQ_SESSION"], fields["KVQ_ERROR"]) == ("info", "nicht dä", "miss")


def test_a_connection_too_many_is_told_with_its_peer(journal, start_logging, tmp_path):
    (tmp_path / "test.conf").write_text("connections = 1\n")
    path, _ = start_logging("info", "--config", str(tmp_path / "test.conf"))
    journal.find("Listening")
    with Connection(path):
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(path)
            other.recv(1)
    assert f"pid {os.getpid()}," in journal.find("refused")["KVQ_PEER"]


def test_a_hostile_client_name_makes_no_field_of_its_own(journal, start_logging):
    path, _ = start_logging("debug")
    journal.find("Listening")
    with Connection(path, hello=False) as raw:
        raw.call(HELLO, "Hello", version_min=1, version_max=1, client="a\nKVQ_PEER=forged\nx")
    fields = journal.find("has ended")
    assert fields["KVQ_CLIENT"] == "a?KVQ_PEER=forged?x" and "forged" not in fields["KVQ_PEER"]


def test_a_journal_that_is_gone_does_not_stop_the_daemon(journal, start_logging):
    path, _ = start_logging("debug")
    journal.find("Listening")
    journal.socket.close()
    with Connection(path) as connection:
        connection.ping()
    journal.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


@pytest.mark.parametrize("stream", ["1:1", "x", "", "8:"])
def test_where_standard_error_is_not_the_journal_the_log_is_text(start_daemon, stream):
    daemon = start_daemon(environment={"JOURNAL_STREAM": stream})
    assert daemon.log.read_text().startswith("kvquantd: info: ")


def last_line(daemon, text):
    wait_until(lambda: text in pathlib.Path(daemon.log).read_text())
    return next(line for line in daemon.log.read_text().splitlines() if text in line)


def test_text_has_the_fields_behind_the_sentence(start_daemon):
    daemon = start_daemon(arguments=["--log-level", "debug", "--tcp", "127.0.0.1:0"])
    with Connection(daemon.socket) as connection:
        with refused("miss"):
            connection.info(b'a "b\\ c')
    line = last_line(daemon, "is refused")
    assert f'peer="pid {os.getpid()}, uid {os.getuid()}" client=wire.py operation=info' in line
    assert line.endswith(r'session="a \"b\\ c" error=miss')


def test_a_tcp_peer_is_its_address(start_daemon):
    daemon = start_daemon(arguments=["--log-level", "debug", "--tcp", "127.0.0.1:0"])
    with Connection(daemon.socket) as connection:
        address = connection.stats().sockets[1]
    with Connection(address) as connection:
        host, port = connection.socket.getsockname()
        assert last_line(daemon, f"peer={host}:{port}")


def test_what_is_stored_is_never_logged(start_daemon):
    daemon = start_daemon(arguments=["--log-level", "debug"])
    secret = b"Sixteen secrets!" * (SMALL.token_bytes(0) // 16)
    with Connection(daemon.socket) as connection:
        session = connection.open(b"chat", geometry=SMALL, level=-2)
        session.append(1, ([secret] * 2, [secret] * 2))
        connection.send(b"Sixteen secrets!" * 4)
        assert_ends(connection, "protocol")
    time.sleep(0.1)
    assert "ecrets" not in daemon.log.read_text()
