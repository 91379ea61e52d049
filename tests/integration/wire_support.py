"""What the tests of the wire, the store and the service share: values to send, and refusals to expect."""

import contextlib
import random
import socket
import threading
import time

import ml_dtypes
import numpy
import pytest
from wire import (BF16, CLOSING_TYPES, DATA, DTYPE_BYTES, ERROR, F16, F32, FETCH, FP8_E4M3, FP8_E5M2,
                  HEADS_TOKENS_DIM, INT8, RETRYABLE, TOKENS_HEADS_DIM, Closed, Connection, Geometry,
                  Refused)

NUMPY_DTYPES = {F16: numpy.float16, F32: numpy.float32, FP8_E4M3: ml_dtypes.float8_e4m3fn,
                FP8_E5M2: ml_dtypes.float8_e5m2, INT8: numpy.int8}
PATTERNS = {1: numpy.uint8, 2: numpy.uint16, 4: numpy.uint32}  # by bytes a value
SMALL = Geometry(layers=2, heads=3, head_dim_k=16, head_dim_v=16, dtype=F16)
LARGE = Geometry(layers=16, heads=8, head_dim_k=128, head_dim_v=128)  # 64 KiB a token
WIDE = Geometry(layers=8, heads=4, head_dim_k=64, head_dim_v=64)  # 8 KiB a token, 1 MiB a chunk
TINY = Geometry(layers=1, heads=1, head_dim_k=8, head_dim_v=8, dtype=F16)


@pytest.fixture
def connection(daemon):
    with Connection(daemon.socket) as connection:
        wait_until(lambda: connection.stats().connections == 1)  # the fixture's own has gone
        yield connection


@pytest.fixture
def large(connection):
    """A session "large" of 1,024 tokens at fast8: 128 MiB when fetched as float32."""
    session = connection.open(b"large", geometry=LARGE, level=-1)
    values = numpy.random.default_rng(1).normal(size=(16, 1024, 8, 128)).astype(numpy.float16)
    append(session, (values.view(numpy.uint16),) * 2, settle=True)
    return session


def begun_fetch(connection):
    """A fetch of the session "large" as float32, of which one frame is taken; its id."""
    request_id = connection.request(FETCH, "FetchRequest", session=b"large", dtype=F32)
    assert connection.receive().type == DATA
    return request_id


def noise(count, seed=0):
    return random.Random(seed).randbytes(count)


def bits(geometry, tokens, seed=0):
    """(K, V) of random bit patterns, NaN among them: [layers, tokens, heads, head_dim], unsigned."""
    kind = PATTERNS[DTYPE_BYTES[geometry.dtype]]
    generator = numpy.random.default_rng(seed)
    return tuple(generator.integers(0, numpy.iinfo(kind).max, dtype=kind, endpoint=True,
                                    size=(geometry.layers, tokens, geometry.heads, geometry.head_dim(part)))
                 for part in (0, 1))


def gaussian(geometry, tokens, seed=0):
    """(K, V) of float32 as in a model: a mean and a deviation for each channel, K's means the larger."""
    generator = numpy.random.default_rng(seed)
    out = []
    for part in (0, 1):
        channels = (geometry.layers, 1, geometry.heads, geometry.head_dim(part))
        means = generator.normal(0, (2.0, 0.2)[part], channels)
        deviations = generator.lognormal(0, 0.4, channels)
        shape = (geometry.layers, tokens, geometry.heads, geometry.head_dim(part))
        out.append((means + deviations * generator.normal(size=shape)).astype(numpy.float32))
    return tuple(out)


def to_bf16(values):
    """The bit patterns of float32 values rounded to the nearest bfloat16, ties to even; NaN stays NaN."""
    pattern = values.astype(numpy.float32).view(numpy.uint32).astype(numpy.uint64)
    rounded = ((pattern + 0x7FFF + (pattern >> 16 & 1)) >> 16).astype(numpy.uint16)
    return numpy.where(numpy.isnan(values), numpy.uint16(0x7FC0), rounded)


def to_dtype(values, dtype):
    """float32 values as the bit patterns of dtype, rounded to nearest even."""
    if dtype == BF16:
        return to_bf16(values)
    with numpy.errstate(over="ignore"):
        rounded = numpy.rint(values) if dtype == INT8 else values
        return rounded.astype(NUMPY_DTYPES[dtype]).view(PATTERNS[DTYPE_BYTES[dtype]])


