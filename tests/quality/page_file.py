#!/usr/bin/env python3
"""Takes KV caches through the page codec alone, without a daemon: what a level costs and loses.

  gcc -std=gnu11 -O3 -fno-math-errno -ffp-contract=off -shared -fPIC -I. proto/page/*.c -o page.so
  page_file.py page.so LEVEL IN.npy... [--out DIR] [--page 128] [--sinks 4] [--bf16]

IN.npy is [layers, 2, tokens, heads, head_dim], float16 or float32. LEVEL is exact, fast8 or 0..5.
Prints bits a value, everything counted (headers, sinks), and the signal to noise ratio of K and V;
checks the loss that the pages report against the loss measured. --out keeps what came back, in the
input's dtype, under the same names; --bf16 rounds the input to bfloat16 first.
"""
import argparse
import ctypes
import math
import pathlib

import numpy as np

DTYPES = {"float16": 1, "bfloat16": 2, "float32": 3}
LEVELS = {"exact": -2, "fast8": -1}


class Shape(ctypes.Structure):
    _fields_ = [("tokens", ctypes.c_uint32), ("heads", ctypes.c_uint32),
                ("head_dim", ctypes.c_uint32), ("dtype", ctypes.c_int)]


class Strides(ctypes.Structure):
    _fields_ = [("token", ctypes.c_size_t), ("head", ctypes.c_size_t)]


class Source(ctypes.Structure):
    _fields_ = [("shape", Shape), ("part", ctypes.c_int), ("level", ctypes.c_int),
                ("sink_tokens", ctypes.c_uint32), ("values", ctypes.c_void_p), ("strides", Strides)]


class Target(ctypes.Structure):
    _fields_ = [("first", ctypes.c_uint32), ("tokens", ctypes.c_uint32), ("dtype", ctypes.c_int),
                ("values", ctypes.c_void_p), ("strides", Strides)]


class Loss(ctypes.Structure):
    _fields_ = [("error", ctypes.c_double), ("energy", ctypes.c_double)]


class Info(ctypes.Structure):
    _fields_ = [("shape", Shape), ("part", ctypes.c_int), ("level", ctypes.c_int),
                ("sink_tokens", ctypes.c_uint32), ("loss", Loss), ("sink_bytes", ctypes.c_size_t)]


class Codec:
    def __init__(self, library):
        self.library = ctypes.CDLL(str(pathlib.Path(library).resolve()))
        self.buffer = ctypes.create_string_buffer((4 << 20) + 64)
        self.workspace = ctypes.c_void_p((ctypes.addressof(self.buffer) + 63) & ~63)
        self.page = ctypes.create_string_buffer(48 + (1 << 20))

    def round_trip(self, values, dtype, part, level, sinks):
        """A page [tokens, heads, head_dim] there and back: (values, bytes, info)."""
        values = np.ascontiguousarray(values)
        tokens, heads, head_dim = values.shape
        strides = Strides(heads * head_dim, head_dim)
        source = Source(Shape(tokens, heads, head_dim, dtype), part, level, sinks,
                        values.ctypes.data, strides)
        written, info, out = ctypes.c_size_t(), Info(), np.empty_like(values)
        error = self.library.page_encode(ctypes.byref(source), self.workspace, self.page,
                                         ctypes.c_size_t(len(self.page)), ctypes.byref(written),
                                         ctypes.byref(info))
        target = Target(0, tokens, dtype, out.ctypes.data, strides)
        error = error or self.library.page_decode(self.page, written, ctypes.byref(target),
                                                  self.workspace)
        if error:
            raise SystemExit(f"the codec refuses: {error}")
        return out, written.value, info


def as_bfloat16(array):
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def as_float(array):
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array


def decibels(energy, error):
    return 10 * math.log10(energy / error) if error else math.inf


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("level")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--page", type=int, default=128)
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--bf16", action="store_true")
    a = parser.parse_args()
    codec, level = Codec(a.library), LEVELS.get(a.level, a.level)
    total_bytes = total_values = 0
    error, energy, reported = np.zeros(2), np.zeros(2), np.zeros(2)
    for path in a.files:
        array = np.load(path)
        dtype = "bfloat16" if a.bf16 else str(array.dtype)
        array = as_bfloat16(array) if a.bf16 else array
        back = np.empty_like(array)
        for layer, part in np.ndindex(array.shape[:2]):
            for first in range(0, array.shape[2], a.page):
                page = array[layer, part, first:first + a.page]
                out, size, info = codec.round_trip(page, DTYPES[dtype], part, int(level),
                                                   min(a.sinks, len(page)) if first == 0 else 0)
                back[layer, part, first:first + a.page] = out
                total_bytes += size
                total_values += out.size
                x, y = as_float(page).astype(np.float64), as_float(out).astype(np.float64)
                error[part] += ((x - y) ** 2).sum()
                energy[part] += (x**2).sum()
                reported += info.loss.error, info.loss.energy
                if level == -2 and page.tobytes() != out.tobytes():
                    raise SystemExit("exact is not exact")
        if a.out:
            a.out.mkdir(parents=True, exist_ok=True)
            kept = as_float(back).astype(np.float16) if a.bf16 else back
            np.save(a.out / path.name, kept)
    measured = np.array([error.sum(), energy.sum()])
    if not np.allclose(measured, reported, rtol=1e-5):
        raise SystemExit(f"reported loss {reported}, measured {measured}")
    print(f"level {a.level}: {8 * total_bytes / total_values:.4f} bits a value, "
          f"K {decibels(energy[0], error[0]):.2f} dB, V {decibels(energy[1], error[1]):.2f} dB")


if __name__ == "__main__":
    main()
