"""Fetches: conversion to another dtype, ranges that are not there, versions, what goes away."""

import numpy
import pytest
from wire import (BF16, DATA, DATA_CONTROL, ERROR, F16, F32, FETCH, REPLY, Connection, Geometry, Refused,
                  decode)
from wire_support import (LARGE, SMALL, append, begun_fetch, bits, connection, drain, gaussian_bits,  # noqa: F401
                          large, refused, stored, to_dtype, to_float, unpacked)

DTYPES = {F16: "f16", BF16: "bf16", F32: "f32"}
ALL16 = numpy.arange(1 << 16, dtype=numpy.uint16)


def every_pattern(dtype):
    """All patterns of a 16-bit dtype, or float32 values at the edges of the others' rounding."""
    if dtype != F32:
        return ALL16
    edges = numpy.concatenate([to_float(ALL16, F16), to_float(ALL16, BF16)]).view(numpy.uint32)
    near = [edges + numpy.uint32(offset) for offset in
            (0, 1, -1 & 0xFFFFFFFF, 0x7FFF, 0x8000, 0x8001, 0x0FFF, 0x1000, 0x1001)]
    patterns = numpy.concatenate(near)
    return patterns[:len(patterns) // 2048 * 2048]


def stored_patterns(connection, dtype):
    patterns = every_pattern(dtype).reshape(1, -1, 1, 128)
    geometry = Geometry(1, 1, 128, 0, dtype)
    session = connection.open(b"chat", geometry=geometry, level=-2)
    append(session, (patterns, numpy.empty((1, patterns.shape[1], 1, 0), patterns.dtype)), settle=True)
    return session, patterns


@pytest.mark.parametrize("to", DTYPES, ids=DTYPES.get)
@pytest.mark.parametrize("of", DTYPES, ids=DTYPES.get)
def test_every_value_is_converted_to_the_nearest_ties_to_even(connection, of, to):
    session, patterns = stored_patterns(connection, of)
    kv, _ = session.fetch(dtype=to)
    got = unpacked(kv, session.geometry, dtype=to)[0]
    if of == to:
        assert numpy.array_equal(got, patterns)
        return
    values = to_float(patterns, of)
    expected = to_dtype(values, to)
    number = ~numpy.isnan(values)
    assert numpy.array_equal(got[number], expected[number])
    assert numpy.isnan(to_float(got, to)[~number]).all()


@pytest.mark.parametrize("to", [F16, BF16, F32], ids=DTYPES.get)
@pytest.mark.parametrize("level", [-1, 3])
def test_a_lossy_value_is_the_same_in_every_dtype_but_for_rounding(connection, level, to):
    geometry = Geometry(2, 2, 32, 32, F32)
    session = connection.open(b"chat", geometry=geometry, level=level)
    append(session, gaussian_bits(geometry, 256), settle=True)
    wide = unpacked(session.fetch(dtype=F32)[0], geometry, dtype=F32)
    narrow = unpacked(session.fetch(dtype=to)[0], geometry, dtype=to)
    for a, b in zip(wide, narrow):
        assert numpy.array_equal(to_dtype(to_float(a, F32), to), b)


@pytest.mark.parametrize("of", [F32, BF16], ids=DTYPES.get)
def test_a_lossy_value_beyond_the_dtypes_range_becomes_its_largest(connection, of):
    geometry = Geometry(1, 1, 64, 0, of)
    values = numpy.random.default_rng(4).choice([-5e5, 5e5], (1, 256, 1, 64)).astype(numpy.float32)
    session = connection.open(b"chat", geometry=geometry, level=0)
    append(session, (to_dtype(values, of), numpy.empty((1, 256, 1, 0), numpy.uint16)), settle=True)
    kv, reply = session.fetch(first=4, dtype=F16)
    got = to_float(unpacked(kv, geometry, dtype=F16)[0], F16)
    assert {row.level for row in reply.levels} == {0}
    assert numpy.array_equal(got, numpy.sign(values[:, 4:]) * numpy.float32(65504))


def test_an_exact_value_beyond_the_dtypes_range_becomes_an_infinity(connection):
    geometry = Geometry(1, 1, 64, 0, F32)
    values = numpy.random.default_rng(4).choice([-5e5, 5e5], (1, 256, 1, 64)).astype(numpy.float32)
    session = connection.open(b"chat", geometry=geometry, level=-2)
    append(session, (to_dtype(values, F32), numpy.empty((1, 256, 1, 0), numpy.uint32)), settle=True)
    got = to_float(unpacked(session.fetch(dtype=F16)[0], geometry, dtype=F16)[0], F16)
    assert numpy.array_equal(got, numpy.sign(values) * numpy.float32(numpy.inf))


@pytest.mark.parametrize("fields", [
    {"end": 101}, {"first": 50, "end": 101}, {"first": 101, "end": 102}, {"end": 1 << 63},
    {"end": (1 << 64) - 1}, {"first": 1, "end": (1 << 64) - 1}, {"first": 1 << 63, "end": (1 << 64) - 1},
], ids=str)
def test_tokens_that_are_not_there_are_a_miss(connection, fields):
    stored(connection, b"chat", SMALL, 100)
    with refused("miss"):
        connection.fetch(b"chat", **fields)
    connection.ping()


@pytest.mark.parametrize("first", [101, 1 << 32, 1 << 63, (1 << 64) - 1])
def test_a_fetch_from_beyond_the_length_to_its_end_is_no_hit(connection, first):
    stored(connection, b"chat", SMALL, 100)
    with refused("miss", "invalid"):
        connection.fetch(b"chat", first=first)


@pytest.mark.parametrize("fields", [
    {"first_layer": 3}, {"end_layer": 3}, {"first_layer": 1, "end_layer": 1 << 31},
    {"first_layer": (1 << 32) - 1}, {"end_layer": (1 << 32) - 1}, {"first_layer": 2, "end_layer": 1},
    {"first": 50, "end": 49}, {"skip_k": True, "skip_v": True},
], ids=str)
def test_a_range_that_cannot_be_is_invalid(connection, fields):
    stored(connection, b"chat", SMALL, 100)
    with refused("invalid"):
        connection.fetch(b"chat", **fields)
    connection.ping()


def test_v_alone_of_a_model_that_keeps_none_is_invalid(connection):
    stored(connection, b"chat", Geometry(1, 1, 8, 0), 10)
    with refused("invalid"):
        connection.fetch(b"chat", skip_k=True)


@pytest.mark.parametrize("fields", [{"first": 100}, {"first": 100, "end": 100}, {"first": 50, "end": 50}],
                         ids=str)
def test_an_empty_range_is_answered_by_reply_alone(connection, fields):
    stored(connection, b"chat", SMALL, 100)
    frames, reply = connection.fetch(b"chat", **fields)
    assert not frames and (reply.tokens, reply.bytes) == (0, 0)


def test_a_session_of_no_tokens_is_fetched_as_nothing(connection):
    connection.open(b"chat", geometry=SMALL)
    frames, reply = connection.fetch(b"chat")
    assert not frames and reply.tokens == 0


def test_if_version_that_holds_is_served(connection):
    session, arrays = stored(connection, b"chat", SMALL, 200)
    for layer in range(SMALL.layers):
        _, reply = session.fetch(first_layer=layer, end_layer=layer + 1, if_version=session.version)
        assert reply.version == session.version


def test_if_version_that_does_not_hold_is_refused(connection):
    session, arrays = stored(connection, b"chat", SMALL, 200)
    before = session.version
    append(session, bits(SMALL, 1))
    for version in (before, session.version + 1, (1 << 64) - 1):
        with refused("version_changed"):
            connection.fetch(b"chat", if_version=version)


def test_if_version_of_a_deleted_and_recreated_session_does_not_hold(connection):
    session, _ = stored(connection, b"chat", SMALL, 10)
    connection.delete(b"chat")
    stored(connection, b"chat", SMALL, 10)
    with refused("version_changed"):
        connection.fetch(b"chat", if_version=session.version)


def test_fetch_tells_the_version_it_saw(connection):
    session, _ = stored(connection, b"chat", SMALL, 10)
    assert connection.fetch(b"chat")[1].version == session.version


def test_a_fetch_needs_no_open(daemon, connection):
    _, arrays = stored(connection, b"chat", SMALL, 10)
    with Connection(daemon.socket) as other:
        frames, _ = other.fetch(b"chat")
        assert len(frames) == 4


def test_a_delete_during_a_fetch_gives_a_miss(daemon, connection, large):  # noqa: F811
    request_id = begun_fetch(connection)
    with Connection(daemon.socket) as other:
        other.delete(b"large")
    closing = drain(connection, request_id)[-1]
    assert closing.type == ERROR and Refused(closing.control).name == "miss"
    connection.ping()


def test_a_session_created_anew_during_a_fetch_is_not_mixed_in(daemon, connection, large):  # noqa: F811
    request_id = begun_fetch(connection)
    with Connection(daemon.socket) as other:
        other.delete(b"large")
        append(other.open(b"large", geometry=LARGE, level=-2), bits(LARGE, 1))
    closing = drain(connection, request_id)[-1]
    assert closing.type == ERROR and Refused(closing.control).name == "miss"


def test_an_append_during_a_fetch_does_not_show_in_it(daemon, connection, large):  # noqa: F811
    request_id = begun_fetch(connection)
    with Connection(daemon.socket) as other:
        append(other.open(b"large", geometry=LARGE), bits(LARGE, 3))
    frames = drain(connection, request_id)
    assert frames[-1].type == REPLY
    ends = [sum(DATA_CONTROL.unpack(frame.control)[:2]) for frame in frames[:-1]]
    assert max(ends) == 1024


def test_if_version_is_compared_when_the_fetch_begins(daemon, connection, large):  # noqa: F811
    request_id = connection.request(FETCH, "FetchRequest", session=b"large", dtype=F32,
                                    if_version=large.version)
    assert connection.receive().type == DATA
    with Connection(daemon.socket) as other:
        append(other.open(b"large", geometry=LARGE), bits(LARGE, 3))
    closing = drain(connection, request_id)[-1]
    assert closing.type == REPLY
    reply = decode("FetchReply", closing.control)
    assert (reply.tokens, reply.version) == (1024, large.version)
