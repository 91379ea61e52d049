#!/usr/bin/env python3
"""Writes tables.c: the integers of the page format (see FORMAT.md, "Tables").

  python3 make_tables.py > tables.c

Needs numpy. The generator is seeded, but the checked-in integers are the format, not this script.
"""
import math

import numpy as np
from make_exact_tables import exact_tables

SYMBOLS, SCALE, BUCKET_SLOTS, CLASSES = 32, 256, 8, 32
SYMBOL_ZERO = 16  # stands for a high part of 0
UNIT_CLASS = 12  # the class whose deviation is one step
RANGE = 1 << 10  # values beyond +-RANGE never matter to a table
ESCAPE_BITS = 8


def normal_cdf(x, deviation):
    return 0.5 * math.erfc(-x / deviation / math.sqrt(2))


def mixture_cdf(x, deviation):
    """95 % N(0, a^2) + 5 % N(0, (2a)^2), with a such that the whole has the given deviation."""
    a = deviation / math.sqrt(1.15)
    return 0.95 * normal_cdf(x, a) + 0.05 * normal_cdf(x, 2 * a)


def mixture_probabilities(deviation):
    edges = [mixture_cdf(q - 0.5, deviation) for q in range(-RANGE, RANGE + 2)]
    return np.diff(edges)


def cost_bits(probability, frequency):
    return -sum(p * math.log2(f / SCALE) for p, f in zip(probability, frequency) if p > 0)


def normalise(probability):
    """Frequencies of 1..255 that sum to 256 and cost the fewest bits; 0 where the probability is."""
    frequency = [min(max(int(p * SCALE + 0.5), 1), 255) if p > 0 else 0 for p in probability]
    while sum(frequency) != SCALE:
        by = 1 if sum(frequency) < SCALE else -1
        _, best = min((p * (math.log2(f) - math.log2(f + by)), i)
                      for i, (p, f) in enumerate(zip(probability, frequency))
                      if p > 0 and 1 <= f + by <= 255)
        frequency[best] += by
    return frequency


def frequencies_within(symbol_probability, limits):
    """The best table over the intervals of symbols that the thresholds `limits` leave."""
    best = None
    for limit in limits:
        kept = np.where(symbol_probability >= limit)[0]
        kept = kept[kept > 0]
        if not len(kept):
            continue
        probability = np.zeros(SYMBOLS)
        probability[kept[0]:kept[-1] + 1] = np.maximum(symbol_probability[kept[0]:kept[-1] + 1], 1e-6)
        probability[0] = max(1 - probability.sum(), 0) + 1e-4
        frequency = normalise(probability)
        cost = cost_bits(probability, frequency) + ESCAPE_BITS * probability[0]
        if best is None or cost < best[0]:
            best = cost, frequency
    return best


def level_table(deviation):
    """(low bits, frequencies) of the cheapest split of a quantised value."""
    q, p = np.arange(-RANGE, RANGE + 1), mixture_probabilities(deviation)
    best = None
    for low_bits in range(6):
        high = q >> low_bits
        inside = (high >= -15) & (high <= 15)
        symbol = np.bincount(high[inside] + 16, p[inside], SYMBOLS)
        cost, frequency = frequencies_within(symbol, [1.5**i / 3000 for i in range(10)])
        if best is None or cost + low_bits < best[0] - 0.002:
            best = cost + low_bits, low_bits, frequency
    return best[1:]


def mean_magnitude(deviation):
    q, p = np.arange(-RANGE, RANGE + 1), mixture_probabilities(deviation)
    return float((abs(q) * p).sum())


