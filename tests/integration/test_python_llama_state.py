"""The reader of llama.cpp's states: what it takes for one, and that it never reads beside it."""

import random

import numpy as np
import pytest
from kvquantd.llama._state import BF16, CELL, F16, Layout, NotUnderstood, Q8_0, Rows, Writer, parse
from kvquantd.llama._values import coding_of, give_back, kept, target

LAYERS, TOKENS = 3, 5
LAYOUTS = {
    "f16": Layout(1, 0, 0, LAYERS, False, Rows(F16, 16), Rows(F16, 16)),
    "V transposed": Layout(1, 0, 0, LAYERS, True, Rows(F16, 16), Rows(F16, 16)),
    "no V": Layout(1, 0, 0, LAYERS, False, Rows(BF16, 16), None),
    "the third of four streams": Layout(4, 2, 2, LAYERS, False, Rows(F16, 16), Rows(F16, 8)),
    "flags before K": Layout(1, 0, 0, LAYERS, False, Rows(F16, 16), Rows(F16, 16), 8),
    "q8_0": Layout(1, 0, 0, LAYERS, False, Rows(Q8_0, 68), Rows(Q8_0, 68)),
}


def state_of(layout):
    """The bytes of a state, and what its layers hold."""
    writer, random_bytes = Writer(layout, TOKENS), np.random.default_rng(3)
    for rows in (*writer.k, *writer.v):
        rows[:] = random_bytes.integers(0, 256, rows.shape)
    layers = [rows.copy() for rows in (*writer.k, *writer.v)]
    return bytes(writer.finish()), layers


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_what_is_written_is_read_again(layout):
    data, layers = state_of(layout)
    assert len(data) == layout.bytes_of(TOKENS)
    state = parse(data)
    assert (state.layout, state.tokens) == (layout, TOKENS)
    for expected, found in zip(layers, [*state.k, *state.v], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["f16", "V transposed"])
def test_tokens_that_lie_in_another_order_are_read_in_theirs(name):
    layout = LAYOUTS[name]
    data, layers = state_of(layout)
    shuffled = bytearray(data)
    cells = np.frombuffer(shuffled, CELL, TOKENS, 8)
    cells["position"] = cells["position"][::-1]
    state = parse(shuffled)
    for expected, found in zip(layers, [*state.k, *state.v], strict=True):
        np.testing.assert_array_equal(found, expected[::-1])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_state_that_ends_too_early_is_not_understood(layout):
    data, _ = state_of(layout)
    without_v = layout.bytes_of(TOKENS) - (LAYERS * (12 + TOKENS * layout.v.row_bytes) if layout.v else 0)
    for length in set(range(len(data))) - {without_v}:  # that is a whole state too
        with pytest.raises(NotUnderstood):
            parse(data[:length])


def test_what_follows_a_state_is_not_understood():
    data, _ = state_of(LAYOUTS["f16"])
    for more in (b"\0", data):
        with pytest.raises(NotUnderstood):
            parse(data + more)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_damaged_state_is_read_within_its_bounds_or_not_understood(layout):
    data, _ = state_of(layout)
    chance = random.Random(5)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            state = parse(damaged)
        except NotUnderstood:
            continue
        assert state.layout.bytes_of(state.tokens) == len(data)
        assert sum(rows.size for rows in (*state.k, *state.v)) < len(data)


@pytest.mark.parametrize("offset,number,why", [
    (8, 1, "gaps"), (12, 2, "several sequences"), (16, 1, "several sequences"),
    (8 + TOKENS * CELL.itemsize, 2, "V 2"), (12 + TOKENS * CELL.itemsize, 0, "0 layers"),
    (12 + TOKENS * CELL.itemsize, 1 << 31, "layers"), (4, 1 << 31, "too early"), (0, 1 << 31, "streams"),
])
def test_it_says_why_a_state_is_not_understood(offset, number, why):
    data = bytearray(state_of(LAYOUTS["f16"])[0])
    data[offset : offset + 4] = number.to_bytes(4, "little")
    with pytest.raises(NotUnderstood, match=why):
        parse(data)


def test_values_of_q8_0_come_back_in_its_blocks():
    rows = Rows(Q8_0, 68)
    coding = coding_of(LAYOUTS["q8_0"], 3)
    assert (coding.what, coding.geometry.heads * coding.geometry.head_dim) == ("values of q8_0", 64)
    values = np.random.default_rng(1).normal(size=(TOKENS, coding.geometry.heads, coding.geometry.head_dim))
    blocks = np.zeros((TOKENS, 68), np.uint8)
    give_back(coding, rows, values.astype(np.float16), blocks)
    found = kept(coding, rows, blocks)
    assert found.dtype == np.float16
    assert np.abs(found - values).max() < np.abs(values).max() / 127
    again = target(coding, rows, blocks)
    again[:] = found
    repeated = np.zeros_like(blocks)
    give_back(coding, rows, again, repeated)
    np.testing.assert_array_equal(kept(coding, rows, repeated), found)


@pytest.mark.parametrize("k,v,level,what", [
    (Rows(F16, 384), Rows(F16, 384), 3, "values"), (Rows(2, 108), Rows(2, 108), 3, "rows"),
    (Rows(Q8_0, 204), Rows(Q8_0, 204), "exact", "rows"), (Rows(Q8_0, 204), Rows(F16, 384), 3, "values of q8_0"),
    (Rows(F16, 384), Rows(2, 108), 3, "rows"),
])
def test_what_is_kept_depends_on_the_types(k, v, level, what):
    coding = coding_of(Layout(1, 0, 0, LAYERS, False, k, v), level, heads=3)
    assert coding.what == what
    assert coding.level == ("exact" if what == "rows" else level)
    if what == "values":
        assert (coding.geometry.heads, coding.geometry.head_dim) == (3, 64)
