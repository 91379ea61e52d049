"""Tails of sessions that nobody uses: coded by themselves, told as such, and gone on from."""

import time

import numpy
import pytest
from config_support import Reloading
from wire import EXACT, FAST8, PLACE_TAIL, Connection
from wire_support import SMALL, append, assert_holds, gaussian_bits, to_float, unpacked, wait_until  # noqa: F401


class Tails(Reloading):
    """A daemon that codes no tail until it is told to."""

    def __init__(self, start_daemon, path):
        super().__init__(start_daemon, path, "tail_idle = never\n")

    def let_idle(self, tail_idle="50ms", more=""):
        assert f"-> {tail_idle}" in self.reload(f"tail_idle = {tail_idle}\n{more}")

    def code(self, connection, name):
        """The tail of a session is coded then, and stays as it is."""
        self.let_idle()
        wait_until(lambda: connection.info(name).policy_state.tail_coded)
        self.let_idle("never")


@pytest.fixture
def tails(start_daemon, tmp_path):
    return Tails(start_daemon, tmp_path / "test.conf")


@pytest.fixture
def connection(tails):
    with Connection(tails.daemon.socket) as connection:
        yield connection


def tail_row(connection, name):
    return next(row for row in connection.info(name).levels if row.place == PLACE_TAIL)


def test_a_tail_is_coded_after_a_while_and_the_daemon_counts_it(tails, connection):
    session = connection.open(b"a", geometry=SMALL)
    append(session, gaussian_bits(SMALL, 100))
    raw = tail_row(connection, b"a")
    assert (raw.level, raw.tokens) == (EXACT, 100)
    tails.code(connection, b"a")
    coded, info = tail_row(connection, b"a"), connection.info(b"a")
    assert (coded.level, coded.tokens, info.tail_tokens, info.version) == (FAST8, 100, 100, session.version)
    assert coded.bytes < 0.7 * raw.bytes
    ageing = connection.stats().ageing
    assert (ageing.coded_tails, ageing.tail_bytes_before, ageing.tail_bytes_after) == (1, raw.bytes, coded.bytes)


def test_a_client_that_knows_the_old_tail_goes_on_with_it(tails, connection):
    session, given = connection.open(b"a", geometry=SMALL, level=EXACT), gaussian_bits(SMALL, 300)
    append(session, tuple(part[:, :100] for part in given))
    for end in (110, 300):
        tails.code(connection, b"a")
        append(session, tuple(part[:, session.tokens:end] for part in given))
        assert not connection.info(b"a").policy_state.tail_coded
        assert_holds(session, tuple(part[:, :end] for part in given))
    assert connection.stats().ageing.decoded_tails == 2


def test_a_fetch_says_what_a_coded_tail_has_lost(tails, connection):
    session, given = connection.open(b"a", geometry=SMALL), gaussian_bits(SMALL, 100)
    append(session, given)
    _, reply = session.fetch()
    assert [(row.level, row.tokens) for row in reply.levels] == [(EXACT, 100)] and reply.k.energy == 0
    tails.code(connection, b"a")
    kv, reply = session.fetch()
    assert [(row.level, row.tokens) for row in reply.levels] == [(FAST8, 100)]
    for values_given, got, loss in zip(given, unpacked(kv, SMALL), (reply.k, reply.v)):
        values_given, got = to_float(values_given, SMALL.dtype), to_float(got, SMALL.dtype)
        measured = numpy.sum((values_given.astype(numpy.float64) - got) ** 2)
        assert loss.error == pytest.approx(measured, rel=0.01) and not loss.estimated
    append(session, gaussian_bits(SMALL, 10, seed=1))
    reply = session.fetch()[1]
    assert [(row.level, row.tokens) for row in reply.levels] == [(FAST8, 110)]
    assert (reply.k.error, reply.v.error) == (connection.info(b"a").k.error, connection.info(b"a").v.error)


def test_tails_are_coded_exactly_where_the_configuration_says_so(tails, connection):
    session, given = connection.open(b"a", geometry=SMALL), gaussian_bits(SMALL, 100)
    append(session, given)
    tails.let_idle(more="tail_idle_level = exact\n")
    wait_until(lambda: connection.info(b"a").policy_state.tail_coded)
    assert tail_row(connection, b"a").level == EXACT
    assert_holds(session, given)


def test_no_tail_is_coded_where_the_configuration_says_never(tails, connection):
    tails.let_idle("50ms")
    tails.let_idle("never")
    session, given = connection.open(b"a", geometry=SMALL), gaussian_bits(SMALL, 100)
    append(session, given)
    time.sleep(0.3)
    assert not connection.info(b"a").policy_state.tail_coded
    assert_holds(session, given)


def test_ageing_with_settle_leaves_a_coded_tail_as_it_is(tails, connection):
    session = connection.open(b"a", geometry=SMALL, level=1)
    append(session, gaussian_bits(SMALL, 300))
    tails.code(connection, b"a")
    before = tail_row(connection, b"a")
    connection.age(b"a", 4)
    assert tail_row(connection, b"a") == before
    assert session.fetch()[1].tokens == 300
