"""Random operations on a family of sessions over two connections, against an oracle that knows every byte."""

import os
import random

import numpy
import pytest
from wire import EXACT, OPEN_EXISTING, Connection, Refused
from wire_support import SMALL, append, assert_holds, bits, connection, refused, wait_until  # noqa: F401

OPERATIONS = 1000
SEEDS = [int(os.environ["KVQ_SEED"])] if "KVQ_SEED" in os.environ else [1, 2, 3, "any"]


class Oracle:
    """Does an operation on the daemon and on `held`, which has each session's K and V."""

    def __init__(self, connections, seed):
        self.random, self.connections, self.held, self.made = random.Random(seed), connections, {}, 0
        self.seed = seed

    def name(self):
        self.made += 1
        return b"%d" % self.made

    def any(self):
        return self.random.choice(sorted(self.held))

    def session(self, name):
        return self.random.choice(self.connections).open(name, model=b"", mode=OPEN_EXISTING)

    def length(self, name):
        return self.held[name][0].shape[1]

    def cut(self, name):
        """A number of tokens, often where something ends."""
        tokens = self.length(name)
        return min(tokens, self.random.choice([0, 1, 4, 127, 128, 129, 256, tokens, self.random.randint(0, tokens)]))

    def create(self):
        name = self.name()
        self.random.choice(self.connections).open(name, geometry=SMALL, level=EXACT)
        self.held[name] = bits(SMALL, 0)

    def append(self):
        name = self.any()
        count = self.random.choice([1, 2, 30, 127, 128, 129, self.random.randint(1, 400)])
        more = bits(SMALL, count, self.random.randrange(1 << 30))
        append(self.session(name), more, settle=self.random.random() < 0.3)
        self.held[name] = tuple(numpy.concatenate(pair, axis=1) for pair in zip(self.held[name], more))

    def append_that_is_dropped(self):
        session = self.session(self.any())
        pieces = list(session.pieces(150))
        request_id = session.begin(150)
        arrays = [[bytes(150 * SMALL.token_bytes(part))] * SMALL.layers for part in (0, 1)]
        for piece in self.random.sample(pieces, self.random.randrange(len(pieces))):
            session.send_piece(request_id, arrays, piece)
        session.connection.cancel(request_id)
        with refused("cancelled"):
            session.connection.answer(request_id, "AppendReply")

    def fork(self):
        source, target = self.any(), self.name()
        tokens = self.cut(source)
        self.random.choice(self.connections).fork(source, target, tokens)
        self.held[target] = tuple(array[:, :tokens or self.length(source)] for array in self.held[source])

    def truncate(self):
        name = self.any()
        tokens = self.cut(name)
        self.random.choice(self.connections).truncate(name, tokens)
        self.held[name] = tuple(array[:, :tokens] for array in self.held[name])

    def delete(self):
        name = self.any()
        self.random.choice(self.connections).delete(name)
        del self.held[name]

    def fetch(self):
        name = self.any()
        first, end = sorted((self.cut(name), self.cut(name)))
        if first == end:
            return
        kv, reply = self.session(name).fetch(first=first, end=end)
        assert reply.tokens == end - first
        for part, array in zip(kv, self.held[name]):
            assert part == [layer.tobytes() for layer in array[:, first:end]]

    def overtaken_append(self):
        """What comes between an append's beginning and its end does not change it."""
        name = self.any()
        session, more = self.session(name), bits(SMALL, 140, self.random.randrange(1 << 30))
        other = next(one for one in self.connections if one is not session.connection)
        request_id, pieces = session.begin(140), list(session.pieces(140))
        middle = self.random.randrange(len(pieces))
        arrays = [[layer.tobytes() for layer in array] for array in more]
        for piece in pieces[:middle]:
            session.send_piece(request_id, arrays, piece)
        session.connection.ping()
        target = self.name()
        other.fork(name, target)
        self.held[target] = self.held[name]
        with pytest.raises(Refused):
            other.truncate(name, 0) if self.length(name) else other.info(b"none")
        append(other.open(target, model=b"", mode=OPEN_EXISTING), more)
        for piece in pieces[middle:]:
            session.send_piece(request_id, arrays, piece)
        session.commit(request_id)
        for one in (name, target):
            self.held[one] = tuple(numpy.concatenate(pair, axis=1) for pair in zip(self.held[one], more))

    def step(self):
        weights = {self.append: 8, self.fork: 4, self.truncate: 4, self.fetch: 8, self.delete: 3,
                   self.append_that_is_dropped: 2, self.overtaken_append: 2, self.create: 1}
        if not self.held:
            self.create()
        self.random.choices(list(weights), list(weights.values()))[0]()

    def check_all(self):
        for name in self.held:
            if self.length(name):
                assert_holds(self.session(name), self.held[name])
            assert self.session(name).tokens == self.length(name)


def beside_sessions(stats):
    """What is reserved for anything but sessions and the daemon itself."""
    return stats.used_bytes - stats.memory.fixed_bytes - stats.unique_bytes


@pytest.mark.parametrize("seed", SEEDS)
def test_every_session_holds_what_the_oracle_says(daemon, connection, seed):
    seed = random.randrange(1 << 32) if seed == "any" else seed
    print("KVQ_SEED =", seed)
    wait_until(lambda: connection.stats().connections == 1)
    empty = beside_sessions(connection.stats())
    with Connection(daemon.socket) as other:
        oracle = Oracle([connection, other], seed)
        for _ in range(OPERATIONS):
            oracle.step()
        oracle.check_all()
    stats = connection.stats()
    infos = [connection.info(name) for name in oracle.held]
    assert stats.sessions == len(infos)
    assert stats.tokens == sum(info.tokens for info in infos)
    assert stats.stored_bytes == sum(info.stored_bytes for info in infos)
    wait_until(lambda: beside_sessions(connection.stats()) == empty)
    connection.delete_many(model=b"model")
    assert connection.stats().unique_bytes == 0
