"""Figures of what was measured at each level: a table for people, JSON and CSV for programs."""

import csv
import dataclasses
import json
import math
import pathlib

import numpy as np


@dataclasses.dataclass
class Sample:
    """One text at one level. The arrays have an entry for each token scored."""

    text: str
    level: str
    stored_bytes: int  # all that the daemon counts for the session
    values: int
    error: np.ndarray  # [K, V]: sum of squared differences from the float16 values
    energy: np.ndarray  # [K, V]: sum of their squares
    divergence: np.ndarray  # KLD from the model's own cache, nats
    lost: np.ndarray  # log probability of the true next token: own cache less restored, nats
    same: np.ndarray  # whether both have one likeliest token


def decibels(energy, error):
    """None: nothing was lost."""
    return 10 * math.log10(energy / error) if error else None


def figures_of(samples):
    """The figures of samples of one level, every value and every token with the same weight."""
    bits = 8 * sum(s.stored_bytes for s in samples) / sum(s.values for s in samples)
    snr = [decibels(*pair) for pair in zip(sum(s.energy for s in samples),
                                           sum(s.error for s in samples))]
    divergence, lost, same = (np.concatenate([getattr(s, name) for s in samples])
                              for name in ("divergence", "lost", "same"))
    return {
        "level": samples[0].level,
        "bits_per_value": bits,
        "ratio": 16 / bits,
        "snr_k_db": snr[0],
        "snr_v_db": snr[1],
        "kld_mean": float(divergence.mean()),
        "kld_median": float(np.median(divergence)),
        "kld_p99": float(np.quantile(divergence, 0.99)),
        "perplexity_change": float(np.expm1(lost.mean())),
        "perplexity_change_error": float(np.exp(lost.mean()) * lost.std(ddof=1) / len(lost) ** 0.5),
        "same_top": float(same.mean()),
    }


def pooled(samples):
    """Figures by level over all texts, in the order the levels were measured."""
    levels = dict.fromkeys(s.level for s in samples)
    return [figures_of([s for s in samples if s.level == level]) for level in levels]


def by_text(samples):
    return [{"text": s.text, **figures_of([s])} for s in samples]


COLUMNS = ["level", "bits/value", "ratio", "dB K", "dB V", "KLD mean", "median", "99 %",
           "perplexity", "+-", "same top"]


def row_of(figures):
    def decibel(value):
        return "exact" if value is None else f"{value:.1f}"

    return [figures["level"], f"{figures['bits_per_value']:.2f}", f"{figures['ratio']:.2f}",
            decibel(figures["snr_k_db"]), decibel(figures["snr_v_db"]),
            f"{figures['kld_mean']:.6f}", f"{figures['kld_median']:.6f}",
            f"{figures['kld_p99']:.6f}", f"{100 * figures['perplexity_change']:+.2f} %",
            f"{100 * figures['perplexity_change_error']:.2f}", f"{100 * figures['same_top']:.2f} %"]


def table(all_figures):
    lines = [COLUMNS, *map(row_of, all_figures)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join("  ".join([line[0].ljust(widths[0])]
                               + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])])
                     for line in lines)


def write_json(path: pathlib.Path, measurement, samples):
    """`measurement` says of what: the model, the texts, the tokens."""
    report = {**measurement, "levels": pooled(samples), "by_text": by_text(samples)}
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


def write_csv(path: pathlib.Path, samples):
    """A line for each text and level."""
    rows = by_text(samples)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
