"""A daemon that is frozen, and one that is slow. Of this file alone, so that tests elsewhere can have it."""

import contextlib
import os
import pathlib
import signal
import socket
import threading
import time

PATIENCE_SECONDS = 60
BYTE_SECONDS = 0.05


@contextlib.contextmanager
def frozen(pid):
    """Each thread of the process has stopped by the time that this begins."""
    def stopped():
        threads = pathlib.Path(f"/proc/{pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    end = time.monotonic() + PATIENCE_SECONDS
    os.kill(pid, signal.SIGSTOP)
    try:
        while not stopped():
            assert time.monotonic() < end
            time.sleep(0.01)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Proxy:
    """Between a client and the daemon; while `slow` it hands over a byte at a time."""

    def __init__(self, path, server):
        self.path, self.server, self.slow, self.ended = str(path), server, False, threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.sockets, self.threads = [self.listener], []
        self.start(self.accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self, target, *arguments):
        self.threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self.threads[-1].start()

    def accept(self):
        with contextlib.suppress(OSError):
            while not self.ended.is_set():
                self.join(self.listener.accept()[0], socket.socket(socket.AF_UNIX))

    def join(self, client, server):
        self.sockets += [client, server]
        try:
            server.connect(self.server)
        except OSError:  # nobody is there, as the client now sees
            client.close()
            return
        self.start(self.hand_over, client, server)
        self.start(self.hand_over, server, client)

    def hand_over(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                while self.slow and data and not self.ended.wait(BYTE_SECONDS):
                    target.sendall(data[:1])
                    data = data[1:]
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.ended.set()
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        for one in self.sockets:
            one.close()
