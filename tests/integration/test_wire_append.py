"""Appends that hold: any size, order and layout, read back bit for bit at exact."""

import random

import numpy
import pytest
from wire import (BF16, COMMIT, DATA, F16, F32, FETCH, HEADS_TOKENS_DIM, REPLY, TOKENS_HEADS_DIM,
                  Connection, Geometry, decode, frame)
from wire_support import (SMALL, TINY, append, assert_holds, bits, connection, packed,  # noqa: F401
                          stored, unpacked)

ODD = Geometry(layers=3, heads=2, head_dim_k=40, head_dim_v=24, dtype=F16)
LAYOUTS = [TOKENS_HEADS_DIM, HEADS_TOKENS_DIM]
LAYOUT_IDS = ["tokens_heads_dim", "heads_tokens_dim"]


def part_of(arrays, first, end):
    return tuple(array[:, first:end] for array in arrays)


def append_in_pieces(session, arrays, generator, layout=TOKENS_HEADS_DIM, **fields):
    """Appends all of it, in pieces of random size."""
    tokens = arrays[0].shape[1]
    while session.tokens < tokens:
        end = min(tokens, session.tokens + generator.choice([1, 2, 5, 60, 127, 128, 129, 200]))
        append(session, part_of(arrays, session.tokens, end), layout, **fields)
        assert session.tokens == end


@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_IDS)
@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 127, 128, 129, 255, 256, 257, 500])
def test_one_append_reads_back_bit_for_bit(connection, tokens, layout):
    session = connection.open(b"chat", geometry=ODD, level=-2)
    arrays = bits(ODD, tokens, seed=tokens)
    reply = append(session, arrays, layout)
    assert reply.tokens == tokens
    assert_holds(session, arrays)


@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_IDS)
@pytest.mark.parametrize("seed", range(6))
def test_appends_of_random_size_read_back_bit_for_bit_in_both_layouts(connection, seed, layout):
    session = connection.open(b"chat", geometry=ODD, level=-2)
    arrays = bits(ODD, 500, seed)
    append_in_pieces(session, arrays, random.Random(seed), layout, settle=seed % 2 == 1)
    for other in LAYOUTS:
        kv, _ = session.fetch(layout=other)
        assert kv == packed(arrays, other)


def test_tokens_one_by_one_read_back_bit_for_bit(connection):
    session = connection.open(b"chat", geometry=TINY, level=-2)
    arrays = bits(TINY, 300)
    for token in range(300):
        append(session, part_of(arrays, token, token + 1))
    assert_holds(session, arrays)


def test_tokens_one_by_one_each_settled_read_back_bit_for_bit(connection):
    session = connection.open(b"chat", geometry=TINY, level=-2)
    arrays = bits(TINY, 140)
    for token in range(140):
        assert append(session, part_of(arrays, token, token + 1), settle=True).tail_tokens == 0
    assert_holds(session, arrays)


@pytest.mark.parametrize("geometry", [
    Geometry(1, 1, 1, 1, F16), Geometry(1, 1, 1, 0, F32), Geometry(2, 1, 80, 0, BF16),
    Geometry(2, 2, 96, 8, F32), Geometry(1, 1, 256, 256, F16), Geometry(1, 5, 7, 3, BF16),
    Geometry(1, 8, 257, 8, F16), Geometry(1, 8, 1024, 8, F32), Geometry(60, 1, 8, 8, F16),
], ids=str)
def test_odd_shapes_read_back_bit_for_bit(connection, geometry):
    session = connection.open(b"chat", geometry=geometry, level=-2)
    arrays = bits(geometry, 150)
    append_in_pieces(session, arrays, random.Random(3), HEADS_TOKENS_DIM)
    assert_holds(session, arrays)


def test_nan_infinities_and_subnormals_are_kept_at_exact(connection):
    patterns = numpy.arange(1 << 16, dtype=numpy.uint16)
    geometry = Geometry(1, 1, 128, 128)
    arrays = (patterns.reshape(1, 512, 1, 128), patterns[::-1].reshape(1, 512, 1, 128))
    session = connection.open(b"chat", geometry=geometry, level=-2)
    append(session, arrays, settle=True)
    assert_holds(session, arrays)


