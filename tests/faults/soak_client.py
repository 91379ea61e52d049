"""A client of the soak: one tenant's, that does everything a client can, at random, and checks what it gets."""

import contextlib
import random
import struct

import numpy
from block_support import Blocks
from wire import BLOCK_DELETE, EXACT, FAST8, OPEN_EXISTING, SHARING_IDS, Connection, Refused, policy
from wire_support import WIDE, append, gaussian_bits, packed

TOKENS, BLOCK_TOKENS, DIM = 400, 64, 8
LEVELS = (EXACT, FAST8, 0, 3, 5)
MOST_BLOCKS = 32
# What is no fault of the daemon's: memory is short, or another client was before this one.
EXPECTED = {"full", "miss", "busy", "tail_moved", "wrong_first", "exists", "version_changed", "cancelled"}


def ids(number):
    """Of a session's tokens: the first 128 are those of every eighth session."""
    return [number % 8] * 128 + [number] * (TOKENS - 128)


class Client:
    def __init__(self, socket, token, tenant, index, kept):
        self.socket, self.token, self.tenant, self.kept = socket, token, tenant, kept
        self.next = index << 24
        self.random, self.arrays = random.Random(index), gaussian_bits(WIDE, TOKENS)
        self.sessions, self.keys, self.counts = [], [], {}
        self.actions = {self.store: 6, self.go_on: 3, self.resume: 10, self.fork: 2, self.truncate: 1, self.age: 1,
                        self.change: 2, self.match: 3, self.attach: 2, self.embed: 2, self.recall_keys: 2,
                        self.put_blocks: 2, self.get_blocks: 3, self.look: 3, self.flush: 1, self.break_off: 1}
        self.connect()

    def connect(self):
        self.connection = Connection(self.socket, token=self.token)
        self.blocks = Blocks(self.connection, geometry=WIDE)

    def step(self):
        action = self.random.choices([*self.actions], [*self.actions.values()])[0]
        name = action.__name__
        try:
            action()
        except Refused as error:
            if error.name not in EXPECTED:
                raise
            name = error.name
        self.counts[name] = self.counts.get(name, 0) + 1

    def one(self):
        """A session of those that are left, or a miss."""
        if not self.sessions:
            self.store()
        return self.random.choice(self.sessions)

    def name(self):
        self.next += 1
        return b"%d" % self.next

    def marked(self, number):
        """The values, with the number in the first token, which is kept exact as a sink."""
        k = self.arrays[0].copy()
        k[0, 0, 0, :2] = self.mark_of(number)
        return k, self.arrays[1]

    def mark_of(self, number):
        """What shares its first page with others of its tenant has that one's."""
        return (number >> 16, number & 0xFFFF) if number % 2 == 0 else (0xABC0 + self.tenant, number % 8)

    # --- sessions ---

    def store(self):
        name, level = self.name(), self.random.choice(LEVELS)
        session = self.connection.open(name, geometry=WIDE, level=level, sharing=SHARING_IDS * (self.next % 2),
                                       key_summaries=self.next % 3 == 0,
                                       policy=policy(idle_step_ms=20000, ttl_ms=600000))
        tokens = self.random.choice((5, 128, 200, TOKENS))
        arrays = tuple(part[:, :tokens] for part in self.marked(self.next))
        append(session, arrays, wait_ms=20000, settle=self.random.random() < 0.2, ids=ids(self.next)[:tokens])
        self.keep(name, self.next)

    def keep(self, name, number):
        self.sessions.append((name, number))
        while len(self.sessions) > self.kept:
            with contextlib.suppress(Refused):
                self.connection.delete(self.sessions.pop(0)[0])

    def go_on(self):
        name, _ = self.one()
        session = self.connection.open(name, mode=OPEN_EXISTING)
        if 0 < session.tokens < 2000:
            append(session, tuple(part[:, :37] for part in self.arrays), wait_ms=20000)

    def resume(self):
        name, number = self.one()
        frames, reply = self.connection.fetch(name)
        if reply.tokens:
            mark = numpy.frombuffer(frames[0][4][:4], numpy.uint16)
            assert tuple(mark) == self.mark_of(number), "another session's values"

    def fork(self):
        source, number = self.one()
        name = self.name()
        self.connection.fork(source, name)
        self.keep(name, number)

    def truncate(self):
        name, _ = self.one()
        session = self.connection.open(name, mode=OPEN_EXISTING)
        session.truncate(max(1, session.tokens - 10) if session.tokens else 0)

    def age(self):
        name, _ = self.one()
        session = self.connection.open(name, mode=OPEN_EXISTING)
        self.connection.age(name, min(5, max(0, session.level) + 1), settle=self.random.random() < 0.5)

    def change(self):
        name, _ = self.one()
        self.connection.policy(name, ttl_ms=700000)
        self.connection.pin(name, 200)
        self.connection.delete_many(prefix=b"none", dry_run=True)

    def match(self):
        _, number = self.one()
        self.connection.match(b"model", ids(number))

    def break_off(self):
        """Goes away in the middle of an append."""
        session = self.connection.open(self.one()[0], mode=OPEN_EXISTING)
        request_id = session.begin(10)
        for piece in list(session.pieces(10))[:5]:
            session.send_piece(request_id, packed(self.arrays), piece)
        if self.random.random() < 0.5:
            self.connection.cancel(request_id)
        self.connection.close()
        self.connect()

    # --- what is with them ---

    def attach(self):
        name, number = self.one()
        data = b"%d " % number * self.random.choice((1, 1000, 20000))
        self.connection.attach(name, b"state", data, wait_ms=20000)
        got, _ = self.connection.attachment(name, b"state")
        assert got == data or name not in (one for one, _ in self.sessions)
        self.connection.attachments(name)
        if self.random.random() < 0.5:
            self.connection.detach(name, b"state")

    def embed(self):
        name, number = self.one()
        vector = [float(number % 7 + 1), *(self.random.random() for _ in range(DIM - 1))]
        self.connection.index(name, [(0, 4, b"start", b"x", struct.pack(f"<{DIM}f", *vector))], DIM, wait_ms=20000)
        self.connection.recall(vector, sessions=[name], fetch=True)
        if self.random.random() < 0.5:
            self.connection.unindex(name, labels=[b"start"])

    def recall_keys(self):
        name = self.random.choice([name for name, number in self.sessions if number % 3 == 0] or [self.one()[0]])
        query = [self.random.random() for _ in range(WIDE.heads * WIDE.head_dim_k)]
        try:
            self.connection.recall_keys([(0, query)], session=name, model=b"model", end_layer=1,
                                        query_heads=WIDE.heads, k=4)
        except Refused as error:
            if error.name != "unsupported":  # of a session without summaries
                raise

    # --- blocks ---

    def put_blocks(self):
        parent = b""
        for place in range(3):
            key = self.name()
            arrays = tuple(part[:, :BLOCK_TOKENS] for part in self.marked(self.next))
            self.blocks.put(key, arrays, parent=parent, first_position=place * BLOCK_TOKENS, wait_ms=20000)
            self.keys.append(key)
            parent = key
        if old := self.keys[:-MOST_BLOCKS]:
            self.blocks.control(old, BLOCK_DELETE)
            del self.keys[:-MOST_BLOCKS]

    def get_blocks(self):
        if self.keys:
            self.blocks.get(self.random.sample(self.keys, min(4, len(self.keys))), BLOCK_TOKENS)

    # --- the daemon ---

    def look(self):
        self.connection.info(self.one()[0])
        self.connection.list(limit=50)
        self.connection.stats()
        self.connection.ping()

    def flush(self):
        self.connection.flush(self.one()[0])

    def end(self):
        """Deletes all that is left of its own."""
        if self.keys:
            self.blocks.control(self.keys, BLOCK_DELETE)
        for name, _ in self.sessions:
            with contextlib.suppress(Refused):
                self.connection.delete(name)
        self.connection.close()


def run_client(socket, token, tenant, index, kept, ended, results):
    """Until it is told to end; tenant: the tenant's number, index: its own."""
    try:
        client = Client(socket, token, tenant, index, kept)
        while not ended.is_set():
            client.step()
        client.end()
        results.put(client.counts)
    except BaseException as error:
        results.put(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        raise
