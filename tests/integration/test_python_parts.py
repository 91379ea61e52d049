"""kvq.h's calls that the Python interface does not show: appends in parts, and progress that cancels."""

import importlib.metadata

import kvquantd
import numpy as np
import pytest
from kvquantd._kvq import ffi, lib

LAYERS, TOKENS, HEADS, DIM = 3, 300, 2, 64
GEOMETRY = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM)
PARTS = (lib.KVQ_K, lib.KVQ_V)


@pytest.fixture
def session(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client.open("s", model="m", geometry=GEOMETRY, level="exact")


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal((2, LAYERS, TOKENS, HEADS, DIM)).astype(np.float16)


def call(session, function, *arguments):
    return function(session._client._connection.handle(), *arguments)


def begin(session, tokens=TOKENS, first=0):
    options = ffi.new("struct kvq_append_options *")
    options.size = ffi.sizeof("struct kvq_append_options")
    options.first, options.tokens = first, tokens
    return call(session, lib.kvq_append_begin, session._state, options)


def send(session, values, layer, part):
    pointer = ffi.from_buffer(np.ascontiguousarray(values[part, layer]))
    return call(session, lib.kvq_append_part, layer, part, pointer, 0, 0)


def tokens_of(session):
    return session.info()["tokens"]


def test_the_package_has_the_librarys_version():
    version = ffi.string(lib.kvq_version()).decode()
    assert (importlib.metadata.version("kvquantd"), kvquantd.__version__) == (version, version)


def test_layers_may_be_sent_in_any_order_and_appear_at_commit(daemon, session, values):
    assert begin(session) == lib.KVQ_OK
    for part in PARTS:
        for layer in (2, 0, 1):
            assert send(session, values, layer, part) == lib.KVQ_OK
    with kvquantd.connect(daemon.socket) as other:
        assert tokens_of(other.open("s")) == 0
    assert call(session, lib.kvq_append_commit) == lib.KVQ_OK
    assert session.tokens == TOKENS
    k, v = session.fetch()
    assert np.array_equal(k, values[0]) and np.array_equal(v, values[1])


def test_an_aborted_append_leaves_nothing(session, values):
    begin(session)
    send(session, values, 0, lib.KVQ_K)
    assert call(session, lib.kvq_append_abort) == lib.KVQ_OK
    assert call(session, lib.kvq_append_abort) == lib.KVQ_OK
    assert tokens_of(session) == 0
    assert session.append(values[0], values[1]) == TOKENS


def test_a_commit_before_every_part_is_incomplete_and_leaves_nothing(session, values):
    begin(session)
    send(session, values, 0, lib.KVQ_K)
    assert call(session, lib.kvq_append_commit) == lib.KVQ_INCOMPLETE
    assert tokens_of(session) == 0


def test_a_part_sent_twice_is_refused_and_ends_the_append(session, values):
    begin(session)
    send(session, values, 0, lib.KVQ_K)
    answers = {send(session, values, 0, lib.KVQ_K), call(session, lib.kvq_append_commit)}
    assert lib.KVQ_INVALID in answers
    assert tokens_of(session) == 0


def test_a_wrong_first_is_told_at_the_commit_at_the_latest(session, values):
    session.append(values[0], values[1])
    begin(session, first=7)
    codes = [send(session, values, layer, part) for layer in range(LAYERS) for part in PARTS]
    codes.append(call(session, lib.kvq_append_commit))
    assert lib.KVQ_WRONG_FIRST in codes
    assert session._state.tokens == TOKENS == tokens_of(session)


def test_between_begin_and_commit_nothing_else_is_taken(session, values):
    begin(session)
    assert call(session, lib.kvq_ping) == lib.KVQ_ARGUMENT
    assert begin(session) == lib.KVQ_ARGUMENT
    assert call(session, lib.kvq_append_abort) == lib.KVQ_OK
    assert call(session, lib.kvq_ping) == lib.KVQ_OK


def test_parts_and_commits_without_a_begin_are_refused(session, values):
    assert send(session, values, 0, lib.KVQ_K) == lib.KVQ_ARGUMENT
    assert call(session, lib.kvq_append_commit) == lib.KVQ_ARGUMENT


@pytest.mark.parametrize("layer, part", [(LAYERS, 0), (2**32 - 1, 0), (0, 2)])
def test_a_part_that_is_none_is_refused_and_the_append_goes_on(session, values, layer, part):
    begin(session)
    pointer = ffi.from_buffer(values)
    assert call(session, lib.kvq_append_part, layer, part, pointer, 0, 0) == lib.KVQ_ARGUMENT
    for one in PARTS:
        for layer_there in range(LAYERS):
            send(session, values, layer_there, one)
    assert call(session, lib.kvq_append_commit) == lib.KVQ_OK


@pytest.mark.parametrize("tokens, first", [(0, 0), (2**64 - 1, 0), (2, 2**64 - 2)])
def test_counts_that_cannot_be_are_refused(session, tokens, first):
    assert begin(session, tokens, first) == lib.KVQ_ARGUMENT
    assert call(session, lib.kvq_ping) == lib.KVQ_OK


def append_with_progress(session, values, progress):
    options = ffi.new("struct kvq_append_options *")
    options.size = ffi.sizeof("struct kvq_append_options")
    options.tokens, options.progress = TOKENS, progress
    options.k.block, options.v.block = (ffi.from_buffer(values[part]) for part in PARTS)
    return call(session, lib.kvq_append, session._state, options)


def fetch_with_progress(session, out, progress):
    options = ffi.new("struct kvq_fetch_options *")
    options.size = ffi.sizeof("struct kvq_fetch_options")
    options.progress = progress
    options.k.block, options.v.block = (ffi.from_buffer(out[part]) for part in PARTS)
    return call(session, lib.kvq_fetch, session._state, options, ffi.NULL)


def test_progress_counts_the_bytes_of_the_values(session, values):
    seen = []

    @ffi.callback("bool(void *, uint64_t)")
    def progress(_, count):
        seen.append(count)
        return True

    assert append_with_progress(session, values, progress) == lib.KVQ_OK
    assert seen == sorted(seen) and seen[-1] == values.nbytes
    seen.clear()
    assert fetch_with_progress(session, np.empty_like(values), progress) == lib.KVQ_OK
    assert seen == sorted(seen) and seen[-1] == values.nbytes


def test_progress_that_says_no_cancels_and_the_connection_serves_on(session, values):
    @ffi.callback("bool(void *, uint64_t)")
    def stop(_, count):
        return False

    assert append_with_progress(session, values, stop) == lib.KVQ_CANCELLED
    assert tokens_of(session) == 0
    session.append(values[0], values[1])
    assert fetch_with_progress(session, np.empty_like(values), stop) == lib.KVQ_CANCELLED
    k, v = session.fetch()
    assert np.array_equal(k, values[0]) and np.array_equal(v, values[1])


def test_options_of_an_older_program_are_filled_up_with_zeros(session, values):
    """A program built before `settle` and what follows it gives a shorter structure."""
    options = ffi.new("struct kvq_append_options *")
    options.size = ffi.offsetof("struct kvq_append_options", "settle")
    options.tokens, options.deadline_ms = TOKENS, 1  # beyond its size: not read
    options.k.block, options.v.block = (ffi.from_buffer(values[part]) for part in PARTS)
    assert call(session, lib.kvq_append, session._state, options) == lib.KVQ_OK


def test_every_error_has_a_name_and_a_sentence():
    codes = [*range(0, 22), *range(100, 106)]
    names = [ffi.string(lib.kvq_error_name(code)).decode() for code in codes]
    assert len(set(names)) == len(names) and "unknown" not in names
    assert all(ffi.string(lib.kvq_error_sentence(code)) for code in codes)
    retryable = {name for name, code in zip(names, codes) if lib.kvq_error_retryable(code)}
    assert retryable == {"tail_moved", "busy", "full", "too_many_requests", "shutting_down", "read_only",
                         "cannot_connect", "connection_lost", "deadline"}
    assert [ffi.string(lib.kvq_error_name(code)) for code in (-1, 30, 99, 107, 2**31 - 1)] == [b"unknown"] * 5