def by_layers(pieces):
    return sorted(pieces, key=lambda piece: (piece[2], piece[3], piece[0]))


def shuffled(pieces):
    pieces = list(pieces)
    random.Random(5).shuffle(pieces)
    return pieces


@pytest.mark.parametrize("settle", [False, True])
@pytest.mark.parametrize("order", [by_layers, shuffled, lambda pieces: list(pieces)[::-1]],
                         ids=["layer by layer", "shuffled", "backwards"])
def test_parts_may_come_in_any_order(connection, order, settle):
    session = connection.open(b"chat", geometry=ODD, level=-2)
    arrays = bits(ODD, 700)
    append(session, part_of(arrays, 0, 60), order=order, settle=settle)
    append(session, part_of(arrays, 60, 700), order=order, settle=settle)
    assert_holds(session, arrays)


def test_two_appends_on_one_connection_may_be_interleaved(connection):
    sessions = [connection.open(name, geometry=ODD, level=-2) for name in (b"one", b"two")]
    arrays = [bits(ODD, 300, seed) for seed in (1, 2)]
    ids = [session.begin(300) for session in sessions]
    for piece in list(sessions[0].pieces(300)):
        for session, request_id, values in zip(sessions, ids, arrays):
            session.send_piece(request_id, packed(values), piece)
    for session, request_id, values in zip(sessions, ids, arrays):
        session.commit(request_id)
        assert_holds(session, values)


def test_nothing_is_visible_before_commit(daemon, connection):
    session, arrays = stored(connection, b"chat", SMALL, 50)
    request_id = session.begin(300)
    more = bits(SMALL, 300, seed=9)
    for piece in session.pieces(300):
        session.send_piece(request_id, packed(more), piece)
    with Connection(daemon.socket) as other:
        assert other.info(b"chat").tokens == 50
        assert other.info(b"chat").version == session.version
        assert_holds(other.open(b"chat", geometry=SMALL), arrays)
    session.commit(request_id)
    assert_holds(session, tuple(numpy.concatenate(pair, axis=1) for pair in zip(arrays, more)))


def test_an_append_is_visible_to_others_once_it_is_answered(daemon, connection):
    session, arrays = stored(connection, b"chat", SMALL, 50)
    with Connection(daemon.socket) as other:
        assert_holds(other.open(b"chat", geometry=SMALL), arrays)


def test_settle_leaves_no_tail(connection):
    session, _ = stored(connection, b"chat", SMALL, 300, settle=True)
    assert session.tail_tokens == 0
    assert connection.info(b"chat").tail_tokens == 0


def test_a_settled_append_may_follow_an_unsettled_one(connection):
    session = connection.open(b"chat", geometry=ODD, level=-2)
    arrays = bits(ODD, 400)
    append(session, part_of(arrays, 0, 50))
    append(session, part_of(arrays, 50, 120), settle=True)
    append(session, part_of(arrays, 120, 130))
    append(session, part_of(arrays, 130, 400), settle=True)
    assert_holds(session, arrays)


def test_an_unsettled_append_may_be_followed_by_a_fetch_in_one_write(connection):
    session = connection.open(b"chat", geometry=ODD, level=-2)
    arrays = bits(ODD, 300)
    request_id = session.begin(300)
    for piece in session.pieces(300):
        session.send_piece(request_id, packed(arrays), piece)
    connection.send(frame(COMMIT, request_id))
    fetch = connection.request(FETCH, "FetchRequest", session=b"chat")
    answers = [connection.receive()]
    while len([got for got in answers if got.type == REPLY]) < 2:
        answers.append(connection.receive())
        assert answers[-1].type in (DATA, REPLY)
    reply = [got for got in answers if got.type == REPLY and got.request_id == fetch]
    assert decode("FetchReply", reply[0].control).tokens == 300


