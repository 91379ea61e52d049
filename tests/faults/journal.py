"""An oracle: what sessions may hold, by what was acknowledged, refused or never answered.

A session's entry is a list of what it may be: (K, V) as arrays of bit patterns, or None where there is no
such session. There are several only after a connection was lost in the middle of a request.
"""

import contextlib

import numpy
from wire import OPEN_EXISTING, Closed, Refused
from wire_support import bits, packed


class Lost(Exception):
    """The connection went away in the middle of a request."""


class Journal:
    def __init__(self, geometry):
        self.geometry, self.held = geometry, {}
        self.unsaved = {}  # what a session was before changes that may not be on disk
        self.may_be_shorter = set()  # sessions of which the end, or all, may be lost
        self.evicted = False  # some lost tokens because memory was short

    def one(self, name):
        """What the session holds, where that is known."""
        (held,) = self.held.get(name, [None])
        return held

    @contextlib.contextmanager
    def change(self, name, after, saves=True):
        """The request inside makes the session this, on disk too if it `saves`; refused it changes nothing."""
        before = self.held.get(name, [None])
        try:
            yield
        except Refused as refused:
            if refused.name == "disk":  # it is done, in memory only
                self.unsaved.setdefault(name, []).extend(before)
                self.held[name] = [after]
            return
        except (Closed, OSError) as error:
            self.held[name] = [*before, after]
            raise Lost from error
        self.held[name] = [after]
        if saves:
            self.unsaved.pop(name, None)

    @contextlib.contextmanager
    def question(self):
        """The request inside changes nothing."""
        try:
            yield
        except Refused:
            return
        except (Closed, OSError) as error:
            raise Lost from error

    # --- requests ---

    def open(self, connection, name, level, **fields):
        created = False
        with self.change(name, self.one(name) or bits(self.geometry, 0), saves=False):
            created = connection.open(name, geometry=self.geometry, level=level, **fields).created
        if created and self.one(name) is not None:
            self.heed_eviction(connection, name, 0)

    def append(self, connection, name, tokens, seed, **fields):
        if self.one(name) is None:
            return
        with self.question():
            session = connection.open(name, model=b"", mode=OPEN_EXISTING)
            self.heed_eviction(connection, name, session.tokens)
            more = bits(self.geometry, tokens, seed)
            with self.change(name, tuple(numpy.concatenate(pair, axis=1) for pair in zip(self.one(name), more))):
                session.append(tokens, packed(more), **fields)

    def heed_eviction(self, connection, name, tokens):
        """Where memory is short a session may have lost its end, and the daemon says so."""
        held = self.one(name)
        if tokens < held[0].shape[1]:
            assert evictions(connection), f"{name} has {tokens} tokens, and nothing was evicted"
            self.unsaved.setdefault(name, []).append(held)
            self.held[name] = [tuple(array[:, :tokens] for array in held)]

    def fork(self, connection, source, target, tokens):
        held = self.one(source)
        if held is None or self.one(target) is not None or held[0].shape[1] < tokens:
            return
        with self.change(target, tuple(array[:, :tokens or None] for array in held)):
            connection.fork(source, target, tokens)

    def truncate(self, connection, name, tokens):
        held = self.one(name)
        if held is None or held[0].shape[1] < tokens:
            return
        with self.change(name, tuple(array[:, :tokens] for array in held)):
            connection.truncate(name, tokens)

    def delete(self, connection, name):
        if self.one(name) is None:
            return
        with self.change(name, None):
            connection.delete(name)

    def fetch(self, connection, name, first=0, end=0):
        """What comes is what was accepted."""
        held = self.one(name)
        if held is None or held[0].shape[1] <= max(first, end - 1):
            return
        with self.question():
            got = fetched(connection, name, first=first, end=end)
            if not end and len(got[0][0]) < held[0][0].nbytes:
                self.heed_eviction(connection, name, len(got[0][0]) // self.geometry.token_bytes(0))
                held = self.one(name)
            assert got == packed(array[:, first:end or None] for array in held), name

    # --- afterwards ---

    def killed(self, in_memory):
        """The daemon is gone: sessions of these names may be gone, too, or lack their end.

        So it is with all where memory was short. Of the others one that is empty may be gone (an open alone is no promise), and one of which it was said
        that the disk failed may be what it was before.
        """
        for name, entries in self.held.items():
            entries += self.unsaved.pop(name, [])
            if any(held and not held[0].size for held in entries):
                entries.append(None)
            if name in in_memory or self.evicted:
                self.may_be_shorter.add(name)

    def check(self, connection):
        """Every session is one of those that it may be; from here on it is that one."""
        self.evicted |= evictions(connection) > 0
        for name, entries in self.held.items():
            got = contents(connection, name)
            if name in self.may_be_shorter or self.evicted:
                self.unsaved.setdefault(name, []).extend(entries)
                entries = shorter(entries, got, self.geometry)
            fitting = [held for held in entries if expected(held) == got]
            lengths = [None if held is None else held[0].shape[1] for held in entries]
            tokens = None if got is None else len(got[0][0]) // self.geometry.token_bytes(0)
            assert fitting, f"{name}: {tokens} tokens came, it may have {lengths} of certain values"
            self.held[name] = fitting[:1]
        self.may_be_shorter.clear()


def evictions(connection):
    """How often sessions have lost tokens since the daemon began."""
    pressure = connection.stats().pressure
    return pressure.evicted_sessions if pressure else 0


def fetched(connection, name, **fields):
    session = connection.open(name, model=b"", mode=OPEN_EXISTING)
    if not session.tokens:
        return ([b""] * session.geometry.layers,) * 2
    return session.fetch(**fields)[0]


def shorter(entries, got, geometry):
    """What sessions may be that were these: nothing, or as many of their tokens as came."""
    if got is None:
        return [None]
    tokens = len(got[0][0]) // geometry.token_bytes(0)
    return [tuple(array[:, :tokens] for array in held)
            for held in entries if held is not None and held[0].shape[1] >= tokens]


def expected(held):
    return None if held is None else tuple(packed(held))


def contents(connection, name):
    """K and V as they come, or None where there is no such session."""
    try:
        return fetched(connection, name)
    except Refused as refused:
        assert refused.name == "miss", refused
        return None
