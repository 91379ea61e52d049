"""Divergence from full attention, by budget and by way of recalling."""

import dataclasses

import numpy as np
from continuation import compare
from recall_attention import Budget, Recalling


@dataclasses.dataclass
class Passed:
    """One reading with one method at one budget. The arrays have an entry for each token scored."""

    method: str
    reading: str
    context_tokens: int
    budget: float
    divergence: np.ndarray  # KLD from full attention, nats
    lost: np.ndarray  # log probability of the true next token: full attention less this, nats
    same: np.ndarray  # whether both have one likeliest token


def measure(context, reading, methods, budgets, note):
    scored, following = reading.following[:-1], np.array(reading.following[1:])
    own = context.logits(scored)
    for share in budgets:
        for method in methods:
            note(f"{reading.name}, {context.tokens:,} tokens, {share:.0%}: {method.name}")
            logits = context.logits(scored, Recalling(method, Budget(context.tokens, share)))
            yield Passed(method.name, reading.name, context.tokens, share,
                         *compare(own, logits, following))


def pooled(passed):
    """Figures by context, budget and method over all readings, each token with the same weight."""
    groups = {}
    for one in passed:
        groups.setdefault((one.context_tokens, one.budget, one.method), []).append(one)
    return [figures_of(group) for group in groups.values()]


def by_reading(passed):
    return [{"reading": one.reading, **figures_of([one])} for one in passed]


def figures_of(group):
    divergence, lost, same = (np.concatenate([getattr(one, name) for one in group])
                              for name in ("divergence", "lost", "same"))
    return {
        "method": group[0].method,
        "context_tokens": group[0].context_tokens,
        "budget": group[0].budget,
        "scored_tokens": len(divergence),
        "kld_mean": float(divergence.mean()),
        "kld_median": float(np.median(divergence)),
        "kld_p99": float(np.quantile(divergence, 0.99)),
        "perplexity_change": float(np.expm1(lost.mean())),
        "same_top": float(same.mean()),
    }


def with_closed(figures, worst, best):
    """Adds what share of the distance from the method `worst` to the method `best` each closes."""
    kld = {(row["context_tokens"], row["budget"], row["method"]): row["kld_mean"] for row in figures}
    for row in figures:
        place = row["context_tokens"], row["budget"]
        top, bottom = kld[*place, worst], kld[*place, best]
        row["closed"] = (top - row["kld_mean"]) / (top - bottom) if top > bottom else None
    return figures
