"""What was measured, and the figures made of it."""

import dataclasses
import math

import numpy as np

AT_REST, IN_ENGINE, REFERENCE = "at rest", "in the engine", "reference"


@dataclasses.dataclass
class Row:
    """A method as the tables name it."""

    name: str
    kind: str  # AT_REST, IN_ENGINE: it also saves the engine's memory while that attends, REFERENCE
    counted: str  # what its bytes are


@dataclasses.dataclass
class Sample:
    """One text through one method. The arrays have an entry for each token scored."""

    row: Row
    text: str
    context_tokens: int
    stored_bytes: int
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
    """The figures of samples of one row, every value and every token with the same weight."""
    bits = 8 * sum(s.stored_bytes for s in samples) / sum(s.values for s in samples)
    snr = [decibels(*pair) for pair in zip(sum(s.energy for s in samples),
                                           sum(s.error for s in samples))]
    divergence, lost, same = (np.concatenate([getattr(s, name) for s in samples])
                              for name in ("divergence", "lost", "same"))
    return {
        "method": samples[0].row.name,
        "kind": samples[0].row.kind,
        "context_tokens": samples[0].context_tokens,
        "scored_tokens": len(divergence),
        "bits_per_value": bits,
        "ratio": 16 / bits,
        "snr_k_db": snr[0],
        "snr_v_db": snr[1],
        "kld_mean": float(divergence.mean()),
        "kld_median": float(np.median(divergence)),
        "kld_p99": float(np.quantile(divergence, 0.99)),
        "kld_p999": float(np.quantile(divergence, 0.999)),
        "perplexity_change": float(np.expm1(lost.mean())),
        "perplexity_change_error": float(np.exp(lost.mean()) * lost.std(ddof=1) / len(lost) ** 0.5),
        "same_top": float(same.mean()),
    }


def by(samples, key):
    """Samples with one key together, in the order of the first of each."""
    groups = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return groups


def pooled(samples):
    """Figures by context and row over all texts, in the order they were measured."""
    groups = by(samples, lambda s: (s.context_tokens, s.row.name))
    contexts = sorted({context for context, _ in groups})
    return [figures_of(group) for context in contexts
            for (of_context, _), group in groups.items() if of_context == context]


def level_bits_at(kld, levels):
    """The bits a value that levels take for this KLD, between the two whose KLD is next to it."""
    points = sorted((math.log(row["kld_mean"]), row["bits_per_value"]) for row in levels
                    if row["kld_mean"] > 0)
    if not points or not points[0][0] <= math.log(kld) <= points[-1][0]:
        return None
    return float(np.interp(math.log(kld), *zip(*points)))


def with_level_bits(figures, names):
    """Adds what the levels of these names take for the same KLD to the rows of all others."""
    for row in figures:
        levels = [other for other in figures if other["method"] in names
                  and other["context_tokens"] == row["context_tokens"]]
        compared = row["kind"] != REFERENCE and row["method"] not in names and row["kld_mean"] > 0
        row["level_bits_at_same_kld"] = level_bits_at(row["kld_mean"], levels) if compared else None
    return figures


def by_text(samples):
    return [{"text": sample.text, **figures_of([sample])} for sample in samples]
