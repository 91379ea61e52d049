"""K and V of SmolLM2 on texts of this checkout and of Python's library, as pages for bench_codec.

usage: dump_kv.py FOLDER --work FOLDER     (of the model's unpacked weights)

Writes FOLDER/smollm2.f16 and .bf16: for each text, layer and 128 tokens, K and V as
[tokens, heads, head_dim]. A text has 1,024 tokens, so every eighth pair of pages begins a sequence.
"""

import argparse
import pathlib
import sys
import sysconfig

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "client/python/examples"))
from smollm2 import Cache, SmolLM2, convert  # noqa: E402

LIBRARY = pathlib.Path(sysconfig.get_path("stdlib"))
TEXTS = [ROOT / "proto/wire/PROTOCOL.md", LIBRARY / "heapq.py", LIBRARY / "html/entities.py"]
TOKENS, PAGE_TOKENS = 1024, 128


def pages_of(model, path):
    """[layers * pages * 2, tokens, heads, head_dim], K and V in turn."""
    ids = model.tokenizer.encode(path.read_text(errors="ignore")).ids[:TOKENS]
    if len(ids) < TOKENS:
        raise SystemExit(f"{path}: fewer than {TOKENS} tokens")
    cache = Cache(model, 1, TOKENS)
    model.forward([ids], cache)
    parts = [part.reshape(model.layers, TOKENS // PAGE_TOKENS, PAGE_TOKENS, *part.shape[2:])
             for part in cache.export(0, np.float32)]
    return np.stack(parts, 2).reshape(-1, *parts[0].shape[2:])


def as_bfloat16(values):
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    options = parser.parse_args()
    weights = options.work / "smollm2"
    if not weights.exists():
        options.work.mkdir(parents=True, exist_ok=True)
        convert(weights)
    model = SmolLM2(weights)
    pages = np.concatenate([pages_of(model, path) for path in TEXTS])
    options.folder.mkdir(parents=True, exist_ok=True)
    as_bfloat16(pages).tofile(options.folder / "smollm2.bf16")
    pages.astype(np.float16).tofile(options.folder / "smollm2.f16.new")
    (options.folder / "smollm2.f16.new").rename(options.folder / "smollm2.f16")  # the last: all there


if __name__ == "__main__":
    main()
