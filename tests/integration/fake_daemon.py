"""A daemon that a test plays: it says what the test's script says, on as many connections as there are
scripts.
"""

import contextlib
import socket
import threading

import pytest
import wire
from wire import ERROR, HEADER, REPLY, encode, frame

PATIENCE_SECONDS = 60  # a script waits so long for its client
HELLO = dict(version=1, control_bytes_max=65536, payload_bytes_max=1 << 20, requests_max=32,
             append_runs_max=1 << 20, server="fake")


class Peer:
    """The daemon's end of a connection."""

    def __init__(self, connection):
        self.connection = connection

    def receive(self):
        """(type, request id, control, payload) of the client's next frame."""
        _, _, kind, _, request_id, control, payload = HEADER.unpack(self.exactly(HEADER.size))
        return kind, request_id, self.exactly(control), self.exactly(payload)

    def exactly(self, count):
        out = b""
        while len(out) < count:
            got = self.connection.recv(count - len(out))
            if not got:
                raise EOFError
            out += got
        return out

    def send(self, data):
        self.connection.sendall(data)

    def reply(self, request_id, message, **values):
        self.send(frame(REPLY, request_id, encode(message, **values)))

    def error(self, request_id, name, **values):
        code = next(code for code, known in wire.ERROR_NAMES.items() if known == name)
        sentence = wire.encode_field(3, "str", f"this is {name}")
        self.send(frame(ERROR, request_id, encode("ErrorReply", code=code, **values) + sentence))

    def greet(self):
        self.reply(self.receive()[1], "HelloReply", **HELLO)

    def answer(self, message, **values):
        """Receives a request and answers it; returns its type."""
        kind, request_id, _, _ = self.receive()
        self.reply(request_id, message, **values)
        return kind

    def until_closed(self):
        with contextlib.suppress(EOFError, OSError):
            while self.connection.recv(1 << 16):
                pass


class FakeDaemon:
    """Serves its scripts' connections in the order accepted, each in a thread; then listens no more.

    A script that the client leaves ends quietly; what else fails in one is raised by close(). With `tls`, an
    ssl.SSLContext, they are connections over TLS to 127.0.0.1, and `path` is host:port.
    """

    def __init__(self, path, *scripts, tls=None):
        self.failures, self.threads, self.tls = [], [], tls
        if tls:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.path = f"127.0.0.1:{self.listener.getsockname()[1]}"
        else:
            self.listener, self.path = socket.socket(socket.AF_UNIX), str(path)
            self.listener.bind(self.path)
            self.listener.listen()
        self.listener.settimeout(PATIENCE_SECONDS)
        self._start(self._accept, scripts)

    def _start(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self.threads.append(thread)  # close() may look at it: only once it can be joined

    def _accept(self, scripts):
        with self.listener:
            for script in scripts:
                try:
                    connection = self.listener.accept()[0]
                except OSError:
                    return
                self._start(self._serve, connection, script)

    def _serve(self, connection, script):
        connection.settimeout(PATIENCE_SECONDS)
        with connection:
            try:
                if self.tls:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                with connection:
                    script(Peer(connection))
            except (EOFError, OSError):
                pass
            except BaseException as failure:
                self.failures.append(failure)

    def close(self):
        self.listener.close()
        for thread in self.threads[1:]:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        assert not self.failures, self.failures


@pytest.fixture
def play(tmp_path):
    """play(*scripts) starts a daemon that serves them and returns its socket's path."""
    daemons = []

    def start(*scripts):
        daemons.append(FakeDaemon(tmp_path / f"fake{len(daemons)}", *scripts))
        return daemons[-1].path

    yield start
    for daemon in daemons:
        daemon.close()
