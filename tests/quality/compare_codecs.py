#!/usr/bin/env python3
"""Does a change of the page codec pay? The bits of two builds at equal KLD, text by text.

  make deps python build/page.so     # in each checkout
  compare_codecs.py OLD.so NEW.so [TEXT...] [--levels 1 2 3 4 5] [--context 1024] [--score 256]

A text's first tokens go through both codecs, all bytes of pages counted, and the model scores the
next on what came back. The old build's bits at the new one's KLD are read off the old one's levels
0 to 5, straight between neighbours in bits and the logarithm of KLD; the gain is what the new build
needs less. A KLD outside the old build's levels has no gain. One text's gain moves by some per cent
with the roundings that happen to fall together: believe the mean, with its standard error.
"""
import argparse
import pathlib

import numpy as np
from continuation import Continuation
from models import ROOT, SMOLLM2, open_judge
from page_file import DTYPES, Codec
from texts import default_texts, of_files

PAGE_TOKENS, SINK_TOKENS, ALL_LEVELS = 128, 4, range(6)


def stored(codec, cache, part, level):
    """K or V [layers, tokens, heads, head_dim] as it comes back, and its bytes."""
    restored, total = np.empty_like(cache), 0
    for layer in range(len(cache)):
        for first in range(0, cache.shape[1], PAGE_TOKENS):
            tokens = slice(first, first + PAGE_TOKENS)
            sinks = 0 if first else SINK_TOKENS
            restored[layer, tokens], size, _ = codec.round_trip(
                cache[layer, tokens], DTYPES["float16"], part, level, sinks, layer, len(cache))
            total += size
    return restored, total


def measure(codec, continuation, level):
    """(bits a value, mean KLD)"""
    (k, k_bytes), (v, v_bytes) = (stored(codec, cache, part, level)
                                  for part, cache in enumerate((continuation.k, continuation.v)))
    divergence, *_ = continuation.compare(continuation.model.logits(k, v, continuation.scored))
    return 8 * (k_bytes + v_bytes) / (k.size + v.size), divergence.mean()


def gain(old, bits, kld):
    """The share of the old build's bits that the new one saves; NaN outside the old one's levels."""
    old_bits, old_kld = np.array(old)[::-1].T  # coarse to fine: KLD falls, bits rise
    needed = np.interp(-np.log(kld), -np.log(old_kld), old_bits, np.nan, np.nan)
    return 1 - bits / needed


def compare(judge, text, old, new, options):
    """For each level: [old bits, old KLD, new bits, new KLD, gain]."""
    ids = text.tokens(judge, options.context + options.score + 1)
    k, v = judge.prefill(ids[:options.context])
    continuation = Continuation(judge, text.name, ids[options.context:], k, v)
    curve = [measure(old, continuation, level) for level in ALL_LEVELS]
    for level in options.levels:
        found = measure(new, continuation, level)
        yield *curve[level], *found, gain(curve, *found)


def report(names, levels, figures):
    """figures: [texts, levels, 5]"""
    for i, level in enumerate(levels):
        gains = 100 * figures[:, i, 4]
        known = gains[~np.isnan(gains)]
        mean = np.mean(figures[:, i, :4], axis=0)
        error = known.std(ddof=1) / len(known) ** 0.5 if len(known) > 1 else np.nan
        print(f"level {level}: bits {mean[0]:.3f} -> {mean[2]:.3f}, KLD {mean[1]:.6f} -> {mean[3]:.6f}, "
              f"gain {known.mean() if len(known) else np.nan:+.1f} % +- {error:.1f}")
        print("   " + ", ".join(f"{name} {value:+.1f}" for name, value in zip(names, gains)))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("old", type=Codec)
    parser.add_argument("new", type=Codec)
    parser.add_argument("texts", nargs="*", type=pathlib.Path)
    parser.add_argument("--levels", nargs="+", type=int, choices=ALL_LEVELS, default=[1, 2, 3, 4, 5])
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/run")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--score", type=int, default=256)
    return parser.parse_args()


def main():
    options = arguments()
    judge = open_judge(SMOLLM2, options.work)
    texts = [of_files(path.stem, path) for path in options.texts] or default_texts()
    figures = [list(compare(judge, text, options.old, options.new, options)) for text in texts]
    report([text.name for text in texts], options.levels, np.array(figures))


if __name__ == "__main__":
    main()
