#!/usr/bin/env python3
"""A second decoder of the page format, written from proto/page/FORMAT.md: does the C one agree?

  page_reference.py page.so IN.npy [--pages 6]

Takes pages of IN.npy (float16, see page_file.py) in all dtypes and levels, in odd shapes too, and
compares what both decoders make of them bit for bit. Slow and plain on purpose; only the tables are
read from the C source, which is where the format has them.
"""
import argparse
import itertools
import pathlib
import re
import struct

import numpy as np

from page_file import Codec, as_bfloat16

F32 = np.float32
ROOT = pathlib.Path(__file__).resolve().parents[2]
QUARTER_OCTAVES = np.array([float.fromhex(x) for x in ("0x1p+0", "0x1.306fep+0", "0x1.6a09e6p+0",
                                                       "0x1.ae89fap+0")], F32)


def numbers(name, text):
    body = text[text.index("{", text.index(name + "[")):]
    return [int(n) for n in re.findall(r"\d+", body[:body.index("};")])]


class Tables:
    def __init__(self):
        text = (ROOT / "proto/page/tables.c").read_text()
        tables = np.array(numbers("page_tables", text)).reshape(64, 3, 32)
        self.low_bits = numbers("page_low_bits", text)
        self.slots = [self.lay_out(*table) for table in tables]

    @staticmethod
    def lay_out(frequency, own, other):
        rank, slots = [0] * 32, []
        for slot in range(256):
            bucket = slot // 8
            symbol = bucket if slot % 8 < own[bucket] else int(other[bucket])
            slots.append((symbol, int(frequency[symbol]), rank[symbol]))
            rank[symbol] += 1
        assert rank == list(frequency)
        return slots

    def level_class(self, k):
        table = k if k < 32 else 28 + k % 4
        return table, self.low_bits[table] + (0 if k < 32 else (k - 28) // 4)


class Stream:
    def __init__(self, tables, data, wide):
        self.tables, self.data = tables, data
        self.states = list(struct.unpack_from("<64H", data))
        refill, escapes = struct.unpack_from("<2I", data, 128)
        self.refill, self.plane = 136, 136 + refill
        self.escape, self.width = len(data) - escapes, 2 if wide else 1
        self.ends = self.plane, self.escape, len(data)

    def row(self, table, low_bits, count):
        slots, values = self.tables.slots[table], []
        plane_bytes = (count + 7) // 8
        for i in range(count):
            x = self.states[i % 64]
            symbol, frequency, rank = slots[x % 256]
            x = frequency * (x >> 8) + rank
            if x < 256:
                x = x * 256 + self.data[self.refill]
                self.refill += 1
            self.states[i % 64] = x
            h = symbol - 16
            if symbol == 0:
                escaped = self.data[self.escape:self.escape + self.width]
                h = int.from_bytes(escaped, "little", signed=True)
                self.escape += self.width
            for plane in reversed(range(low_bits)):
                bit = self.data[self.plane + plane * plane_bytes + i // 8] >> i % 8 & 1
                h = 2 * h + bit
            values.append(h)
        self.plane += low_bits * plane_bytes
        return np.array(values, np.int64)

    def level_row(self, k, count):
        return self.row(*self.tables.level_class(k), count)

    def check_end(self):
        assert (self.refill, self.plane, self.escape) == self.ends and self.states == [256] * 64


def upper_half(bits):
    return (np.asarray(bits, np.uint32) << 16).view(F32)


class Page:
    def __init__(self, tables, data):
        self.tables = tables
        (self.magic, self.format, self.coding, self.level, self.dtype, _, self.flags, tokens,
         self.sinks, self.phase, self.mean_shift, heads, head_dim,
         size) = struct.unpack_from("<2s2Bb3B2BbB3I", data)
        self.step, *rest = struct.unpack_from("<H3B2B", data, 24)
        self.row_class, self.centre = rest[:3], rest[3:]
        assert self.magic == b"KP" and self.format == 0 and size == len(data)
        self.channels, self.coded = heads * head_dim, tokens - self.sinks
        self.type = {1: np.uint16, 2: np.uint16, 3: np.uint32}[self.dtype]
        sink_bytes = self.sinks * self.channels * self.type().itemsize
        self.sink_values = np.frombuffer(data[48:48 + sink_bytes], self.type)
        self.payload = data[48 + sink_bytes:]

    def decode(self):
        """All values' bits, token-major."""
        body = [self.raw, self.exact, self.fast8, self.quantised][self.coding]()
        return np.concatenate([self.sink_values, body.reshape(-1)])

    def rounded(self, values):
        if self.dtype == 1:
            return np.clip(values, -65504, 65504).astype(np.float16).view(np.uint16)
        return as_bfloat16(values) if self.dtype == 2 else values.view(np.uint32)

    def raw(self):
        return np.frombuffer(self.payload, self.type)

    def fast8(self):
        c, n = self.channels, self.coded
        scale = upper_half(np.frombuffer(self.payload, "<u2", c))
        base = np.frombuffer(self.payload, "<i2", c, 2 * c)
        q = np.frombuffer(self.payload, np.uint8, n * c, 4 * c).reshape(n, c)
        return self.rounded((q.astype(F32) + base.astype(F32)) * scale)

    def quantised(self):
        c, n = self.channels, self.coded
        stream = Stream(self.tables, self.payload, self.flags & 1)
        scale = stream.level_row(self.row_class[0], n)
        classes = stream.level_row(self.row_class[1], c) + self.centre[0]
        mean = np.zeros(c, F32)
        step = upper_half(self.step)
        if not self.flags & 2:
            units = stream.level_row(self.row_class[2], c)
            mean = units.astype(F32) * (step * F32(2.0 ** (self.mean_shift - 4)))
        q = np.stack([stream.level_row(int(k), n) for k in classes], 1)
        stream.check_end()
        steps = (step * QUARTER_OCTAVES[scale % 4]) * np.exp2(scale // 4).astype(F32)
        return self.rounded((q.astype(F32) + F32(self.phase / 128)) * steps[:, None] + mean)

    def exact(self):
        c, n = self.channels, self.coded
        eighth = (c + 7) // 8
        row_bytes = {1: c + 3 * eighth, 2: c, 3: 3 * c}[self.dtype]
        rest = np.frombuffer(self.payload, np.uint8, n * row_bytes).reshape(n, row_bytes)
        stream = Stream(self.tables, self.payload[n * row_bytes:], self.flags & 1)
        largest = stream.level_row(self.row_class[0], c) + self.centre[0]
        classes = stream.level_row(self.row_class[1], c) + self.centre[1]
        drop = np.stack([stream.row(32 + int(k), 0, n) for k in classes], 1) + 15
        stream.check_end()
        exponent = (largest - drop).astype(self.type)
        rest = rest.astype(self.type)
        if self.dtype == 2:
            return rest >> 7 << 15 | exponent << 7 | rest & 127
        if self.dtype == 3:
            low, high = rest[:, :2 * c:2] | rest[:, 1:2 * c:2] << 8, rest[:, 2 * c:]
            return high >> 7 << 31 | exponent << 23 | (high & 127) << 16 | low
        planes = rest[:, c:].astype(np.uint8).reshape(n, eighth, 3, 1)
        bits = np.unpackbits(planes, 3, bitorder="little")
        bits = bits.transpose(0, 2, 1, 3).reshape(n, 3, 8 * eighth)[:, :, :c].astype(np.uint16)
        return bits[:, 2] << 15 | exponent << 10 | bits[:, 1] << 9 | bits[:, 0] << 8 | rest[:, :c]


TOKENS, HEAD_DIMS = (128, 1, 70, 64, 5, 127), (64, 20, 33, 40, 64, 7)  # of the pages, in turn


def page_of(cache, i, random):
    first = int(random.integers(cache.shape[2] - max(TOKENS) + 1))
    page = cache[i % cache.shape[0], i % 2, first:first + TOKENS[i % 6]]
    return page[:, :, :HEAD_DIMS[i % 6]]


def in_all_dtypes(page):
    """(the format's number of a dtype, the page in it)"""
    yield 1, page
    yield 2, as_bfloat16(page)
    yield 3, page.astype(F32) * F32(1.0001)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("file")
    parser.add_argument("--pages", type=int, default=6)
    options = parser.parse_args()
    codec, tables, cache = Codec(options.library), Tables(), np.load(options.file)
    random, compared = np.random.default_rng(1), 0
    for i in range(options.pages):
        page = page_of(cache, i, random)
        sinks = min(4, len(page)) if i % 3 == 0 else 0
        for (dtype, values), level in itertools.product(in_all_dtypes(page), range(-2, 6)):
            restored, size, _ = codec.round_trip(values, dtype, i % 2, level, sinks)
            here = Page(tables, codec.page.raw[:size]).decode()
            if not np.array_equal(here, restored.reshape(-1).view(here.dtype)):
                raise SystemExit(f"page {i}, dtype {dtype}, level {level}: the decoders differ")
            compared += 1
    print(f"{compared} pages, the same to the bit")


if __name__ == "__main__":
    main()
