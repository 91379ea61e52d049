"""RECALL_KEYS from frame to frame: what comes, in which order, and what is refused."""

import struct

import pytest
from wire import BYTES, EXACT
from wire_support import SMALL, append, bits, connection, refused  # noqa: F401

TOKENS, HEADS = 300, 2 * SMALL.heads
LAYER = [1.0] * (HEADS * SMALL.head_dim_k)
ALL = [(0, LAYER * SMALL.layers)]


@pytest.fixture
def session(connection):
    session = connection.open(b"a", geometry=SMALL, level=EXACT, key_summaries=True)
    append(session, bits(SMALL, TOKENS))
    return session


def recall(connection, frames=None, **fields):
    fields = {"session": b"a", "query_heads": HEADS, "k": 3, **fields}
    return connection.recall_keys(ALL if frames is None else frames, **fields)


def ranges(payload):
    return list(struct.iter_unpack("<QIf", payload))


def test_each_layer_has_its_ranges_in_a_frame(connection, session):
    frames, reply = recall(connection)
    assert [(layer, part) for _, _, layer, part, _ in frames] == [(n, BYTES) for n in range(SMALL.layers)]
    for _, count, _, _, payload in frames:
        assert count == len(payload)
        found = ranges(payload)
        assert sum(tokens for _, tokens, _ in found) == 12
        assert all(0 <= share <= 1 for *_, share in found)
        assert all(a + n < b for (a, n, _), (b, _, _) in zip(found, found[1:]))
    assert (reply.version, reply.tokens, reply.bytes) == (session.version, 12 * SMALL.layers, 0)


def test_k_and_v_come_behind_the_ranges_counted_over_them(connection, session):
    frames, reply = recall(connection, fetch=True)
    told, values = frames[: SMALL.layers], frames[SMALL.layers :]
    assert all(part in (0, 1) for _, _, _, part, _ in values)
    for layer in range(SMALL.layers):
        found = ranges(told[layer][4])
        for part in (0, 1):
            got = b"".join(payload for _, _, at, which, payload in values if (at, which) == (layer, part))
            want = b""
            for first, tokens, _ in found:
                pieces, _ = connection.fetch(b"a", first=first, end=first + tokens, first_layer=layer,
                                             end_layer=layer + 1, skip_k=part == 1, skip_v=part == 0)
                want += b"".join(piece[4] for piece in pieces)
            assert got == want
    assert reply.bytes == sum(len(payload) for *_, payload in values)


def test_layers_may_come_apart_and_in_any_order(connection, session):
    apart = [(layer, LAYER) for layer in reversed(range(SMALL.layers))]
    assert recall(connection, apart)[0] == recall(connection)[0]


FRAMES = {
    "a layer that comes twice": ([(0, LAYER), (0, LAYER)], "invalid"),
    "a layer that is none": ([(SMALL.layers, LAYER)], "invalid"),
    "a part of a layer": ([(0, LAYER[:-1])], "invalid"),
    "a layer and a half": ([(0, LAYER + LAYER[: len(LAYER) // 2])], "invalid"),
    "an infinity": ([(0, [*LAYER[:-1], float("inf")])], "invalid"),
    "a layer is missing": ([(0, LAYER)], "incomplete"),
    "no queries": ([], "incomplete"),
}


@pytest.mark.parametrize("what", FRAMES)
def test_queries_that_cannot_be_are_refused(connection, session, what):
    frames, error = FRAMES[what]
    with refused(error):
        recall(connection, frames)
    assert recall(connection)[1].tokens > 0


@pytest.mark.parametrize("fields, error", [
    ({"k": 0}, "invalid"), ({"k": (1 << 32) - 1}, "invalid"), ({"query_heads": 0}, "invalid"),
    ({"query_heads": SMALL.heads + 1}, "invalid"), ({"first": 10, "end": 5}, "invalid"),
    ({"end": TOKENS + 1}, "miss"), ({"end_layer": SMALL.layers + 1}, "invalid"), ({"session": b"b"}, "miss"),
    ({"model": b"another"}, "model_mismatch"), ({"if_version": 1 << 60}, "version_changed"),
    ({"dtype": 9}, "invalid"), ({"layout": 2}, "invalid"), ({"skip_k": True, "skip_v": True}, "invalid"),
])
def test_requests_that_cannot_be_are_refused(connection, session, fields, error):
    with refused(error):
        recall(connection, **fields)
    assert recall(connection)[1].tokens > 0
