"""A large append over several connections: it holds what one over one holds, and ends whole or not at all."""

import numpy as np
import pytest
from kvquantd._kvq import ffi, lib
from library import Library, plain

LAYERS, HEADS, DIM, PAGE = 2, 8, 128, 128
TOKENS = 3000  # 24 MiB: three connections are worth it
AT_END = 2**64 - 1
TOKEN_BYTES = LAYERS * HEADS * DIM * 2 * 2
SHAPE = dict(layers=LAYERS, heads=HEADS, head_dim_k=DIM, head_dim_v=DIM, dtype=lib.KVQ_F16)
VALUES = np.random.default_rng(3).integers(0, 1 << 16, (2, LAYERS, TOKENS, HEADS, DIM), np.uint16)
BOTH_FORMS = pytest.mark.parametrize("non_blocking", [False, True])


def source(values):
    """Strides as they are: any order of the axes [layers, tokens, heads, head_dim]."""
    layer, token, head, _ = values.strides
    return dict(block=ffi.cast("void *", values.ctypes.data), layer_stride=layer, token_stride=token, head_stride=head)


def options_of(library, values=VALUES, **options):
    k, v = (source(part) for part in values)
    given = dict(first=AT_END, tokens=values[0].shape[1], k=k, v=v)
    return library.options("kvq_append_options", **{**given, **options})


def append(library, state, values=VALUES, **options):
    return library.call("kvq_append", state, options_of(library, values, **options))


def held(library, session="s"):
    """All K and V of a session, and its state."""
    error, state = library.find(session)
    assert error == "ok"
    out = np.zeros((2, LAYERS, state.tokens, HEADS, DIM), np.uint16)
    k, v = (dict(block=ffi.cast("void *", part.ctypes.data)) for part in out)
    given = library.options("kvq_fetch_options", k=k, v=v)
    assert state.tokens == 0 or library.call("kvq_fetch", state, given, ffi.NULL) == "ok"
    return out, state


def appends_of(library):
    """(requests, connections): how many APPEND the daemon has seen, and who is connected."""
    stats = ffi.new("struct kvq_stats *")
    assert library.call("kvq_stats", stats) == "ok"
    counts = {plain(one.operation): one.requests for one in stats.operations[0:stats.operation_count]}
    return counts.get("append", 0), stats.connections


@pytest.fixture
def one(daemon):
    with Library(daemon.socket) as library:
        yield library


@pytest.mark.parametrize("settle", [False, True])
@pytest.mark.parametrize("tail", [0, 100])
@BOTH_FORMS
def test_several_connections_store_what_was_given(daemon, one, tail, settle, non_blocking):
    with Library(daemon.socket, non_blocking, connections=3) as several:
        state = several.open("s", SHAPE)[1]
        if tail:
            assert append(several, state, VALUES[:, :, :tail]) == "ok"
        requests, connections = appends_of(one)
        assert append(several, state, VALUES[:, :, tail:], settle=settle) == "ok"
        assert appends_of(one) == (requests + 3, connections + 2)
        out, found = held(one)
        assert (out == VALUES).all()
        for name in ("version", "tokens", "tail_tokens"):
            assert getattr(state, name) == getattr(found, name)


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (2, 1, 0, 3)])
def test_any_order_of_the_axes(daemon, one, order):
    values = [np.ascontiguousarray(part.transpose(order)).transpose(np.argsort(order)) for part in VALUES]
    with Library(daemon.socket, connections=2) as several:
        assert append(several, several.open("s", SHAPE)[1], values) == "ok"
        assert (held(one)[0] == VALUES).all() and appends_of(one)[0] == 2


def test_small_appends_and_clients_that_do_not_ask_stay_on_one_connection(daemon, one):
    with Library(daemon.socket, connections=8) as several:
        assert append(one, one.open("s", SHAPE)[1]) == "ok"
        assert append(several, several.open("t", SHAPE)[1], VALUES[:, :, :500]) == "ok"
        assert appends_of(one) == (2, 2)


