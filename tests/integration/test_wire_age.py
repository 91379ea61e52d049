"""AGE and PIN: how coarse a session may become, and how long it is left alone."""

import numpy
import pytest
from test_wire_fork import forked
from wire import FAST8, PLACE_PAGES
from wire_support import (SMALL, append, assert_holds, connection, gaussian_bits, packed, refused,  # noqa: F401
                          stored, to_float, unpacked, wait_until)

LEVELS = [-2, -1, 0, 1, 2, 3, 4, 5]


def modelled(connection, name, tokens=512, level=-2, seed=0):
    session = connection.open(name, geometry=SMALL, level=level)
    append(session, gaussian_bits(SMALL, tokens, seed), settle=True)
    return session


def page_levels(connection, name):
    return {row.level for row in connection.info(name).levels if row.place == PLACE_PAGES}


@pytest.mark.parametrize("level", LEVELS[1:])
def test_ageing_codes_what_is_finer_anew(connection, level):
    session = modelled(connection, b"a")
    before = connection.info(b"a")
    reply = connection.age(b"a", level)
    after = connection.info(b"a")
    assert (reply.level, after.level) == (level, level)
    assert (reply.stored_bytes_before, reply.stored_bytes) == (before.stored_bytes, after.stored_bytes)
    assert after.stored_bytes < before.stored_bytes
    assert (after.version, after.tokens) == (before.version, before.tokens)
    assert page_levels(connection, b"a") == {level}
    assert session.fetch()[1].tokens == 512


def test_what_is_appended_later_lands_at_the_new_level(connection):
    session = modelled(connection, b"a")
    connection.age(b"a", 3)
    append(session, gaussian_bits(SMALL, 128), settle=True)
    assert page_levels(connection, b"a") == {3}


def test_an_append_begun_before_comes_to_the_new_level_too(connection):
    session = connection.open(b"a", geometry=SMALL, level=-1)
    arrays = gaussian_bits(SMALL, 128)
    request_id, pieces = session.begin(128, settle=True), list(session.pieces(128))
    for piece in pieces[:2]:
        session.send_piece(request_id, packed(arrays), piece)
    connection.age(b"a", 3)
    for piece in pieces[2:]:
        session.send_piece(request_id, packed(arrays), piece)
    session.commit(request_id)
    assert page_levels(connection, b"a") == {3}


def test_ageing_to_its_own_level_changes_nothing(connection):
    session, arrays = stored(connection, b"a", settle=True)
    reply = connection.age(b"a", -2)
    assert reply.stored_bytes == reply.stored_bytes_before
    assert_holds(session, arrays)


def test_without_settle_the_reply_comes_at_once_and_the_level_later(connection):
    modelled(connection, b"a", tokens=4096)
    assert connection.age(b"a", 4, settle=False).level == 4
    wait_until(lambda: page_levels(connection, b"a") == {4})


def test_what_age_and_pin_refuse(connection):
    modelled(connection, b"a", tokens=10, level=3)
    for level in (2, -2, 6, -3):
        with refused("invalid"):
            connection.age(b"a", level)
    for call in (connection.age, connection.pin):
        with refused("miss"):
            call(b"none", 3)
        with refused("invalid"):
            call(b"", 3)
    with refused("invalid"):
        connection.pin(b"a", 1 << 63)


def test_what_is_shared_stays_as_fine_as_the_finest_of_its_sessions(connection):
    source = modelled(connection, b"a", level=FAST8)
    before = source.fetch()[0]
    forked(connection, source, b"b")
    forked(connection, source, b"c", 256)
    connection.age(b"b", 4)
    assert source.fetch()[0] == before
    assert page_levels(connection, b"b") == {FAST8}
    connection.age(b"a", 2)
    assert page_levels(connection, b"a") == {FAST8, 2}, "c has the first half"
    connection.age(b"c", 5)
    wait_until(lambda: page_levels(connection, b"a") == {2})


def test_when_the_finest_is_deleted_the_others_come_to_their_level(connection):
    source = modelled(connection, b"a", level=FAST8)
    forked(connection, source, b"b")
    connection.age(b"b", 4)
    assert page_levels(connection, b"b") == {FAST8}
    connection.delete(b"a")
    wait_until(lambda: page_levels(connection, b"b") == {4})


def test_a_pin_ends_with_its_lease(connection):
    stored(connection, b"a")
    assert connection.info(b"a").pinned_ms == 0
    assert connection.pin(b"a", 60000).pinned_ms == 60000
    assert 59000 < connection.info(b"a").pinned_ms <= 60000
    assert connection.fork(b"a", b"b").tokens == 100
    assert connection.info(b"b").pinned_ms == 0, "a fork is not pinned"
    connection.pin(b"a", 30)
    wait_until(lambda: connection.info(b"a").pinned_ms == 0)
    connection.pin(b"a", 60000)
    assert connection.pin(b"a", 0).pinned_ms == 0
    assert connection.info(b"a").pinned_ms == 0


def test_ageing_from_a_level_estimates_its_loss_near_to_what_it_is(connection):
    session = connection.open(b"a", geometry=SMALL, level=2)
    given = gaussian_bits(SMALL, 512)
    append(session, given, settle=True)
    connection.age(b"a", 4)
    kv, reply = session.fetch()
    for values, got, loss in zip(given, unpacked(kv, SMALL), (reply.k, reply.v)):
        values, got = to_float(values, SMALL.dtype), to_float(got, SMALL.dtype)
        measured = numpy.sum((values.astype(numpy.float64) - got) ** 2)
        assert loss.estimated
        assert loss.error == pytest.approx(measured, rel=0.1)
