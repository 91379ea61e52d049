"""The keeper: what was accepted at a finer level comes to its session's level by itself, and says so."""

import math

import numpy
import pytest
from conftest import RSS_SLACK_BYTES, SLOWNESS
from wire import EXACT, FAST8, PLACE_PAGES, PLACE_SINKS, PLACE_TAIL, Connection, Geometry
from wire_support import (append, assert_holds, bits, connection, gaussian, gaussian_bits, to_dtype,  # noqa: F401
                          to_float, unpacked, wait_until)

MODEL = Geometry(layers=8, heads=3, head_dim_k=64, head_dim_v=64)
SETTLING_SECONDS = 60 * SLOWNESS
HOUR_MS = 3_600_000


def appended(connection, level, tokens=1000, name=b"chat"):
    session = connection.open(name, geometry=MODEL, level=level)
    patterns = gaussian_bits(MODEL, tokens)
    append(session, patterns)
    return session, patterns


def is_settled(session):
    rows = session.info().levels
    return {row.level for row in rows if row.place == PLACE_PAGES} == {session.level}


def measured_db(given, got):
    error = numpy.sum((given.astype(numpy.float64) - got) ** 2)
    return 10 * math.log10(numpy.sum(given.astype(numpy.float64) ** 2) / error)


@pytest.mark.parametrize("level", [EXACT, FAST8, 0, 3, 5])
def test_a_session_comes_to_its_level_by_itself(connection, level):
    session, _ = appended(connection, level)
    wait_until(lambda: is_settled(session), SETTLING_SECONDS)


def test_a_session_at_level_3_shrinks_to_less_than_a_third(connection):
    session, _ = appended(connection, 3, tokens=1024)
    wait_until(lambda: is_settled(session), SETTLING_SECONDS)
    info = session.info()
    assert info.stored_bytes < info.logical_bytes / 3


def test_a_settled_session_gives_its_memory_to_others(connection):
    before = connection.stats().used_bytes
    session, _ = appended(connection, 3, tokens=2048)
    wait_until(lambda: is_settled(session), SETTLING_SECONDS)
    logical = session.info().logical_bytes
    wait_until(lambda: connection.stats().used_bytes - before < logical / 2, SETTLING_SECONDS)


def test_the_loss_reported_after_settling_is_the_loss_there_is(connection):
    session, patterns = appended(connection, 3)
    wait_until(lambda: is_settled(session), SETTLING_SECONDS)
    kv, reply = session.fetch()
    for given, got, loss in zip(patterns, unpacked(kv, MODEL), (reply.k, reply.v)):
        reported = 10 * math.log10(loss.energy / loss.error)
        measured = measured_db(to_float(given, MODEL.dtype), to_float(got, MODEL.dtype))
        assert reported == pytest.approx(measured, abs=0.5 if loss.estimated else 0.1)


def test_a_session_brought_to_its_level_loses_hardly_more_than_one_settled_at_once(connection):
    session, patterns = appended(connection, 3, name=b"later")
    at_once = connection.open(b"at once", geometry=MODEL, level=3)
    append(at_once, patterns, settle=True)
    wait_until(lambda: is_settled(session), SETTLING_SECONDS)
    for part in (0, 1):
        given = to_float(patterns[part], MODEL.dtype)
        later, now = (to_float(unpacked(s.fetch(end=896)[0], MODEL)[part], MODEL.dtype)
                      for s in (session, at_once))
        assert measured_db(given[:, :896], later) > measured_db(given[:, :896], now) - 0.5


def test_fetches_meanwhile_are_never_worse_than_the_sessions_level(connection):
    session, patterns = appended(connection, 3, tokens=2048)
    given = tuple(to_float(part, MODEL.dtype) for part in patterns)
    for _ in range(10):
        kv, _ = session.fetch()
        for values, got in zip(given, unpacked(kv, MODEL)):
            got = to_float(got, MODEL.dtype)
            assert numpy.array_equal(values, got) or measured_db(values, got) > 12