def magnitude_limit(k):
    """256 times the mean |q| above which class k + 1 serves better than class k."""
    octaves = max(0, (k - 28) // 4)  # far up, quantising no longer shows
    return round(256 * mean_magnitude(2 ** ((k + 0.5 - 4 * octaves - UNIT_CLASS) / 4)) * 2**octaves)


def alias(frequency):
    """Walker's method: bucket b holds 8 slots, the first own[b] of them symbol b's, the rest other[b]'s."""
    left, own, other, open_ = list(frequency), [0] * SYMBOLS, list(range(SYMBOLS)), set(range(SYMBOLS))
    while open_:
        small = min(open_, key=lambda i: (left[i], i))
        large = max(open_, key=lambda i: (left[i], -i))
        open_.remove(small)
        own[small] = min(left[small], BUCKET_SLOTS)
        if left[small] < BUCKET_SLOTS:
            other[small] = large
            left[large] -= BUCKET_SLOTS - left[small]
    return own, other


def decode_model(frequency):
    """(symbol, frequency, offset) of the 64 runs of slots, e = bucket + 32 for those behind own."""
    own, other = alias(frequency)
    rank, runs = [0] * SYMBOLS, [None] * (2 * SYMBOLS)
    for bucket in range(SYMBOLS):
        first = bucket * BUCKET_SLOTS
        for e, symbol, slot, count in ((bucket, bucket, first, own[bucket]),
                                       (bucket + SYMBOLS, other[bucket], first + own[bucket],
                                        BUCKET_SLOTS - own[bucket])):
            runs[e] = symbol, frequency[symbol], (rank[symbol] - slot) % SCALE
            rank[symbol] += count
    assert rank == list(frequency)
    return (*zip(*runs), own)


def table_columns(frequency):
    start = [sum(frequency[:symbol]) % SCALE for symbol in range(SYMBOLS)]
    symbol, of, offset, own = decode_model(frequency)
    return symbol, of, offset, own + own, frequency, start


def encode_columns(frequency):
    """(slots by start + rank, reciprocals, lowest and highest high part with a symbol)"""
    symbol, _, offset, own = decode_model(frequency)
    slots = [0] * SCALE
    for slot in range(SCALE):
        bucket, i = divmod(slot, BUCKET_SLOTS)
        e = bucket if i < own[bucket] else bucket + SYMBOLS
        slots[sum(frequency[:symbol[e]]) + (slot + offset[e]) % SCALE] = slot
    reciprocals = [65536 // f if f > 1 else 65535 for f in frequency]
    coded = [s - SYMBOL_ZERO for s in range(1, SYMBOLS) if frequency[s]]
    assert len(coded) == coded[-1] - coded[0] + 1
    return slots, reciprocals, coded[0], coded[-1]


def text(column):
    return str(column) if isinstance(column, int) else f"{{{', '.join(map(str, column))}}}"


def emit(declaration, tables):
    print(f"\n{declaration} = {{")
    for table in tables:
        print("    {" + ",\n     ".join(map(text, table)) + "},")
    print("};")


def emit_rows(declaration, rows):
    print(f"\n{declaration} = {{")
    for row in rows:
        print("    {" + ", ".join(map(str, row)) + "},")
    print("};")


def emit_flat(declaration, values):
    print(f"\n{declaration} = {{\n    " + ",\n    ".join(
        ", ".join(map(str, values[i:i + 12])) for i in range(0, len(values), 12)) + ",\n};")


def main():
    splits = [level_table(2 ** ((k - UNIT_CLASS) / 4)) for k in range(CLASSES)]
    exact_cells, drops = exact_tables(SYMBOLS)
    drops = [frequencies_within(p, [1.5**i / 3000 for i in range(8)])[1] for p in drops]
    tables = [frequency for _, frequency in splits] + drops
    print("/* The integers of the page format, made by make_tables.py. Not to be edited by hand. */")
    print('#include "proto/page/tables.h"\n\n/* clang-format off */')
    emit("const struct page_table page_tables[PAGE_TABLES]", map(table_columns, tables))
    emit("const struct page_encode_table page_encode_tables[PAGE_TABLES]", map(encode_columns, tables))
    emit_flat("const uint8_t page_low_bits[PAGE_TABLE_CLASSES]", [low for low, _ in splits])
    emit_flat("const uint32_t page_magnitude_limits[PAGE_CLASSES - 1]",
              [magnitude_limit(k) for k in range(2 * CLASSES - 1)])
    emit_rows("const uint8_t page_exact_table[PAGE_DROP_CELLS][PAGE_FLIP_CELLS]", exact_cells)
    emit_flat("const uint16_t page_code_length[256]",
              [65535] + [round(-math.log2(f / 256) * 256) for f in range(1, 256)])


if __name__ == "__main__":
    main()
