"""Whether the time that an answer takes tells what another tenant has: requests for what another tenant has and for
what nobody has, one after the other in a random order, and a test of whether the two take the same time.

The statistic is Welch's t, as dudect uses it (https://eprint.iacr.org/2016/1123): of the quicker part of all times,
for the slower ones are the machine's. Where there is no difference, 4.5 is a one in 100,000; 10 and more is a leak.
"""

import contextlib
import random
import time
from types import SimpleNamespace

import numpy
from test_wire_tenants import ATTEMPTS, TOKENS, make_and_delete, put_behind
from wire import DATA, EXACT, OPEN_NEW, Refused
from wire_support import SMALL, append, bits

NAMES = 64  # of each kind: where a few of them lie in a table makes tens of nanoseconds, whoever has them
QUICKER_PERCENT = 60, 90
LEAK = 10
SLOW = {"APPEND"}  # a tenth of the pairs says as much


def append_and_delete(connection, at):
    """What they have, too, under a name of one's own: it could be shared with theirs."""
    session = connection.open(b"my own", model=at.model, geometry=SMALL, level=EXACT, mode=OPEN_NEW, sharing=1)
    append(session, bits(SMALL, TOKENS), ids=at.ids)
    connection.delete(b"my own")


# What may name another's things.
REQUESTS = {name: ATTEMPTS[name][0] for name in (
    "MATCH", "OPEN", "INFO", "FETCH", "BLOCK_GET", "BLOCK_CONTROL", "ATTACH_GET", "ATTACH_LIST", "RECALL", "DELETE",
    "FORK", "TRUNCATE", "AGE", "PIN", "POLICY", "FLUSH", "INDEX_DELETE", "ATTACH_DELETE")}
REQUESTS.update({"RECALL of a session": ATTEMPTS["RECALL"][1], "OPEN and DELETE": make_and_delete,
                 "APPEND": append_and_delete, "BLOCK_PUT": put_behind})


def named(word, number):
    """As names() of test_wire_tenants; all are of the same length."""
    text = b"%s%02d" % (word, number)
    return SimpleNamespace(session=b"session of " + text, model=b"model of " + text, key=b"key of " + text,
                           attachment=b"attachment of " + text, label=b"label of " + text,
                           ids=random.Random(text).sample(range(2**31), TOKENS))


THEIRS = [named(b"them", number) for number in range(NAMES)]
NOBODYS = [named(b"none", number) for number in range(NAMES)]


class Recorder:
    """What is sent by a connection, one string of bytes for each answer that is waited for."""

    def __init__(self, connection):
        self.connection, self.sent, self.unanswered = connection, [], b""
        self.plain = connection.send, connection.receive

    def __enter__(self):
        self.connection.send, self.connection.receive = self.send, self.receive
        return self

    def __exit__(self, *_):
        self.connection.send, self.connection.receive = self.plain

    def send(self, data):
        self.unanswered += data
        self.plain[0](data)

    def receive(self):
        if self.unanswered:
            self.sent.append(self.unanswered)
            self.unanswered = b""
        return self.plain[1]()


def conversation(connection, request, at):
    with Recorder(connection) as recorder:
        with contextlib.suppress(Refused):
            request(connection, at)
    return recorder.sent


def nanoseconds_of(connection, said):
    begin = time.perf_counter_ns()
    for sent in said:
        connection.socket.sendall(sent)
        while connection.receive().type == DATA:
            pass
    return time.perf_counter_ns() - begin


def measure(connection, name, pairs, seed=0):
    """Nanoseconds for theirs and for nobody's, one a pair."""
    generator, pairs = random.Random(seed), pairs // 10 if name in SLOW else pairs
    said = [[conversation(connection, REQUESTS[name], at) for at in names] for names in (THEIRS, NOBODYS)]
    times = [], []
    for _ in range(pairs):
        for which in generator.sample((0, 1), 2):
            times[which].append(nanoseconds_of(connection, generator.choice(said[which])))
    return tuple(numpy.array(one, float) for one in times)


def welch_t(first, second):
    """Of the quicker part: the largest over some parts, with its sign."""
    found = []
    for percent in QUICKER_PERCENT:
        most = numpy.percentile(numpy.concatenate((first, second)), percent)
        a, b = first[first <= most], second[second <= most]
        error = numpy.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        found.append((a.mean() - b.mean()) / error)
    return max(found, key=abs)


def tells(connection, name, pairs):
    """Whether it does in each of three measures: once could be the machine's doing. And the last t."""
    for seed in range(3):
        t = welch_t(*measure(connection, name, pairs, seed))
        if abs(t) < LEAK:
            return False, t
    return True, t
