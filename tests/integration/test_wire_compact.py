"""Sessions of 8-bit dtypes: bits that come back, levels, conversion, and what is refused."""

import numpy
import pytest
from wire import (BF16, EXACT, F16, F32, FAST8, FP8_E4M3, FP8_E5M2, HEADS_TOKENS_DIM, INT8, PLACE_PAGES,
                  Q4_0, Q8_0, TOKENS_HEADS_DIM, Geometry)
from wire_support import (append, assert_holds, bits, connection, gaussian, refused, stored,  # noqa: F401
                          to_dtype, to_float, unpacked, wait_until)

DTYPES = {FP8_E4M3: "fp8_e4m3", FP8_E5M2: "fp8_e5m2", INT8: "int8"}
BOUNDS = {FP8_E4M3: (-448, 448), FP8_E5M2: (-57344, 57344), INT8: (-128, 127)}
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.get)


def geometry_of(dtype):
    return Geometry(2, 3, 64, 64, dtype)


def to_8_bits(values, dtype):
    """The nearest, of what lies beyond the largest finite one."""
    return to_dtype(numpy.clip(values, *BOUNDS[dtype]), dtype)


def cache(dtype, tokens=300):
    """(K, V) as an engine makes them, scaled so that int8 holds them: bit patterns."""
    return tuple(to_8_bits(16 * part, dtype) for part in gaussian(geometry_of(dtype), tokens))


def coded(connection, level, dtype, name=b"s", settle=True, **kinds):
    """A session of a cache, and that."""
    session = connection.open(name, geometry=geometry_of(dtype), level=level)
    given = cache(dtype, **kinds)
    append(session, given, settle=settle)
    return session, given


def fetched(session, dtype):
    """(K, V) as float32, fetched as dtype."""
    kv, _ = session.fetch(dtype=dtype)
    return tuple(to_float(part, dtype) for part in unpacked(kv, session.geometry, dtype=dtype))


def decibels(given, got):
    given = given.astype(numpy.float64)
    return 10 * numpy.log10(numpy.sum(given ** 2) / numpy.sum((given - got) ** 2))


def levels_of(session):
    """Those at which it has pages."""
    return {row.level for row in session.info().levels if row.place == PLACE_PAGES}


@each_dtype
@pytest.mark.parametrize("layout", [TOKENS_HEADS_DIM, HEADS_TOKENS_DIM])
def test_any_bits_come_back_from_pages_and_tail(connection, dtype, layout):
    session = connection.open(b"s", geometry=geometry_of(dtype), level=EXACT)
    arrays = bits(session.geometry, 300)
    append(session, arrays, layout)
    assert session.tail_tokens > 0
    assert_holds(session, arrays)


@each_dtype
def test_a_cache_takes_less_than_its_8_bits_at_exact(connection, dtype):
    session, given = coded(connection, EXACT, dtype, tokens=4096)
    info = session.info()
    assert info.logical_bytes == info.values == sum(part.size for part in given)
    assert info.stored_bytes < info.logical_bytes


@each_dtype
@pytest.mark.parametrize("to", [F16, BF16, F32])
def test_exact_values_are_given_as_numbers(connection, dtype, to):
    session, given = coded(connection, EXACT, dtype)
    for values, got in zip(given, fetched(session, to)):
        expected = to_float(to_dtype(to_float(values, dtype), to), to)
        assert numpy.array_equal(expected, got, equal_nan=True)


@each_dtype
@pytest.mark.parametrize("level", [1, 3, 5])
def test_a_level_loses_what_it_says_where_it_is_fetched_as_float32(connection, dtype, level):
    session, given = coded(connection, level, dtype)
    info = session.info()
    for values, got, loss in zip(given, fetched(session, F32), (info.k, info.v)):
        if loss.error == 0:
            assert numpy.array_equal(to_float(values, dtype), got)
        else:
            measured = decibels(to_float(values, dtype), got)
            assert 10 * numpy.log10(loss.energy / loss.error) == pytest.approx(measured, abs=0.1)


@each_dtype
def test_level_3_takes_less_than_exact(connection, dtype):
    exact, _ = coded(connection, EXACT, dtype, b"exact", tokens=1024)
    lossy, _ = coded(connection, 3, dtype, b"lossy", tokens=1024)
    assert levels_of(lossy) == {3}
    assert lossy.info().stored_bytes < 0.8 * exact.info().stored_bytes


@each_dtype
def test_a_lossy_value_is_given_in_its_own_dtype_as_the_nearest(connection, dtype):
    session, _ = coded(connection, 3, dtype)
    kv, _ = session.fetch()
    for wide, own in zip(fetched(session, F32), unpacked(kv, session.geometry)):
        assert numpy.array_equal(to_float(to_8_bits(wide, dtype), dtype), to_float(own, dtype))


@each_dtype
def test_fast8_has_nothing_to_win_and_keeps_them_exact(connection, dtype):
    session, given = coded(connection, FAST8, dtype)
    assert levels_of(session) == {EXACT}
    assert_holds(session, given)


@each_dtype
def test_an_append_lands_exact_and_is_brought_to_its_level(connection, dtype):
    session, _ = coded(connection, 3, dtype, settle=False, tokens=256)
    wait_until(lambda: levels_of(session) == {3})
    assert session.info().k.error > 0


@each_dtype
def test_a_session_ages(connection, dtype):
    session, given = coded(connection, 3, dtype, tokens=1024)
    reply = connection.age(session.name, 4, settle=1)
    assert reply.stored_bytes < reply.stored_bytes_before
    info = session.info()
    for values, got, loss in zip(given, fetched(session, F32), (info.k, info.v)):
        measured = decibels(to_float(values, dtype), got)
        assert 10 * numpy.log10(loss.energy / loss.error) == pytest.approx(measured, abs=0.3)


@each_dtype
def test_a_session_is_fetched_in_its_own_8_bit_dtype_only(connection, dtype):
    session, given = stored(connection, b"s", geometry_of(dtype))
    kv, _ = session.fetch(dtype=dtype)
    for part, expected in zip(unpacked(kv, session.geometry), given):
        assert numpy.array_equal(part, expected)
    for other in (set(DTYPES) | {Q8_0, Q4_0}) - {dtype}:
        with refused("unsupported") as caught:
            connection.fetch(b"s", dtype=other)
        assert "f16, bf16 or f32" in caught.value.message


def test_numbers_are_not_rounded_to_8_bits(connection):
    stored(connection, b"s", Geometry(2, 3, 16, 16, F16))
    with refused("unsupported"):
        connection.fetch(b"s", dtype=FP8_E4M3)


@pytest.mark.parametrize("dtype", [Q8_0, Q4_0])
def test_blocks_are_refused_with_the_reason(connection, dtype):
    with refused("unsupported") as caught:
        connection.open(b"s", geometry=Geometry(2, 3, 64, 64, dtype))
    assert "q8_0" in caught.value.message and "scale" in caught.value.message


def test_the_daemon_counts_values_as_they_came(connection):
    stored(connection, b"small", geometry_of(INT8))
    stored(connection, b"large", Geometry(2, 3, 16, 16, F32))
    stats, infos = connection.stats(), connection.list().sessions
    assert stats.logical_bytes == sum(info.logical_bytes for info in infos)
    assert stats.bytes_16bit == 2 * sum(info.values for info in infos)
    connection.delete(b"large")
    assert connection.stats().logical_bytes == stats.logical_bytes - infos[1].logical_bytes
