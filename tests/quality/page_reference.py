#!/usr/bin/env python3
"""A second decoder of the page format, written from proto/page/FORMAT.md: does the C one agree?

  page_reference.py build/page.so IN.npy [--pages 6]     # page_file.py says how it is built

Takes pages of IN.npy (float16, see page_file.py) in all dtypes but blocks and all levels, in odd shapes too, and
compares what both decoders make of them bit for bit. Slow and plain on purpose; only the tables are
read from the C source, which is where the format has them.
"""
import argparse
import itertools
import pathlib
import re
import struct

import numpy as np

from compact_dtypes import E4M3, E5M2, INT8, Q4_0, Q8_0, compact, packed_blocks, row_bytes
from page_file import Codec, as_bfloat16

F32 = np.float32
ROOT = pathlib.Path(__file__).resolve().parents[2]
QUARTER_OCTAVES = np.array([float.fromhex(x) for x in ("0x1p+0", "0x1.306fep+0", "0x1.6a09e6p+0",
                                                       "0x1.ae89fap+0")], F32)
HEADER_BYTES, WIDE, NO_MEANS = 48, 1, 2
F16, BF16, FLOAT32 = 1, 2, 3
EXPONENT_BITS = {F16: 5, BF16: 8, FLOAT32: 8, E4M3: 4, E5M2: 5}
MANTISSA_BITS = {F16: 10, BF16: 7, FLOAT32: 23, E4M3: 3, E5M2: 2}


def rows_of(name, text):
    """The rows of numbers of an array of tables.c."""
    body = text[text.index("{", text.index(name + "[")):]
    return [[int(n) for n in re.findall(r"\d+", row)]
            for row in re.findall(r"\{+([\d, \n]+)\}", body[:body.index("};")] + "}")]


