"""The compact dtypes of proto/page/FORMAT.md, in NumPy: their bytes from float32 values.

Slow and plain, like page_reference.py, of which this is a part.
"""
import numpy as np

F32 = np.float32
E4M3, E5M2, INT8, Q8_0, Q4_0 = 4, 5, 6, 7, 8
BLOCK_BYTES = {Q8_0: 34, Q4_0: 18}
LARGEST_CODE = {E4M3: 0x7e, E5M2: 0x7b}


def row_bytes(dtype, values):
    return values // 32 * BLOCK_BYTES[dtype] if dtype in BLOCK_BYTES else values


def magnitudes(dtype):
    """The finite ones, by their code."""
    codes = np.arange(LARGEST_CODE[dtype] + 1)
    mantissa_bits, bias = (3, 7) if dtype == E4M3 else (2, 15)
    exponent, mantissa = codes >> mantissa_bits, codes & (1 << mantissa_bits) - 1
    whole = np.where(exponent > 0, 1 << mantissa_bits, 0) + mantissa
    return np.ldexp(whole.astype(np.float64), np.maximum(exponent, 1) - bias - mantissa_bits)


def small_floats(dtype, values):
    table, magnitude = magnitudes(dtype), np.abs(values).astype(np.float64)
    magnitude = np.minimum(magnitude, table[-1])
    above = np.searchsorted(table, magnitude)
    below = np.maximum(above - 1, 0)
    down, up = magnitude - table[below], table[above] - magnitude
    code = np.where((down < up) | (down == up) & (below % 2 == 0), below, above)
    return (np.signbit(values) * 0x80 | code).astype(np.uint8)


def packed_blocks(dtype, scales, integers):
    """[rows, bytes], of two bytes of scale a block and of integers, [rows, values]."""
    rows = len(integers)
    blocks = integers.reshape(rows, -1, 32)
    if dtype == Q4_0:
        nibbles = blocks + 8 & 15
        blocks = nibbles[:, :, :16] | nibbles[:, :, 16:] << 4
    scales = scales.reshape(rows, -1, 2)
    return np.concatenate([scales, blocks.astype(np.uint8)], 2).reshape(rows, -1)


def blocks_of(dtype, values):
    blocks = values.reshape(len(values), -1, 32)
    farthest = np.take_along_axis(blocks, np.argmax(blocks * blocks, 2)[:, :, None], 2)
    d = np.abs(farthest) / F32(127) if dtype == Q8_0 else farthest / F32(-8)
    inverse = np.where(np.abs(d) > 2.0**-120, F32(1) / np.where(d == 0, F32(1), d), F32(0))
    q = np.rint(blocks * inverse.astype(F32)).astype(np.int64)
    q = np.clip(q, -127, 127) if dtype == Q8_0 else np.clip(q, -8, 7)
    scales = np.clip(d, -65504, 65504).astype("<f2").view(np.uint8)
    return packed_blocks(dtype, scales, q.reshape(values.shape))


def compact(dtype, values):
    """[rows, bytes] of float32 values, [rows, values]: the nearest, ties to even."""
    if dtype in BLOCK_BYTES:
        return blocks_of(dtype, values)
    if dtype == INT8:
        return np.clip(np.rint(values), -128, 127).astype(np.int8).view(np.uint8)
    return small_floats(dtype, values)