def gaussian_bits(geometry, tokens, seed=0):
    """gaussian() as bit patterns of the geometry's dtype."""
    return tuple(to_dtype(part, geometry.dtype) for part in gaussian(geometry, tokens, seed))


def to_float(patterns, dtype):
    """The values of bit patterns, as float32, exactly."""
    if dtype == BF16:
        return (patterns.astype(numpy.uint32) << 16).view(numpy.float32)
    return patterns.view(NUMPY_DTYPES[dtype]).astype(numpy.float32)


def packed(arrays, layout=TOKENS_HEADS_DIM):
    """Arrays [layers, tokens, heads, head_dim] as Session takes them."""
    order = (0, 2, 1, 3) if layout == HEADS_TOKENS_DIM else (0, 1, 2, 3)
    return tuple([layer.tobytes() for layer in array.transpose(order)] for array in arrays)


def unpacked(kv, geometry, layout=TOKENS_HEADS_DIM, dtype=None):
    """What Session.fetch returned, as arrays of bit patterns [layers, tokens, heads, head_dim]."""
    kind = PATTERNS[DTYPE_BYTES[dtype or geometry.dtype]]
    out = []
    for part, layers in enumerate(kv):
        array = numpy.frombuffer(b"".join(layers), kind)
        if layout == HEADS_TOKENS_DIM:
            shape = (len(layers), geometry.heads, -1, geometry.head_dim(part))
            out.append(array.reshape(shape).transpose(0, 2, 1, 3) if array.size else None)
        else:
            shape = (len(layers), -1, geometry.heads, geometry.head_dim(part))
            out.append(array.reshape(shape) if array.size else None)
    return tuple(out)


def append(session, arrays, layout=TOKENS_HEADS_DIM, **fields):
    return session.append(arrays[0].shape[1], packed(arrays, layout), layout=layout, **fields)


def stored(connection, name, geometry=SMALL, tokens=100, level=-2, seed=0, **fields):
    """A session of random bits; returns it and what it holds."""
    session = connection.open(name, geometry=geometry, level=level)
    arrays = bits(geometry, tokens, seed)
    append(session, arrays, **fields)
    return session, arrays


def assert_holds(session, arrays):
    """A fetch of everything is bit for bit what was accepted."""
    kv, reply = session.fetch()
    assert reply.tokens == arrays[0].shape[1]
    for part, expected in zip(kv, packed(arrays)):
        assert part == expected


@contextlib.contextmanager
def refused(*names):
    """What happens inside is answered with ERROR of one of these names."""
    with pytest.raises(Refused) as caught:
        yield caught
    assert caught.value.name in names, caught.value
    assert caught.value.retryable == (caught.value.name in RETRYABLE)
    assert caught.value.message


def assert_ends(connection, *names):
    """The daemon answers with ERROR of one of these names and closes; nothing else comes."""
    got = connection.receive()
    assert got.type == ERROR, got
    assert Refused(got.control).name in names, Refused(got.control)
    with pytest.raises(Closed):
        connection.receive()


def drain(connection, request_id):
    """Frames of request_id up to and with the one that closes it."""
    frames = []
    while True:
        frames.append(connection.receive())
        if frames[-1].request_id == request_id and frames[-1].type in CLOSING_TYPES:
            return frames


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.02)


@contextlib.contextmanager
def waiting(daemon, connection, act):
    """While act(a connection of its own) waits for memory; gives a list that takes what came of it. At the
    end the connection is lost."""
    outcome = []

    def run(other):
        try:
            outcome.append(act(other))
        except (Refused, Closed, OSError) as error:
            outcome.append(error)

    with Connection(daemon.socket) as other:
        thread = threading.Thread(target=run, args=(other,))
        thread.start()
        try:
            wait_until(lambda: connection.stats().appends_waiting)
            yield outcome
        finally:
            other.socket.shutdown(socket.SHUT_RDWR)
            thread.join()


def assert_serves(daemon):
    """A stranger can still store something and read it back."""
    with Connection(daemon.socket) as other:
        assert_holds(*stored(other, b"a stranger's", TINY, 5))
        other.delete(b"a stranger's")