class Tables:
    def __init__(self):
        text = (ROOT / "proto/page/tables.c").read_text()
        rows = rows_of("page_tables", text)
        self.low_bits = rows_of("page_low_bits", text)[0]
        self.slots = [self.lay_out(*rows[i:i + 6]) for i in range(0, len(rows), 6)]

    @staticmethod
    def lay_out(symbol, frequency, offset, own, symbol_frequency, start):
        """(symbol, frequency, rank) of each slot."""
        slots = []
        for slot in range(256):
            run = slot // 8 + (32 if slot % 8 >= own[slot // 8] else 0)
            slots.append((symbol[run], frequency[run], (slot + offset[run]) % 256))
        for s in range(32):
            assert [r for t, _, r in slots if t == s] == list(range(symbol_frequency[s]))
        return slots

    def level_class(self, k):
        table = k if k < 32 else 28 + k % 4
        return table, self.low_bits[table] + (0 if k < 32 else (k - 28) // 4)


class Stream:
    def __init__(self, tables, data):
        self.tables, self.data = tables, data
        self.states = list(struct.unpack_from("<64H", data))
        refill, escapes = struct.unpack_from("<2I", data, 128)
        self.refill, self.plane = 136, 136 + refill
        self.escape = len(data) - escapes
        self.ends = self.plane, self.escape, len(data)

    def row(self, table, low_bits, count, wide=True):
        slots, values, width = self.tables.slots[table], [], 2 if wide else 1
        plane_bytes, around = (count + 7) // 8, 1 << 8 * width
        for i in range(count):
            x = self.states[i % 64]
            symbol, frequency, rank = slots[x % 256]
            x = frequency * (x >> 8) + rank
            if x < 256:
                x = x * 256 + self.data[self.refill]
                self.refill += 1
            self.states[i % 64] = x
            value = symbol - 16
            for plane in reversed(range(low_bits)):
                bit = self.data[self.plane + plane * plane_bytes + i // 8] >> i % 8 & 1
                value = 2 * value + bit
            if symbol == 0:
                escaped = self.data[self.escape:self.escape + width]
                value = int.from_bytes(escaped, "little")
                self.escape += width
            values.append((value + around // 2) % around - around // 2)
        self.plane += low_bits * plane_bytes
        return np.array(values, np.int64)

    def level_row(self, k, count, wide=True):
        return self.row(*self.tables.level_class(k), count, wide)

    def check_end(self):
        assert (self.refill, self.plane, self.escape) == self.ends and self.states == [256] * 64


def upper_half(bits):
    return (np.asarray(bits, np.uint32) << 16).view(F32)


def bit_string(rest, width, channels):
    """[tokens, channels] of `width` bits each, from [tokens, bytes]."""
    bits = np.unpackbits(rest, 1, bitorder="little")[:, :width * channels]
    return (bits.reshape(len(rest), channels, width) << np.arange(width)).sum(2)


def mantissas(rest, whole, width, channels):
    """[tokens, channels], from each token's low bytes, `whole` a channel, and bit string."""
    mantissa = bit_string(rest[:, whole * channels:], width, channels) << 8 * whole
    for byte in range(whole):
        mantissa |= rest[:, byte:whole * channels:whole].astype(np.int64) << 8 * byte
    return mantissa


class Page:
    def __init__(self, tables, data):
        self.tables = tables
        (magic, version, self.coding, self.level, self.dtype, _, self.flags, self.tokens, _,
         self.phase, self.mean_shift, self.heads, self.head_dim,
         size) = struct.unpack_from("<2s2Bb3B2BbB3I", data)
        self.step, *rest = struct.unpack_from("<H3B2BB", data, 24)
        self.row_class, self.centre, exact_tokens = rest[:3], rest[3:5], rest[5]
        assert magic == b"KP" and version == 1 and size == len(data)
        self.channels, self.coded = self.heads * self.head_dim, self.tokens - exact_tokens
        self.type = {F16: np.uint16, BF16: np.uint16, FLOAT32: np.uint32}.get(self.dtype, np.uint8)
        self.row = row_bytes(self.dtype, self.channels)  # a token, in items of the type
        values = HEADER_BYTES + exact_tokens
        payload = values + exact_tokens * self.row * self.type().itemsize
        self.exact_tokens = list(data[HEADER_BYTES:values])
        self.exact_values = np.frombuffer(data[values:payload], self.type)
        self.payload = data[payload:]

    def decode(self):
        """All values' bits, token-major."""
        exact = self.exact_integers if self.dtype in (INT8, Q8_0, Q4_0) else self.exact_floats
        coding = [self.raw, exact, self.fast8, self.quantised][self.coding]
        out = np.empty((self.tokens, self.row), self.type)
        coded = np.ones(self.tokens, bool)
        coded[self.exact_tokens] = False
        out[~coded] = self.exact_values.reshape(-1, self.row)
        if self.coded:
            out[coded] = coding().reshape(-1, self.row)
        return out.reshape(-1)

    def rounded(self, values):
        if self.dtype >= E4M3:
            return compact(self.dtype, values)
        if self.dtype == F16:
            return np.clip(values, -65504, 65504).astype(np.float16).view(np.uint16)
        largest = upper_half(0x7f7f) if self.dtype == BF16 else np.finfo(F32).max
        values = np.clip(values, -largest, largest)
        return as_bfloat16(values) if self.dtype == BF16 else values.view(np.uint32)

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
        stream = Stream(self.tables, self.payload)
        scale = stream.level_row(self.row_class[0], n)
        classes = stream.level_row(self.row_class[1], c) + self.centre[0]
        mean = np.zeros(c, F32)
        step = upper_half(self.step)
        if not self.flags & NO_MEANS:
            units = stream.level_row(self.row_class[2], c)
            mean = units.astype(F32) * (step * F32(2.0 ** (self.mean_shift - 4)))
        q = np.stack([stream.level_row(int(k), n, self.flags & WIDE) for k in classes], 1)
        stream.check_end()
        steps = (step * QUARTER_OCTAVES[scale % 4]) * np.exp2(scale // 4).astype(F32)
        steps = upper_half(as_bfloat16(steps))
        return self.rounded((q.astype(F32) + F32(self.phase / 128)) * steps[:, None] + mean)

    def rest(self, tile_bytes):
        """The tiles of an exact page, (channels, [tokens, bytes]) each, and the stream behind them."""
        tiles, end = [], 0
        for first in range(0, self.channels, 64):
            tile = min(64, self.channels - first)
            rest = np.frombuffer(self.payload, np.uint8, self.coded * tile_bytes(tile), end)
            tiles.append((tile, rest.reshape(self.coded, -1)))
            end += rest.size
        return tiles, Stream(self.tables, self.payload[end:])

    def channel_rows(self, stream):
        """Largest exponents (or means) and classes."""
        return [stream.level_row(self.row_class[i], self.channels) + self.centre[i] for i in (0, 1)]

    def exact_integers(self):
        tiles, stream = self.rest(lambda tile: 0 if self.dtype == INT8 else tile // 16)
        means, classes = self.channel_rows(stream)
        v = np.stack([stream.level_row(int(k), self.coded, wide=False) for k in classes], 1)
        stream.check_end()
        x = v + means - 128
        if self.dtype == INT8:
            return (x & 255).astype(np.uint8)
        return packed_blocks(self.dtype, np.concatenate([rest for _, rest in tiles], 1), x)

    def exact_floats(self):
        n, mantissa_bits = self.coded, MANTISSA_BITS[self.dtype]
        whole = mantissa_bits // 8
        width = mantissa_bits - 8 * whole
        tiles, stream = self.rest(lambda tile: whole * tile + (width * tile + 7) // 8)
        largest, classes = self.channel_rows(stream)
        signed_exponent = np.stack([self.signed_exponents(stream, int(k), int(top), n)
                                    for k, top in zip(classes, largest)], 1)
        stream.check_end()
        mantissa = np.concatenate([mantissas(rest, whole, width, tile) for tile, rest in tiles], 1)
        exponent, sign = signed_exponent >> 1, signed_exponent & 1
        sign_bit = 8 * self.type().itemsize - 1
        return (sign << sign_bit | exponent << mantissa_bits | mantissa).astype(self.type)

    def signed_exponents(self, stream, k, largest, n):
        """2 * exponent + sign of a channel's values."""
        if k < 16:
            table, low_bits, bias, negative = 32 + k, 1, 30, 0
        else:
            table, low_bits, bias, negative = 48 + (k - 16) // 2, 0, 15, k % 2
        v = stream.row(table, low_bits, n, self.flags & WIDE)
        return (2 * largest + 1 - bias - v ^ 1 - negative) & (2 << EXPONENT_BITS[self.dtype]) - 1


TOKENS, HEAD_DIMS = (128, 1, 70, 64, 5, 127), (64, 20, 33, 40, 64, 7)  # of the pages, in turn


def page_of(cache, i, random):
    first = int(random.integers(cache.shape[2] - max(TOKENS) + 1))
    page = cache[i % cache.shape[0], i % 2, first:first + TOKENS[i % 6]]
    return page[:, :, :HEAD_DIMS[i % 6]]


def in_all_dtypes(page):
    """(the format's number of a dtype, the page in it), but for blocks"""
    yield 1, page
    yield 2, as_bfloat16(page)
    yield 3, page.astype(F32) * F32(1.0001)
    for dtype in (E4M3, E5M2, INT8):
        yield dtype, compact(dtype, 16 * page.astype(F32))


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
