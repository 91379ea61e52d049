"""OPEN with min_snr_db: every page has so many decibels, whatever becomes of the session."""

import math

import numpy
import pytest
from wire import BF16, EXACT, F16, F32, FAST8, FP8_E4M3, FP8_E5M2, INT8, PLACE_PAGES, Geometry
from wire_support import append, connection, gaussian_bits, refused, to_float, unpacked, wait_until  # noqa: F401

MODEL = Geometry(layers=4, heads=3, head_dim_k=64, head_dim_v=64)
PAGE = 128
ROUNDING_DB = 1e-3  # of a page's sums, which it has as float32


def stored(connection, min_snr_db, geometry=MODEL, tokens=512, settle=True, **fields):
    """A session with decibels promised, and what was appended to it."""
    session = connection.open(b"chat", geometry=geometry, min_snr_db=min_snr_db, **fields)
    given = gaussian_bits(geometry, tokens)
    append(session, given, settle=settle)
    return session, given


def decibels(given, got):
    error = numpy.sum((given.astype(numpy.float64) - got) ** 2)
    return 10 * math.log10(numpy.sum(given.astype(numpy.float64) ** 2) / error) if error else math.inf


def least_decibels(session, given, dtype=None):
    """Of all pages: those of K, those of V, fetched as dtype (the session's)."""
    own = session.geometry.dtype
    kv, _ = session.fetch(dtype=dtype or own)
    least = []
    for values, got in zip(given, unpacked(kv, session.geometry, dtype=dtype)):
        values, got = to_float(values, own), to_float(got, dtype or own)
        least.append(min(decibels(values[layer, first:first + PAGE], got[layer, first:first + PAGE])
                         for layer in range(len(values)) for first in range(0, values.shape[1], PAGE)))
    return least


def settled(connection):
    """Once the keeper has nothing to do."""
    wait_until(lambda: connection.stats().keeper.queued_sessions == 0)
    connection.age(b"chat", connection.info(b"chat").level)


def page_levels(connection, name=b"chat"):
    return {row.level for row in connection.info(name).levels if row.place == PLACE_PAGES}


@pytest.mark.parametrize("min_snr_db", [6, 20, 30, 42, 90, 200])
@pytest.mark.parametrize("dtype", [F16, BF16, F32])
def test_every_page_has_the_decibels(connection, min_snr_db, dtype):
    session, given = stored(connection, min_snr_db, Geometry(4, 3, 64, 64, dtype), tokens=300)
    assert min(least_decibels(session, given)) >= min_snr_db - ROUNDING_DB


@pytest.mark.parametrize("min_snr_db", [6, 20, 30, 42])
@pytest.mark.parametrize("dtype", [FP8_E4M3, FP8_E5M2, INT8])
def test_every_page_of_8_bits_has_the_decibels_as_float32(connection, min_snr_db, dtype):
    session, given = stored(connection, min_snr_db, Geometry(4, 3, 64, 64, dtype), tokens=300)
    assert min(least_decibels(session, given, F32)) >= min_snr_db - ROUNDING_DB


def test_every_page_has_them_before_and_after_the_keeper_comes(connection):
    session, given = stored(connection, 30, settle=False)
    assert min(least_decibels(session, given)) >= 30 - ROUNDING_DB
    settled(connection)
    assert min(least_decibels(session, given)) >= 30 - ROUNDING_DB


def test_the_keeper_makes_of_it_what_coding_at_once_does(connection):
    session, _ = stored(connection, 30, settle=False)
    settled(connection)
    behind, info = session.fetch()[0], connection.info(b"chat")
    connection.delete(b"chat")
    session, _ = stored(connection, 30)
    assert session.fetch()[0] == behind
    assert connection.info(b"chat").stored_bytes == info.stored_bytes
    assert not info.k.estimated and not info.v.estimated


def test_fewer_decibels_take_fewer_bytes(connection):
    taken = []
    for min_snr_db in (200, 42, 36, 30, 24, 18, 12):
        stored(connection, min_snr_db)
        taken.append(connection.info(b"chat").stored_bytes)
        connection.delete(b"chat")
    assert taken == sorted(set(taken), reverse=True)


def test_without_a_level_the_coarsest_is_open_to_it(connection):
    session, _ = stored(connection, 1)
    assert session.level == 5
    assert page_levels(connection) == {5}


@pytest.mark.parametrize("level", [EXACT, FAST8, 1])
def test_a_level_that_is_given_is_the_coarsest(connection, level):
    stored(connection, 1, level=level)
    assert page_levels(connection) == {level}


def test_info_tells_the_decibels_and_the_levels_that_came_out(connection):
    stored(connection, 30)
    info = connection.info(b"chat")
    assert info.min_snr_db == 30
    pages = [row for row in info.levels if row.place == PLACE_PAGES]
    assert len(pages) > 1 and max(row.level for row in pages) < 5, "V needs a finer level than K"
    assert sum(row.tokens for row in info.levels) == 512
    for loss in (info.k, info.v):
        assert 10 * math.log10(loss.energy / loss.error) >= 30


def test_ageing_leaves_every_page_its_decibels(connection):
    session, given = stored(connection, 30, level=0)
    connection.age(b"chat", 5)
    assert connection.info(b"chat").level == 5
    assert min(least_decibels(session, given)) >= 30 - ROUNDING_DB


def test_ageing_codes_what_is_exact_and_leaves_what_is_lossy(connection):
    session, given = stored(connection, 30, level=EXACT)
    connection.age(b"chat", 1)
    assert max(page_levels(connection)) == 1
    assert min(least_decibels(session, given)) >= 30 - ROUNDING_DB
    lossy = session.fetch()[0]
    connection.age(b"chat", 5)
    assert session.fetch()[0] == lossy


def test_what_is_appended_after_ageing_has_the_decibels_too(connection):
    session, given = stored(connection, 30, level=0)
    connection.age(b"chat", 5)
    append(session, given, settle=True)
    whole = tuple(numpy.concatenate((part, part), axis=1) for part in given)
    assert min(least_decibels(session, whole)) >= 30 - ROUNDING_DB


def test_a_fork_promises_the_same(connection):
    session, given = stored(connection, 30)
    connection.fork(b"chat", b"fork")
    fork = connection.open(b"fork", geometry=MODEL)
    assert (fork.level, fork.min_snr_db) == (5, 30)
    append(fork, given, settle=True)
    whole = tuple(numpy.concatenate((part, part), axis=1) for part in given)
    assert min(least_decibels(fork, whole)) >= 30 - ROUNDING_DB


def test_the_decibels_are_those_of_the_sessions_creation(connection):
    connection.open(b"chat", geometry=MODEL, min_snr_db=30)
    assert connection.open(b"chat", geometry=MODEL, min_snr_db=10).min_snr_db == 30
    connection.open(b"plain", geometry=MODEL, level=3)
    assert connection.open(b"plain", geometry=MODEL, min_snr_db=10).min_snr_db == 0


@pytest.mark.parametrize("min_snr_db", [-1, 200.5, math.inf, -math.inf, math.nan])
def test_decibels_that_cannot_be_are_refused(connection, min_snr_db):
    with refused("invalid"):
        connection.open(b"chat", geometry=MODEL, min_snr_db=min_snr_db)
    assert not connection.list().sessions
