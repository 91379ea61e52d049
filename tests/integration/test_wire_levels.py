"""Lossy levels: the loss that is reported is the loss there is, and coarser is smaller."""

import math

import numpy
import pytest
from wire import BF16, EXACT, F16, F32, FAST8, PLACE_PAGES, PLACE_SINKS, PLACE_TAIL, Geometry
from wire_support import append, assert_holds, connection, gaussian_bits, to_float, unpacked  # noqa: F401

MODEL = Geometry(layers=4, heads=3, head_dim_k=64, head_dim_v=64)
LEVELS = [FAST8, 0, 1, 2, 3, 4, 5]
DTYPES = {F16: "f16", BF16: "bf16", F32: "f32"}


def reported_db(loss):
    return 10 * math.log10(loss.energy / loss.error)


def measured_db(given, got):
    error = numpy.sum((given.astype(numpy.float64) - got) ** 2)
    return 10 * math.log10(numpy.sum(given.astype(numpy.float64) ** 2) / error)


def coded(connection, level, geometry=MODEL, tokens=512, name=b"chat", settle=True):
    """A session of values as in a model, coded at level; returns it and the values as given."""
    session = connection.open(name, geometry=geometry, level=level)
    patterns = gaussian_bits(geometry, tokens)
    append(session, patterns, settle=settle)
    return session, tuple(to_float(part, geometry.dtype) for part in patterns)


def fetched(session, **fields):
    kv, reply = session.fetch(**fields)
    dtype = fields.get("dtype") or session.geometry.dtype
    arrays = unpacked(kv, session.geometry, dtype=dtype)
    return tuple(None if part is None else to_float(part, dtype) for part in arrays), reply


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.get)
@pytest.mark.parametrize("level", LEVELS)
def test_a_fetch_reports_the_loss_there_is(connection, level, dtype):
    session, given = coded(connection, level, Geometry(4, 3, 64, 64, dtype))
    got, reply = fetched(session, dtype=F32)  # which loss is told of
    for values, decoded, loss in zip(given, got, (reply.k, reply.v)):
        assert not loss.estimated
        assert reported_db(loss) == pytest.approx(measured_db(values, decoded), abs=0.1)


@pytest.mark.parametrize("level", LEVELS)
def test_info_reports_the_loss_there_is(connection, level):
    session, given = coded(connection, level)
    got, _ = fetched(session)
    info = session.info()
    for values, decoded, loss in zip(given, got, (info.k, info.v)):
        assert reported_db(loss) == pytest.approx(measured_db(values, decoded), abs=0.1)
        assert loss.energy == pytest.approx(numpy.sum(values.astype(numpy.float64) ** 2), rel=0.001)


@pytest.mark.parametrize("level", [FAST8, 3])
def test_a_fetch_of_whole_pages_reports_the_loss_of_these(connection, level):
    session, given = coded(connection, level)
    got, reply = fetched(session, first=128, end=384)
    for values, decoded, loss in zip(given, got, (reply.k, reply.v)):
        assert reported_db(loss) == pytest.approx(measured_db(values[:, 128:384], decoded), abs=0.1)
        assert loss.energy == pytest.approx(
            numpy.sum(values[:, 128:384].astype(numpy.float64) ** 2), rel=0.001)


def test_exact_reports_no_loss(connection):
    session, _ = coded(connection, EXACT)
    _, reply = session.fetch()
    info = session.info()
    assert [loss.error for loss in (reply.k, reply.v, info.k, info.v)] == [0, 0, 0, 0]


def test_an_unsettled_session_reports_the_loss_there_is(connection):
    session, given = coded(connection, 3, tokens=300, settle=False)
    got, reply = fetched(session)
    pages = 300 - session.tail_tokens  # the tail has no loss and is not counted
    for values, decoded, loss in zip(given, got, (reply.k, reply.v)):
        assert reported_db(loss) == pytest.approx(
            measured_db(values[:, :pages], decoded[:, :pages]), abs=0.1)
        assert numpy.array_equal(values[:, pages:], decoded[:, pages:])


def test_coarser_levels_are_smaller_and_less_precise(connection):
    rows = []
    for level in [EXACT, *LEVELS]:
        session, given = coded(connection, level, name=b"level %d" % level)
        got, _ = fetched(session)
        if level == EXACT:
            assert all(numpy.array_equal(*pair) for pair in zip(given, got))
            db = (math.inf, math.inf)
        else:
            db = tuple(measured_db(*pair) for pair in zip(given, got))
        rows.append((session.info().stored_bytes, *db))
    for finer, coarser in zip(rows, rows[1:]):
        assert all(a > b for a, b in zip(finer, coarser)), rows


