"""Tails of sessions that nobody uses: coded by themselves, told as such, and gone on from."""

import numpy
import pytest
from wire import EXACT, FAST8, PLACE_TAIL, Connection
from wire_support import (SMALL, append, assert_holds, gaussian, packed, to_dtype, to_float,  # noqa: F401
                          unpacked, wait_until)


@pytest.fixture
def connect(start_daemon, tmp_path):
    """connect(OPTIONS) gives a connection to a daemon that has these in its configuration."""
    def run(options="tail_idle = 50ms\n"):
        path = tmp_path / "test.conf"
        path.write_text(options)
        return Connection(start_daemon(arguments=["--config", path]).socket)
    return run


def values(tokens, seed=0):
    return tuple(to_dtype(part, SMALL.dtype) for part in gaussian(SMALL, tokens, seed))


def tail_row(connection, name):
    return next(row for row in connection.info(name).levels if row.place == PLACE_TAIL)


def wait_until_coded(connection, name):
    wait_until(lambda: connection.info(name).policy_state.tail_coded)


def test_a_tail_is_coded_after_a_while_and_the_daemon_counts_it(connect):
    connection = connect()
    session = connection.open(b"a", geometry=SMALL)
    append(session, values(100))
    raw = tail_row(connection, b"a")
    assert (raw.level, raw.tokens) == (EXACT, 100)
    wait_until_coded(connection, b"a")
    coded, info = tail_row(connection, b"a"), connection.info(b"a")
    assert (coded.level, coded.tokens, info.tail_tokens, info.version) == (FAST8, 100, 100, session.version)
    assert coded.bytes < 0.7 * raw.bytes
    ageing = connection.stats().ageing
    assert (ageing.coded_tails, ageing.tail_bytes_before, ageing.tail_bytes_after) == (1, raw.bytes, coded.bytes)


def test_a_client_that_knows_the_old_tail_goes_on_with_it(connect):
    connection = connect("tail_idle = 50ms\nlevel = exact\n")
    session, given = connection.open(b"a", geometry=SMALL), values(300)
    append(session, tuple(part[:, :100] for part in given))
    for end in (110, 300):
        wait_until_coded(connection, b"a")
        append(session, tuple(part[:, session.tokens:end] for part in given))
        assert not connection.info(b"a").policy_state.tail_coded
        assert_holds(session, tuple(part[:, :end] for part in given))
    assert connection.stats().ageing.decoded_tails == 2


def test_a_fetch_says_what_a_coded_tail_has_lost(connect):
    connection = connect()
    session, given = connection.open(b"a", geometry=SMALL), values(100)
    append(session, given)
    _, reply = session.fetch()
    assert [(row.level, row.tokens) for row in reply.levels] == [(EXACT, 100)] and reply.k.energy == 0
    wait_until_coded(connection, b"a")
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


@pytest.mark.parametrize("options", ["tail_idle = 50ms\ntail_idle_level = exact\n", "tail_idle = never\n"])
def test_tails_are_coded_as_the_configuration_says(connect, options):
    connection = connect(options)
    session, given = connection.open(b"a", geometry=SMALL), values(100)
    append(session, given)
    if "never" not in options:
        wait_until_coded(connection, b"a")
    assert tail_row(connection, b"a").level == EXACT
    assert_holds(session, given)


def test_ageing_with_settle_leaves_a_coded_tail_as_it_is(connect):
    connection = connect()
    session = connection.open(b"a", geometry=SMALL, level=1)
    append(session, values(300))
    wait_until_coded(connection, b"a")
    before = tail_row(connection, b"a")
    connection.age(b"a", 4)
    assert tail_row(connection, b"a") == before
    assert session.fetch()[1].tokens == 300