def test_tokens_that_stand_far_out_are_told_with_the_sinks_and_are_exact(connection):
    session = connection.open(b"chat", geometry=MODEL, level=3)
    patterns = gaussian(MODEL, 384)
    for part in patterns:
        part[:, 200] *= 50
    given = tuple(to_dtype(part, MODEL.dtype) for part in patterns)
    append(session, given, settle=True)
    rows = session.info().levels
    assert sum(row.tokens for row in rows if row.place == PLACE_SINKS) == 4 + 1
    assert sum(row.tokens for row in rows) == 384
    for part, got in zip(given, unpacked(session.fetch()[0], MODEL)):
        assert numpy.array_equal(part[:, 200], got[:, 200])


def test_an_exact_session_stays_exact(connection):
    session = connection.open(b"chat", geometry=MODEL, level=EXACT)
    arrays = bits(MODEL, 1000)
    append(session, arrays)
    wait_until(lambda: is_settled(session), SETTLING_SECONDS)
    assert_holds(session, arrays)


def test_appends_go_on_while_the_keeper_works(connection):
    session = connection.open(b"chat", geometry=MODEL, level=3)
    patterns = gaussian_bits(MODEL, 2000)
    for first in range(0, 2000, 100):
        append(session, tuple(part[:, first:first + 100] for part in patterns))
    wait_until(lambda: is_settled(session), SETTLING_SECONDS)
    kv, reply = session.fetch()
    assert reply.tokens == 2000
    for given, got in zip(patterns, unpacked(kv, MODEL)):
        assert measured_db(to_float(given, MODEL.dtype), to_float(got, MODEL.dtype)) > 12


def test_the_newest_tokens_are_told_as_tail(connection):
    session, _ = appended(connection, 3, tokens=1000)
    rows = session.info().levels
    assert sum(row.tokens for row in rows if row.place == PLACE_TAIL) == session.info().tail_tokens


def test_a_deleted_session_is_none_of_the_keepers_business(connection):
    before = connection.stats().used_bytes
    for number in range(20):
        session, _ = appended(connection, 3, tokens=512, name=b"%d" % number)
        connection.delete(b"%d" % number)
    wait_until(lambda: connection.stats().used_bytes - before < 1 << 20)


@pytest.mark.memory("128M")
def test_appends_wait_for_the_keeper_until_three_times_the_limit_is_held_at_level_3(daemon, connection):
    pages = gaussian_bits(MODEL, 384)
    count = 3 * (128 << 20) // sum(part.nbytes for part in pages) + 1
    for number in range(count):
        session = connection.open(b"%d" % number, geometry=MODEL, level=3)
        connection.pin(session.name, HOUR_MS)  # nothing goes, however long an append waits for the keeper
        append(session, tuple(numpy.roll(part, number, axis=3) for part in pages), wait_ms=HOUR_MS)
        stats = connection.stats()
        assert stats.used_bytes <= stats.limit_bytes
        assert daemon.rss_bytes() <= 1.1 * stats.limit_bytes + RSS_SLACK_BYTES
    for number in range(count):
        kv, reply = connection.open(b"%d" % number, geometry=MODEL).fetch()
        for part, got in zip(pages, unpacked(kv, MODEL)):
            given = to_float(numpy.roll(part, number, axis=3), MODEL.dtype)
            assert measured_db(given, to_float(got, MODEL.dtype)) > 12


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_any_number_of_codec_threads_brings_sessions_to_their_level(start_daemon, tmp_path, threads):
    config = tmp_path / "kvquantd.conf"
    config.write_text(f"codec_threads = {threads}\n")
    with Connection(start_daemon(arguments=["--config", str(config)]).socket) as connection:
        sessions = [appended(connection, 3, tokens=2048, name=name) for name in (b"one", b"two")]
        for session, patterns in sessions:
            wait_until(lambda session=session: is_settled(session), SETTLING_SECONDS)
            kv, reply = session.fetch()
            for given, got, loss in zip(patterns, unpacked(kv, MODEL), (reply.k, reply.v)):
                measured = measured_db(to_float(given, MODEL.dtype), to_float(got, MODEL.dtype))
                assert 10 * math.log10(loss.energy / loss.error) == pytest.approx(measured, abs=0.5)
        assert connection.stats().keeper.chunks == 2 * 2048 // 128
