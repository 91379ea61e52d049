#!/usr/bin/env python3
"""Takes KV caches through the page codec alone, without a daemon: what a level costs and loses.

  make build/page.so
  page_file.py build/page.so LEVEL IN.npy... [--out DIR] [--page 128] [--sinks 4] [--bf16]

IN.npy is [layers, 2, tokens, heads, head_dim], float16 or float32. LEVEL is exact, fast8 or 0..5.
Prints bits a value, everything counted (headers, sinks), and the signal to noise ratio of K and V;
checks the loss that the pages report against the loss measured. --out keeps what came back under
the same names, in the input's dtype; --bf16 rounds the input to bfloat16 first, and --out is then
float16.
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
                ("snr_db", ctypes.c_double), ("sink_tokens", ctypes.c_uint32),
                ("values", ctypes.c_void_p), ("strides", Strides), ("layer", ctypes.c_uint32),
                ("layers", ctypes.c_uint32)]


class Target(ctypes.Structure):
    _fields_ = [("first", ctypes.c_uint32), ("tokens", ctypes.c_uint32), ("dtype", ctypes.c_int),
                ("values", ctypes.c_void_p), ("strides", Strides), ("streaming", ctypes.c_bool)]


class Loss(ctypes.Structure):
    _fields_ = [("error", ctypes.c_double), ("energy", ctypes.c_double)]


class Info(ctypes.Structure):
    _fields_ = [("shape", Shape), ("part", ctypes.c_int), ("level", ctypes.c_int),
                ("sink_tokens", ctypes.c_uint32), ("exact_tokens", ctypes.c_uint32), ("loss", Loss),
                ("estimated", ctypes.c_bool), ("sink_bytes", ctypes.c_size_t)]


class Codec:
    def __init__(self, library):
        self.library = ctypes.CDLL(str(pathlib.Path(library).resolve()))
        self.buffer = ctypes.create_string_buffer((8 << 20) + 64)
        self.workspace = ctypes.c_void_p((ctypes.addressof(self.buffer) + 63) & ~63)
        self.page = ctypes.create_string_buffer(48 + (1 << 20))

    def round_trip(self, values, dtype, part, level, sinks, layer=0, layers=0):
        """A page [tokens, heads, head_dim] there and back: (values, bytes, info). layers: 0 where
        the page's place in the model is not known."""
        values = np.ascontiguousarray(values)
        tokens, heads, head_dim = values.shape
        strides = Strides(heads * head_dim, head_dim)
        source = Source(Shape(tokens, heads, head_dim, dtype), part, level, 0, sinks,
                        values.ctypes.data, strides, layer, layers)
        written, info, out = ctypes.c_size_t(), Info(), np.empty_like(values)
        error = self.library.page_encode(ctypes.byref(source), self.workspace, self.page,
                                         ctypes.c_size_t(len(self.page)), ctypes.byref(written),
                                         ctypes.byref(info))
        target = Target(0, tokens, dtype, out.ctypes.data, strides, False)
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


def pages_of(array, page_tokens):
    """(layer, part, first token) of each page of [layers, 2, tokens, heads, head_dim]."""
    for layer, part in np.ndindex(array.shape[:2]):
        for first in range(0, array.shape[2], page_tokens):
            yield layer, part, first


class Account:
    """Bytes and losses of all pages so far: as measured here, and as the pages report them."""

    def __init__(self):
        self.bytes = self.values = 0
        self.error, self.energy, self.reported = np.zeros(2), np.zeros(2), np.zeros(2)

    def add(self, part, given, restored, size, loss):
        x, y = (as_float(page).astype(np.float64) for page in (given, restored))
        self.bytes += size
        self.values += given.size
        self.error[part] += ((x - y) ** 2).sum()
        self.energy[part] += (x**2).sum()
        self.reported += loss.error, loss.energy

    def check(self):
        measured = np.array([self.error.sum(), self.energy.sum()])
        if not np.allclose(measured, self.reported, rtol=1e-5):
            raise SystemExit(f"reported loss {self.reported}, measured {measured}")

    def __str__(self):
        k, v = (decibels(*pair) for pair in zip(self.energy, self.error))
        return f"{8 * self.bytes / self.values:.4f} bits a value, K {k:.2f} dB, V {v:.2f} dB"


def through(codec, array, dtype, level, options, account):
    """What comes back of one cache, page by page."""
    restored = np.empty_like(array)
    for layer, part, first in pages_of(array, options.page):
        given = array[layer, part, first:first + options.page]
        sinks = min(options.sinks, len(given)) if first == 0 else 0
        out, size, info = codec.round_trip(given, DTYPES[dtype], part, level, sinks, layer,
                                           len(array))
        if level == LEVELS["exact"] and given.tobytes() != out.tobytes():
            raise SystemExit("exact is not exact")
        restored[layer, part, first:first + options.page] = out
        account.add(part, given, out, size, info.loss)
    return restored


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("level")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--page", type=int, default=128)
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args()


def main():
    options, account = arguments(), Account()
    codec, level = Codec(options.library), int(LEVELS.get(options.level, options.level))
    for path in options.files:
        array = np.load(path)
        dtype = "bfloat16" if options.bf16 else str(array.dtype)
        array = as_bfloat16(array) if options.bf16 else array
        restored = through(codec, array, dtype, level, options, account)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            kept = as_float(restored).astype(np.float16) if options.bf16 else restored
            np.save(options.out / path.name, kept)
    account.check()
    print(f"level {options.level}: {account}")


if __name__ == "__main__":
    main()
