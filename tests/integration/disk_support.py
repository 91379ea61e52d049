"""What the tests of the disk share: daemons that come and go over one folder, and what their sessions hold."""

import pytest
from wire import EXACT, OPEN_EXISTING, Connection
from wire_support import SMALL, append, assert_holds, bits, packed


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

    def damage(self, what):
        """Flips a bit in the middle of the only place where a file has these bytes."""
        hits = [(path, at) for path in self.files() if (at := path.read_bytes().find(what)) >= 0]
        assert len(hits) == 1
        path, at = hits[0]
        with open(path, "r+b") as file:
            file.seek(at + len(what) // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 4]))


@pytest.fixture
def disk(start_daemon, tmp_path):
    return Disk(start_daemon, tmp_path / "disk")


def values(tokens, seed=0, geometry=SMALL):
    """Of a session's first tokens: the same however many they are."""
    whole = bits(geometry, 2048, seed)
    return tuple(part[:, :tokens] for part in whole)


def exact_page(first, end, geometry=SMALL):
    """Bytes of values() as they stand in a page of these tokens."""
    return packed(tuple(part[:, first:end] for part in values(end, geometry=geometry)))[0][0][:64]


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
