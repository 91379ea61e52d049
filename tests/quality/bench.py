#!/usr/bin/env python3
"""What compression costs and does to a real model: the daemon's levels and known methods, in one run.

The model prefills a text; for each context length, K and V of that many tokens, in float16, go through
each method and back, and the model scores the tokens that follow on what came back and on its own
float16 cache. README.md beside this file says what the columns mean.
"""

import argparse
import pathlib
import sys
import time

import huggingface_methods
import known_methods
import numpy as np
from continuation import Continuation
from daemon_levels import ACTIVE_LEVELS, LEVELS, daemon_levels, level_name, private_daemon
from methods import Codec, find
from models import ROOT, SMOLLM2, open_judge
from samples import REFERENCE, Row, pooled, with_level_bits
from scatter import plot
from texts import default_texts, of_files
from writing import markdown, write

# None fills its last page, so that there is a tail; with what is scored, all within the 8,192 tokens
# that SmolLM2 was trained on.
CONTEXTS = [1000, 4000, 7900]


class NoiseFloor:
    row = Row("16-bit cache", REFERENCE, "16 bits a value")

    def sample(self, continuation):
        return continuation.noise(self.row)


def rows_of(options, judge, client):
    """What is measured, in the order of the tables."""
    rows = daemon_levels(client, judge, options.levels, options.active)
    methods = [find(method) for method in options.method]
    if options.known:
        methods = known_methods.KNOWN_METHODS + huggingface_methods.available()[0] + methods
    rows += [Codec(method, judge.geometry) for method in methods]
    if options.only:
        rows = only(rows, options.only)
    return [NoiseFloor(), *rows]


def only(rows, names):
    found = {row.row.name: row for row in rows}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise SystemExit(f"no row {', '.join(unknown)}; there are {', '.join(found)}")
    return [found[name] for name in names]


def measure(judge, text, options, rows):
    """Samples of one text, whose longest context is prefilled once: a shorter one's cache is its
    beginning."""
    ids = text.tokens(judge, max(options.context) + options.score + 1)
    k, v = judge.prefill(ids[:max(options.context)])
    for context in options.context:
        part = [np.ascontiguousarray(whole[:, :context]) for whole in (k, v)]
        continuation = Continuation(judge, text.name, ids[context:context + options.score + 1], *part)
        for row in rows:
            note(f"{text.name}, {context:,} tokens: {row.row.name}")
            yield row.sample(continuation)


def note(what):
    """Shows how far things are, on a terminal only, on a line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def describe(judge, options, texts):
    """What is measured, for programs."""
    geometry = judge.geometry
    return {
        "model": judge.name, "described": judge.described, "layers": geometry.layers,
        "heads": geometry.heads, "head_dim": geometry.head_dim, "dtype": "float16",
        "context_tokens": options.context, "scored_tokens_per_text": options.score,
        "texts": [{"text": text.name, "sha256": text.sha256} for text in texts],
        "left_out": huggingface_methods.available()[1] if options.known else [],
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs="+", default=[], metavar="FILE",
                        help="default: texts of this checkout, of Debian and of Python")
    parser.add_argument("--model", default=SMOLLM2, metavar="NAME_OR_GGUF",
                        help=f"default: {SMOLLM2}; others need transformers and torch")
    parser.add_argument("--context", type=int, nargs="+", default=CONTEXTS, metavar="TOKENS")
    parser.add_argument("--score", type=int, default=128, metavar="TOKENS",
                        help="that follow each context (default: 128)")
    parser.add_argument("--method", action="append", default=[], metavar="MODULE:CLASS",
                        help="one more method, of a module or a .py file; may be given again")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="only rows of these names")
    parser.add_argument("--levels", nargs="*", type=level, default=LEVELS, metavar="LEVEL")
    parser.add_argument("--active", nargs="*", type=level, default=ACTIVE_LEVELS, metavar="LEVEL",
                        help="levels to measure with the tail as it came, too")
    parser.add_argument("--no-known", dest="known", action="store_false",
                        help="the daemon's levels and --method alone")
    parser.add_argument("--quick", action="store_true",
                        help="a smoke test: a short context of one text")
    parser.add_argument("--daemon", default=ROOT / "build/kvquantd", metavar="PROGRAM")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/run", metavar="FOLDER",
                        help="keeps the model's unpacked weights (default: build/run)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build/report",
                        metavar="FOLDER", help="takes quality.md, .json, .csv, .svg "
                                               "(default: build/report)")
    options = parser.parse_args()
    if options.quick:
        options.context, options.score = [300], 32
    return options


def level(name):
    return int(name) if name.isdigit() else name


def main():
    options, start = arguments(), time.monotonic()
    for folder in options.work, options.output:
        folder.mkdir(parents=True, exist_ok=True)
    judge = open_judge(options.model, options.work)
    texts = [of_files(name, name) for name in options.texts] or default_texts()
    texts, samples = texts[:1] if options.quick else texts, []
    for text in texts:  # before minutes are spent
        text.tokens(judge, max(options.context) + options.score + 1)
    measurement = describe(judge, options, texts)
    with private_daemon(options.daemon, judge.geometry, max(options.context)) as client:
        rows = rows_of(options, judge, client)
        for text in texts:
            if not sys.stderr.isatty():
                print(f"measuring {text.name}", file=sys.stderr, flush=True)
            samples += measure(judge, text, options, rows)
    note("")
    measurement["seconds"] = time.monotonic() - start
    figures = with_level_bits(pooled(samples), {level_name(n) for n in LEVELS if isinstance(n, int)})
    write(options.output, measurement, figures, samples)
    (options.output / "quality.svg").write_text(plot(figures, set(map(level_name, LEVELS))))
    print(markdown(measurement, figures, samples), end="")


if __name__ == "__main__":
    main()
