"""Tails of sessions that nobody uses: coded by themselves, told as such, and gone on from."""

import signal
import time

import numpy
import pytest
from wire import EXACT, FAST8, PLACE_TAIL, Connection
from wire_support import (SMALL, append, assert_holds, gaussian, packed, to_dtype, to_float,  # noqa: F401
                          unpacked, wait_until)


class Configured:
    """A daemon that codes no tail until it is told to."""

    def __init__(self, start_daemon, path):
        self.path, self.tail_idle = path, "never"
        path.write_text("tail_idle = never\n")
        self.daemon = start_daemon(arguments=["--config", path])
        self.connection = Connection(self.daemon.socket)

    def let_tails_idle(self, tail_idle="50ms", more=""):
        """Returns once it is so."""
        said = f"tail_idle {self.tail_idle} -> {tail_idle}"
        before = self.daemon.log.read_text().count(said)
        self.path.write_text(f"tail_idle = {tail_idle}\n{more}")
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.daemon.log.read_text().count(said) > before)
        self.tail_idle = tail_idle

    def code_tail(self, name):
        """The tail of a session that is coded then, and stays as it is."""
        self.let_tails_idle()
        wait_until(lambda: self.connection.info(name).policy_state.tail_coded)
        self.let_tails_idle("never")


@pytest.fixture
def configured(start_daemon, tmp_path):
    return Configured(start_daemon, tmp_path / "test.conf")


@pytest.fixture
def connection(configured):
    return configured.connection


def values(tokens, seed=0):
    return tuple(to_dtype(part, SMALL.dtype) for part in gaussian(SMALL, tokens, seed))


def tail_row(connection, name):
    return next(row for row in connection.info(name).levels if row.place == PLACE_TAIL)


def test_a_tail_is_coded_after_a_while_and_the_daemon_counts_it(configured, connection):
    session = connection.open(b"a", geometry=SMALL)
    append(session, values(100))
    raw = tail_row(connection, b"a")
    assert (raw.level, raw.tokens) == (EXACT, 100)
    configured.code_tail(b"a")
    coded, info = tail_row(connection, b"a"), connection.info(b"a")
    assert (coded.level, coded.tokens, info.tail_tokens, info.version) == (FAST8, 100, 100, session.version)
    assert coded.bytes < 0.7 * raw.bytes
    ageing = connection.stats().ageing
    assert (ageing.coded_tails, ageing.tail_bytes_before, ageing.tail_bytes_after) == (1, raw.bytes, coded.bytes)


def test_a_client_that_knows_the_old_tail_goes_on_with_it(configured, connection):
    session, given = connection.open(b"a", geometry=SMALL, level=EXACT), values(300)
    append(session, tuple(part[:, :100] for part in given))
    for end in (110, 300):
        configured.code_tail(b"a")
        append(session, tuple(part[:, session.tokens:end] for part in given))
        assert not connection.info(b"a").policy_state.tail_coded
        assert_holds(session, tuple(part[:, :end] for part in given))
    assert connection.stats().ageing.decoded_tails == 2


def test_a_fetch_says_what_a_coded_tail_has_lost(configured, connection):
    session, given = connection.open(b"a", geometry=SMALL), values(100)
    append(session, given)
    _, reply = session.fetch()
    assert [(row.level, row.tokens) for row in reply.levels] == [(EXACT, 100)] and reply.k.energy == 0
    configured.code_tail(b"a")
    kv, reply = session.fetch()
    assert [(row.level, row.tokens) for row in reply.levels] == [(FAST8, 100)]
    for values_given, got, loss in zip(given, unpacked(kv, SMALL), (reply.k, reply.v)):
        values_given, got = to_float(values_given, SMALL.dtype), to_float(got, SMALL.dtype)
        measured = numpy.sum((values_given.astype(numpy.float64) - got) ** 2)
        assert loss.error == pytest.approx(measured, rel=0.01) and not loss.estimated
    append(session, values(10, seed=1))
    reply = session.fetch()[1]
    assert [(row.level, row.tokens) for row in reply.levels] == [(FAST8, 110)]
    assert (reply.k.error, reply.v.error) == (connection.info(b"a").k.error, connection.info(b"a").v.error)


def test_tails_are_coded_exactly_where_the_configuration_says_so(configured, connection):
    session, given = connection.open(b"a", geometry=SMALL), values(100)
    append(session, given)
    configured.let_tails_idle(more="tail_idle_level = exact\n")
    wait_until(lambda: connection.info(b"a").policy_state.tail_coded)
    assert tail_row(connection, b"a").level == EXACT
    assert_holds(session, given)


def test_no_tail_is_coded_where_the_configuration_says_never(configured, connection):
    configured.let_tails_idle("50ms")
    configured.let_tails_idle("never")
    session, given = connection.open(b"a", geometry=SMALL), values(100)
    append(session, given)
    time.sleep(0.3)
    assert not connection.info(b"a").policy_state.tail_coded
    assert_holds(session, given)


def test_ageing_with_settle_leaves_a_coded_tail_as_it_is(configured, connection):
    session = connection.open(b"a", geometry=SMALL, level=1)
    append(session, values(300))
    configured.code_tail(b"a")
    before = tail_row(connection, b"a")
    connection.age(b"a", 4)
    assert tail_row(connection, b"a") == before
    assert session.fetch()[1].tokens == 300
