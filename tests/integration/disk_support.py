"""What the tests of the disk share: daemons that come and go over one folder, and what their sessions hold."""

import pytest
from wire import EXACT, OPEN_EXISTING, Connection
from wire_support import SMALL, append, assert_holds, bits


class Disk:
    """A folder that one daemon after another has."""

    def __init__(self, start_daemon, folder):
        self.start_daemon, self.folder = start_daemon, folder
        self.daemon = None

    def start(self, memory="64M", **options):
        """With these options in the configuration file."""
        lines = {"disk": self.folder, **options}
        config = self.folder.with_suffix(".conf")
        config.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        self.daemon = self.start_daemon(memory=memory, arguments=["--config", str(config)])
        return self.daemon

    def restart(self, **options):
        assert self.daemon.stop() == 0
        return self.start(**options)

    def crash(self, **options):
        self.daemon.kill()
        return self.start(**options)

    def connect(self):
        return Connection(self.daemon.socket)

    def files(self):
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def disk(start_daemon, tmp_path):
    return Disk(start_daemon, tmp_path / "disk")


def values(tokens, seed=0, geometry=SMALL):
    """Of a session's first tokens: the same however many they are."""
    whole = bits(geometry, 2048, seed)
    return tuple(part[:, :tokens] for part in whole)


def put(connection, name, tokens, seed=0, geometry=SMALL, level=EXACT, **fields):
    """So many more tokens for a session, which may be new: those that values() has next."""
    session = connection.open(name, geometry=geometry, level=level, **fields)
    end = session.tokens + tokens
    append(session, tuple(part[:, session.tokens:] for part in values(end, seed, geometry)))
    return session


def assert_has(connection, name, tokens, seed=0, geometry=SMALL):
    session = connection.open(name, mode=OPEN_EXISTING)
    assert session.tokens == tokens
    assert_holds(session, values(tokens, seed, geometry))
