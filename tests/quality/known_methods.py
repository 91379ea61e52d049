"""Methods that engines have for their KV caches, in NumPy, each storing the bytes it would have.

GGML's blocks are coded by llama.cpp's own Python package, gguf. All work on K as it is cached, after
RoPE, a layer at a time.
"""

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize


class LayerMethod:
    """encode and decode of whole caches from those of one layer's K or V, [tokens, heads, head_dim]."""

    saves_engine_memory = True

    def __init__(self, geometry):
        pass

    def encode(self, k, v):
        return [[encode(layer.astype(np.float32)) for layer in part]
                for part, encode in ((k, self.encode_k), (v, self.encode_v))]

    def decode(self, stored):
        return [np.stack([decode(layer) for layer in part])
                for part, decode in zip(stored, (self.decode_k, self.decode_v))]


class GgmlBlocks(LayerMethod):
    """Blocks of 32 neighbouring values of a head: signed integers and a float16 scale."""

    def encode_k(self, x):
        return quantize(x, self.type)

    def decode_k(self, stored):
        return dequantize(stored, self.type)

    encode_v, decode_v = encode_k, decode_k


class Q8_0(GgmlBlocks):
    name, type = "q8_0", GGMLQuantizationType.Q8_0
    counted = "llama.cpp's blocks of 32: 8 bits a value and a float16 scale"


class Q5_1(GgmlBlocks):
    name, type = "q5_1", GGMLQuantizationType.Q5_1
    counted = "llama.cpp's blocks of 32: 5 bits a value, a float16 scale and minimum"


class Q4_0(GgmlBlocks):
    name, type = "q4_0", GGMLQuantizationType.Q4_0
    counted = "llama.cpp's blocks of 32: 4 bits a value and a float16 scale"


def hadamard(size):
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.float32(size ** 0.5)


def rotate(x):
    """Along the last axis; in blocks of the largest power of two where head_dim is none. Its own
    inverse."""
    size = x.shape[-1] & -x.shape[-1]
    blocks = x.reshape(*x.shape[:-1], -1, size)
    return (blocks @ hadamard(size)).reshape(x.shape)


class RotatedQ4_0(Q4_0):
    name = "q4_0, rotated"
    counted = "as q4_0, after a Hadamard rotation over head_dim"

    def encode_k(self, x):
        return super().encode_k(rotate(x))

    def decode_k(self, stored):
        return rotate(super().decode_k(stored))

    encode_v, decode_v = encode_k, decode_k


class Fp8(LayerMethod):
    """float8 e4m3 with a scale of 1, as vLLM stores it without calibration: rounded to nearest even."""

    name = "fp8 e4m3"
    counted = "a byte a value, no scales"

    def __init__(self, geometry):
        codes = np.arange(127)  # 127 is NaN
        exponent, mantissa = codes >> 3, codes & 7
        self.values = np.where(exponent, (8 + mantissa) * 2.0 ** (exponent - 10.0),
                               mantissa * 2.0 ** -9).astype(np.float32)
        self.edges = (self.values[1:] + self.values[:-1]) / 2

    def encode_k(self, x):
        size = np.abs(x)
        code = np.searchsorted(self.edges, size).astype(np.uint8)
        even = np.searchsorted(self.edges, size, "right") != code
        code += even & (code & 1 == 1)
        return code | np.signbit(x).astype(np.uint8) << 7

    def decode_k(self, stored):
        size = self.values[stored & 127]
        return np.where(stored >> 7, -size, size)

    encode_v, decode_v = encode_k, decode_k


def pack(codes, bits):
    """Codes of `bits` bits into bytes, along the last axis."""
    codes = codes.reshape(*codes.shape[:-1], codes.shape[-1] * bits // 8, 8 // bits)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(codes << shifts, -1)


def unpack(packed, bits):
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = packed[..., None] >> shifts & (1 << bits) - 1
    return codes.reshape(*packed.shape[:-1], packed.shape[-1] * 8 // bits)


class Kivi(LayerMethod):
    """KIVI (ICML 2024), as its published code does after a prefill: minimum and scale in float16 for
    groups of 32, of K along the tokens of a channel, of V along the channels of a token; in 16 bits
    stay K of the tokens that fill no whole window of 128, and V of the newest 128."""

    group, window = 32, 128

    def quantised(self, groups):
        """Of groups along the last axis."""
        low = groups.min(-1, keepdims=True).astype(np.float16)
        scale = ((groups.max(-1, keepdims=True) - low) / (2 ** self.bits - 1)).astype(np.float16)
        divisor = np.where(scale, scale, 1).astype(np.float32)
        codes = np.clip(np.rint((groups - low) / divisor), 0, 2 ** self.bits - 1).astype(np.uint8)
        return pack(codes, self.bits), scale, low

    def restored(self, stored):
        packed, scale, low = stored
        return unpack(packed, self.bits) * scale.astype(np.float32) + low

    def encode_k(self, x):
        cut = len(x) - len(x) % self.window
        channels = x[:cut].reshape(cut // self.group, self.group, *x.shape[1:])
        return *self.quantised(np.moveaxis(channels, 1, -1)), x[cut:].astype(np.float16)

    def decode_k(self, stored):
        *quantised, newest = stored
        channels = np.moveaxis(self.restored(quantised), -1, 1)
        return together(channels, newest)

    def encode_v(self, x):
        cut = max(0, len(x) - self.window)
        groups = x[:cut].reshape(cut, x[0].size // self.group, self.group)
        return *self.quantised(groups), x[cut:].astype(np.float16)

    def decode_v(self, stored):
        *quantised, newest = stored
        return together(self.restored(quantised), newest)


def together(quantised, newest):
    """Of one layer: what was quantised, in any shape, and after it what was not."""
    return np.concatenate([quantised.reshape(-1), newest.reshape(-1)]).reshape(-1, *newest.shape[1:])


class Kivi4(Kivi):
    name, bits = "KIVI, 4 bits", 4
    counted = "codes, float16 scale and minimum of groups of 32, the newest tokens in float16"


class Kivi2(Kivi):
    name, bits = "KIVI, 2 bits", 2
    counted = Kivi4.counted


class OneScale(LayerMethod):
    """The simplest 4-bit cache: one scale for all of a layer's K or V."""

    name = "4 bits, one scale"
    counted = "4 bits a value, a float32 scale for a layer's K and one for its V"

    def encode_k(self, x):
        scale = np.abs(x).max() / np.float32(7)
        codes = np.rint(x / (scale or 1)) + 8
        return pack(codes.astype(np.uint8), 4), np.float32(scale)

    def decode_k(self, stored):
        packed, scale = stored
        return (unpack(packed, 4) - np.float32(8)) * scale

    encode_v, decode_v = encode_k, decode_k


KNOWN_METHODS = [Q8_0, Fp8, Q5_1, Q4_0, RotatedQ4_0, Kivi4, Kivi2, OneScale]