@pytest.mark.parametrize("level", range(5))
def test_the_step_of_a_level_gives_its_precision(connection, level):
    """A uniform step s of the RMS has an error of s^2 / 12: K's values without their means."""
    session, given = coded(connection, level)
    got, _ = fetched(session)
    error = numpy.mean((given[0] - got[0])[:, 128:].astype(numpy.float64) ** 2)
    without_means = given[0] - given[0].mean(axis=1, keepdims=True)
    db = 10 * math.log10(numpy.mean(without_means.astype(numpy.float64) ** 2) / error)
    step_db = -10 * math.log10((0.05 * 2 ** level) ** 2 / 12)
    assert db == pytest.approx(step_db, abs=1.5)


def test_the_first_four_tokens_are_kept_exact_at_any_level(connection):
    for level in LEVELS:
        session, given = coded(connection, level, tokens=200, name=b"level %d" % level)
        got, _ = fetched(session, end=4)
        for values, decoded in zip(given, got):
            assert numpy.array_equal(values[:, :4], decoded)


def test_the_first_four_tokens_are_kept_exact_when_they_come_one_by_one(connection):
    session = connection.open(b"chat", geometry=MODEL, level=4)
    patterns = gaussian_bits(MODEL, 300)
    for first, end in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 300)):
        append(session, tuple(part[:, first:end] for part in patterns), settle=True)
    got, _ = fetched(session, end=4)
    for part, decoded in zip(patterns, got):
        assert numpy.array_equal(to_float(part, F16)[:, :4], decoded)


def test_a_page_with_a_nan_is_kept_exact_at_a_lossy_level_and_says_so(connection):
    session = connection.open(b"chat", geometry=MODEL, level=3)
    patterns = gaussian_bits(MODEL, 128)
    for part, value in zip(patterns, (0x7E01, 0xFC00)):  # a NaN of K, an infinity of V in every layer
        part[:, 100, 1, 5] = value
    append(session, patterns, settle=True)
    assert_holds(session, patterns)
    _, reply = session.fetch()
    assert [row.level for row in reply.levels] == [EXACT]
    assert reply.k.error == reply.v.error == 0


@pytest.mark.parametrize("level", [FAST8, 3])
@pytest.mark.parametrize("geometry", [Geometry(2, 1, 40, 40), Geometry(2, 2, 80, 0), Geometry(1, 1, 96, 64),
                                      Geometry(1, 2, 256, 256, BF16), Geometry(1, 1, 1, 1, F32)], ids=str)
@pytest.mark.parametrize("tokens", [1, 5, 130])
def test_odd_shapes_report_the_loss_there_is(connection, geometry, level, tokens):
    session, given = coded(connection, level, geometry, tokens)
    got, reply = fetched(session, dtype=F32)
    for values, decoded, loss in zip(given, got, (reply.k, reply.v)):
        if decoded is None:
            assert loss is None or loss.energy == 0
        elif not loss.error:
            assert numpy.array_equal(values, decoded)
        else:
            assert reported_db(loss) == pytest.approx(measured_db(values, decoded), abs=0.1)


def test_infos_rows_name_the_places_of_all_tokens(connection):
    session, _ = coded(connection, 3, tokens=300, settle=True)
    rows = session.info().levels
    assert {row.place for row in rows} <= {PLACE_PAGES, PLACE_TAIL, PLACE_SINKS}
    assert sum(row.tokens for row in rows if row.place == PLACE_SINKS) == 4
    assert sum(row.bytes for row in rows if row.place == PLACE_SINKS) >= 4 * 4 * 2 * 3 * 64 * 2
    assert {row.level for row in rows if row.place == PLACE_PAGES} == {3}


@pytest.mark.parametrize("level", LEVELS)
def test_a_settled_session_decodes_the_same_every_time_and_in_every_range(connection, level):
    session, _ = coded(connection, level, tokens=300)
    whole, _ = fetched(session)
    again, _ = fetched(session)
    for a, b in zip(whole, again):
        assert numpy.array_equal(a, b)
    for first, end in ((0, 3), (100, 200), (127, 129), (299, 300)):
        part, _ = fetched(session, first=first, end=end)
        for a, b in zip(whole, part):
            assert numpy.array_equal(a[:, first:end], b)
