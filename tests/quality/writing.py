"""The figures as Markdown for people, JSON and CSV for programs."""

import csv
import json

from samples import by_text

COLUMNS = ["method", "kind", "bits/value", "ratio", "dB K", "dB V", "KLD mean", "median", "99 %",
           "99.9 %", "perplexity", "+-", "same top", "levels at that KLD"]


def nats(value):
    """Rounding may leave a tiny divergence a hair below 0."""
    return f"{value:.6f}" if value >= 1e-5 else f"{value:.0e}" if value else "0"


def cells_of(figures):
    def decibel(value):
        return "exact" if value is None else f"{value:.1f}"

    level_bits = figures["level_bits_at_same_kld"]
    return [figures["method"], figures["kind"], f"{figures['bits_per_value']:.2f}",
            f"{figures['ratio']:.2f}", decibel(figures["snr_k_db"]), decibel(figures["snr_v_db"]),
            *(nats(figures[name]) for name in ("kld_mean", "kld_median", "kld_p99", "kld_p999")),
            f"{100 * figures['perplexity_change']:+.2f} %",
            f"{100 * figures['perplexity_change_error']:.2f}", f"{100 * figures['same_top']:.2f} %",
            f"{level_bits:.2f}" if level_bits else ""]


def table(columns, rows):
    """Markdown that is also read as it stands; the first two columns are text."""
    widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]
    lines = [columns, [("-" * w if i < 2 else "-" * (w - 1) + ":") for i, w in enumerate(widths)],
             *rows]
    return "\n".join("| " + " | ".join(
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths))) + " |" for line in lines)


def markdown(measurement, figures, samples):
    parts = ["# What compression does to a model", heading(measurement)]
    for context in sorted({row["context_tokens"] for row in figures}):
        rows = [row for row in figures if row["context_tokens"] == context]
        parts += [f"## {context:,} tokens of context, {rows[0]['scored_tokens']:,} tokens scored",
                  table(COLUMNS, list(map(cells_of, rows)))]
    parts += ["## What is counted", counted(samples), NOTES, *notes_of(measurement)]
    return "\n\n".join(parts) + "\n"


def heading(measurement):
    texts = "; ".join(text["text"] for text in measurement["texts"])
    return (f"{measurement['model']} ({measurement['described']}): {measurement['layers']} layers, "
            f"{measurement['heads']} KV heads, head_dim {measurement['head_dim']}; K and V in "
            f"{measurement['dtype']}. Texts: {texts}.")


def counted(samples):
    names = {}
    for sample in samples:
        names.setdefault(sample.row.counted, {})[sample.row.name] = None
    return "\n".join(f"- {'; '.join(same)}: {what}" for what, same in names.items())


NOTES = """KLD in nats and perplexity as its change, with the standard error of that (tokens count as
independent): both against the model's own 16-bit cache. The first row is that cache once more, with
the tokens scored in two runs: what lies below it is rounding. `at rest`: what is stored is decoded
before an engine attends to it; `in the engine`: an engine can keep its own cache so, and saves that
memory too. `active`: the session's newest tokens are in its tail as they came; else all is coded."""


def notes_of(measurement):
    return [f"Not measured: {note}." for note in measurement["left_out"]] + [
        f"Measured in {measurement['seconds']:.0f} s."]


def write(folder, measurement, figures, samples):
    """quality.md, .json (all figures) and .csv (a line for each text, context and method)."""
    report = {**measurement, "methods": figures, "by_text": by_text(samples)}
    (folder / "quality.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    with open(folder / "quality.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, report["by_text"][0].keys())
        writer.writeheader()
        writer.writerows(report["by_text"])
    (folder / "quality.md").write_text(markdown(measurement, figures, samples))
