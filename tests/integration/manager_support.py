"""Service managers as a daemon sees them (sd_notify(3))."""

import itertools
import os
import socket
import threading

import pytest
from disk_support import Disk
from wire_support import wait_until

MESSAGE_SECONDS = 600 if os.environ.get("KVQ_SANITIZE") else 60
POOL, SET_ASIDE = "kvquantd-pool", "kvquantd-pool-set-aside"  # names of what is kept
TAKEOVER_NONE, TAKEOVER_DONE, TAKEOVER_COLD, TAKEOVER_SET_ASIDE = range(4)
KEPT_MOST = 2  # FileDescriptorStoreMax= of the units


class Manager:
    """Plays the service manager: a datagram socket that NOTIFY_SOCKET names."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(MESSAGE_SECONDS)
        self.environment = {"NOTIFY_SOCKET": address.replace("\0", "@")}

    def message_with(self, key):
        """The next message that has this key."""
        while True:
            lines = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
            if key in lines:
                return lines

    def next(self, key):
        """The value of key in the next message that has it."""
        return self.message_with(key)[key]


class KeepingManager(Manager):
    """Keeps what a daemon gives it (FDSTORE=1) for the next. `kept` are pairs of a name and a descriptor, in the order in which they came."""

    def __init__(self, address):
        super().__init__(address)
        self.address, self.kept, self.seen, self.barriers = address, [], set(), itertools.count(1)
        self.thread = threading.Thread(target=self.receive, daemon=True)
        self.thread.start()

    def receive(self):
        self.socket.settimeout(None)
        while True:
            text, files, _, _ = socket.recv_fds(self.socket, 4096, 16)
            lines = dict(line.split("=", 1) for line in text.decode().splitlines())
            if "FDSTOREREMOVE" in lines:
                self.drop(lines["FDNAME"])
            if "FDSTORE" in lines:
                for file in files:
                    self.keep(lines["FDNAME"], file)
            self.seen.add(lines.get("BARRIER"))
            if "BARRIER" in lines and lines["BARRIER"] == "0":
                return

    def keep(self, name, file):
        """As systemd does: what it has already stays under the name that it has."""
        same = [one for _, one in self.kept if os.path.sameopenfile(one, file)]
        if same or len(self.kept) == KEPT_MOST:
            os.close(file)
        else:
            self.kept.append((name, file))

    def drop(self, name):
        for one, file in self.kept:
            if one == name:
                os.close(file)
        self.kept = [(one, file) for one, file in self.kept if one != name]

    def send(self, text):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode(), self.address)

    def catch_up(self):
        """What was sent before has been received."""
        number = str(next(self.barriers))
        self.send(f"BARRIER={number}")
        wait_until(lambda: number in self.seen)

    def names(self):
        self.catch_up()
        return [name for name, _ in self.kept]

    def close(self):
        self.send("BARRIER=0")
        self.thread.join()
        for _, file in self.kept:
            os.close(file)
        self.socket.close()


class Service(Disk):
    """One daemon after another, under such a manager."""

    def __init__(self, start_daemon, folder):
        super().__init__(start_daemon, folder)
        self.manager = KeepingManager(str(folder / "notify"))

    def start(self, memory="64M", environment=None, **options):
        """With these options in the configuration file."""
        self.manager.catch_up()
        config = self.folder / "service.conf"
        config.write_text("".join(f"{name} = {value}\n" for name, value in options.items()))
        self.daemon = self.start_daemon(memory=memory, arguments=["--config", str(config)], kept=self.manager.kept,
                                        environment={**self.manager.environment, **(environment or {})})
        return self.daemon

    def takeover(self):
        with self.connect() as connection:
            return connection.stats().takeover

    def log(self):
        return self.daemon.log.read_text()


@pytest.fixture
def service(start_daemon, tmp_path):
    service = Service(start_daemon, tmp_path)
    yield service
    try:
        if service.daemon and service.daemon.process.returncode is None:
            assert service.daemon.stop() == 0
    finally:
        service.manager.close()
