"""The figures of recalling as Markdown for people, JSON and CSV for programs, and a plot."""

import csv
import json

from recall_plot import plot
from writing import nats, table

NOTES = """Full attention is the model's own 16-bit cache, all of it. With a budget, each step sees 4 sinks, the
newest 256 tokens (three quarters of a budget that is smaller), what is recalled, and what it has read
itself since the context ended; sinks and newest count in the budget. A layer's heads share a choice,
but embeddings make one for all layers. KLD is of the next token, mean, in nats. *closed*: how much of
the distance from `recency only` to the oracle of as small blocks."""
LEVELS_NOTE = """Bits a value of K and V, everything counted: pages, and summaries of keys where they are needed. What is
recalled is at level 2 in all rows that recall, within sinks and newest tokens as above."""
NEEDLE_NOTE = """The budget is 10 % of the tokens. *layers*: in how many of them the last token of the question sees a
digit of the number. *says it*: the number is in the next tokens, of full attention and of recalling."""


def markdown(report):
    parts = ["# What recall is worth to a model",
             f"{report['model']} ({report['described']}), contexts of several documents, of which one "
             f"goes on: {'; '.join(report['readings'])}.", NOTES]
    for context in sorted({row["context_tokens"] for row in report["budgets"]}):
        rows = [row for row in report["budgets"] if row["context_tokens"] == context]
        parts += [f"## {context:,} tokens of context, {rows[0]['scored_tokens']:,} tokens scored",
                  budgets_table(rows)]
    if report["levels"]:
        parts += ["## Dropping, or forgetting slowly", LEVELS_NOTE, levels_table(report["levels"])]
    parts += ["## A needle", NEEDLE_NOTE, needle_table(report["needle"])]
    parts += [f"Not measured: {note}." for note in report["left_out"]]
    return "\n\n".join([*parts, f"Measured in {report['seconds']:.0f} s."]) + "\n"


def budgets_table(rows):
    columns = ["method", "budget", "KLD mean", "median", "99 %", "perplexity", "same top", "closed"]
    return table(columns, [[
        row["method"], f"{row['budget']:.0%}",
        *(nats(row[name]) for name in ("kld_mean", "kld_median", "kld_p99")),
        f"{row['perplexity_change']:+.1%}", f"{row['same_top']:.1%}",
        "" if row["closed"] is None else f"{row['closed']:.2f}"] for row in rows])


def levels_table(rows):
    return table(["context", "what is kept", "bits/value", "KLD mean"], [[
        f"{row['context_tokens']:,}", row["way"], f"{row['bits_per_value']:.2f}",
        nats(row["kld_mean"])] for row in sorted(rows, key=lambda row: row["context_tokens"])])


def needle_table(rows):
    def answer(yes):
        return "yes" if yes else "no"

    return table(["depth", "method", "recalled", "layers", "says it", "full attention"], [[
        f"{row['depth']:.0%}", row["method"], answer(row["recalled"]),
        f"{row['layers']} of {row['of_layers']}", answer(row["said"]),
        answer(row["said_by_full_attention"])] for row in rows])


def write(folder, report, by_reading):
    """recall.md, .json (all figures), .csv (a line for each reading, budget and method) and .svg."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**report, "by_reading": by_reading}
    (folder / "recall.json").write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    with open(folder / "recall.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, by_reading[0].keys())
        writer.writeheader()
        writer.writerows(by_reading)
    (folder / "recall.md").write_text(markdown(report))
    (folder / "recall.svg").write_text(plot(report["budgets"]))