@BOTH_FORMS
def test_a_wrong_first_says_what_the_length_is(daemon, one, non_blocking):
    with Library(daemon.socket, non_blocking, connections=3) as several:
        state = several.open("s", SHAPE)[1]
        assert append(one, one.open("s", SHAPE)[1], VALUES[:, :, :100]) == "ok"
        assert append(several, state) == "wrong_first"
        assert (state.tokens, "100 tokens" in several.message) == (100, True)
        assert append(several, state, VALUES[:, :, 100:]) == "ok"
        assert (held(one)[0] == VALUES).all()


@BOTH_FORMS
def test_a_moved_tail_is_cut_anew(daemon, one, non_blocking):
    with Library(daemon.socket, non_blocking, connections=3) as several:
        state = several.open("s", SHAPE)[1]
        assert append(several, state, VALUES[:, :, :100]) == "ok"
        state.tail_tokens = 3
        assert append(several, state, VALUES[:, :, 100:]) == "ok"
        assert (held(one)[0] == VALUES).all() and appends_of(one)[0] == 1 + 2 * 3


@BOTH_FORMS
@pytest.mark.parametrize("memory, stored, refused", [("32M", False, "too_large"), ("64M", True, "full")])
def test_what_does_not_fit_alone_or_beside_others_is_refused(start_daemon, memory, stored, refused, non_blocking):
    daemon = start_daemon(memory=memory)
    with Library(daemon.socket, non_blocking, connections=3) as several:
        if stored:
            assert append(several, several.open("other", SHAPE)[1]) == "ok"
            assert several.call("kvq_pin", b"other", 3600_000) == "ok"
        state = several.open("s", SHAPE)[1]
        assert append(several, state, wait_ms=100) == refused
        assert held(several)[1].tokens == 0
        assert append(several, state, VALUES[:, :, :100]) == "ok"


@BOTH_FORMS
def test_a_session_that_others_append_to_is_busy(daemon, one, non_blocking):
    with Library(daemon.socket, non_blocking, connections=3) as several:
        state = several.open("s", SHAPE)[1]
        begun = one.open("s", SHAPE)[1]
        assert one.call("kvq_append_begin", begun, options_of(one)) == "ok"
        assert append(several, state) == "busy"
        assert one.call("kvq_append_abort") == "ok"
        assert append(several, state) == "ok"


@BOTH_FORMS
def test_progress_counts_what_all_connections_have_sent(daemon, non_blocking):
    seen = []
    progress = ffi.callback("bool(void *, uint64_t)", lambda _, sent: seen.append(sent) or True)
    with Library(daemon.socket, non_blocking, connections=3) as several:
        assert append(several, several.open("s", SHAPE)[1], progress=progress) == "ok"
    assert seen == sorted(seen) and seen[-1] == TOKENS * TOKEN_BYTES
    assert len(seen) == -(-TOKENS // PAGE)


@pytest.mark.parametrize("pages", [1, 9, 23])
@BOTH_FORMS
def test_progress_ends_it_on_all_connections(daemon, one, pages, non_blocking):
    left = iter(range(pages - 1, -1, -1))
    progress = ffi.callback("bool(void *, uint64_t)", lambda *_: next(left) > 0)
    with Library(daemon.socket, non_blocking, connections=3) as several:
        state = several.open("s", SHAPE)[1]
        assert append(several, state, progress=progress) == "cancelled"
        assert held(one)[1].tokens == 0
        assert append(several, state) == "ok" and (held(one)[0] == VALUES).all()


def test_a_cancelled_call_leaves_the_session_to_the_next_at_once(daemon, one):
    with Library(daemon.socket, non_blocking=True, connections=3) as several:
        state = several.open("s", SHAPE)[1]
        for steps in range(0, 60, 4):
            values = VALUES.copy()
            given = options_of(several, values)
            code = lib.kvq_append(several.client, state, given)
            for _ in range(steps):
                code = lib.kvq_step(several.client) if code == lib.KVQ_AGAIN else code
            if code == lib.KVQ_AGAIN:
                assert lib.kvq_cancel(several.client) == lib.KVQ_CANCELLED
            values[:] = 0  # the memory is the caller's again
            if state.tokens == 0:
                assert several.call("kvq_truncate", state, 0) == "ok"
            assert append(several, state, VALUES[:, :, :PAGE]) == "ok"
            assert (held(one)[0][:, :, -PAGE:] == VALUES[:, :, :PAGE]).all()
            assert several.call("kvq_truncate", state, 0) == "ok"