def test_settling_makes_a_compressible_session_smaller_at_once(connection):
    level3 = connection.open(b"chat", geometry=SMALL, level=3)
    values = numpy.random.default_rng(1).normal(size=(2, 1024, 3, 16)).astype(numpy.float16)
    append(level3, (values.view(numpy.uint16),) * 2, settle=True)
    info = connection.info(b"chat")
    assert info.stored_bytes < 0.5 * info.logical_bytes


def test_the_most_runs_an_append_may_have_are_accepted(connection):
    geometry = Geometry(1, 1, 1 << 18, 0)  # one token a page
    session = connection.open(b"chat", geometry=geometry, level=-2)
    assert session.page_tokens == 1
    arrays = bits(geometry, 40)
    append(session, arrays)
    assert_holds(session, arrays)


@pytest.mark.parametrize("first,end", [(0, 1), (3, 5), (127, 129), (128, 256), (130, 140), (499, 500),
                                       (0, 500), (5, 0), (255, 400)])
@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_IDS)
def test_a_range_of_tokens_and_layers_is_that_part(connection, first, end, layout):
    session = connection.open(b"chat", geometry=ODD, level=-2)
    arrays = bits(ODD, 500)
    append_in_pieces(session, arrays, random.Random(2))
    for first_layer, end_layer in ((0, 0), (1, 2), (1, 3), (2, 0)):
        kv, reply = session.fetch(first, end, first_layer, end_layer, layout)
        expected = tuple(array[first_layer:end_layer or 3, first:end or 500] for array in arrays)
        assert kv == packed(expected, layout)
        assert reply.tokens == (end or 500) - first


@pytest.mark.parametrize("skip,kept", [("skip_k", 1), ("skip_v", 0)])
def test_k_or_v_alone_can_be_fetched(connection, skip, kept):
    session, arrays = stored(connection, b"chat", ODD, 200)
    frames, _ = connection.fetch(b"chat", **{skip: True})
    assert {frame[3] for frame in frames} == {kept}
    kv, _ = session.fetch(**{skip: True})
    assert kv[kept] == packed(arrays)[kept]


def test_frames_of_a_fetch_come_in_coding_order_and_cover_the_range_once(connection):
    session = connection.open(b"chat", geometry=ODD, level=-2)
    append_in_pieces(session, bits(ODD, 500), random.Random(7))
    frames, reply = connection.fetch(b"chat", first=100, end=450)
    order = [(first, layer, part) for first, _, layer, part, _ in frames]
    assert order == sorted(order)
    assert max(count for _, count, *_ in frames) <= 128
    for layer in range(3):
        for part in (0, 1):
            ranges = [(f[0], f[0] + f[1]) for f in frames if (f[2], f[3]) == (layer, part)]
            assert ranges[0][0] == 100 and ranges[-1][1] == 450
            assert all(a[1] == b[0] for a, b in zip(ranges, ranges[1:]))
    assert reply.bytes == sum(len(f[4]) for f in frames)
    assert reply.tokens == 350


@pytest.mark.parametrize("first,end", [(0, 0), (0, 4), (100, 450), (200, 250), (490, 500), (7, 7)])
@pytest.mark.parametrize("level", [-2, -1, 3])
def test_the_levels_told_by_a_fetch_sum_up_to_its_tokens(connection, level, first, end):
    session = connection.open(b"chat", geometry=ODD, level=level)
    append_in_pieces(session, tuple(part & 0x3FFF for part in bits(ODD, 500)), random.Random(7))
    reply = connection.fetch(b"chat", first=first, end=end)[1]
    assert sum(row.tokens for row in reply.levels) == reply.tokens == (end or 500) - first
    assert all(row.tokens for row in reply.levels)


def test_unpacking_gives_what_was_packed():
    arrays = bits(ODD, 5)
    for layout in LAYOUTS:
        for got, expected in zip(unpacked(packed(arrays, layout), ODD, layout), arrays):
            assert numpy.array_equal(got, expected)
