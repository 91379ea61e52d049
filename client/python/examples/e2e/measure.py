"""One scenario: the plain cache and the compressed one in turn, then the loss of the latter.

Speed, bytes and loss are those of one configuration. The runs that are timed are free; the loss is
taken on the baseline's text, token by token, as the bytes are.
"""

import copy
import statistics

import torch
from tqdm import tqdm
from transformers import DynamicCache

from kvquantd.hf import CompressedDynamicCache

from .generation import generate, loss

SAMPLES = 64  # of the bytes over time


def measure(opened, scenario, levels, new_tokens, rounds):
    """Returns the scenario's figures, and the baseline's last run and cache."""

    def plain():
        return DynamicCache(config=opened.model.config)

    def compressed():
        return CompressedDynamicCache(config=opened.model.config, levels=levels)

    def run(kind, cache, number):
        title = f"{scenario.name}: {kind}, round {number + 1} of {rounds}"
        return generate(opened.model, scenario.ids, cache, new_tokens, title)

    runs = {"baseline": [], "compressed": []}
    for number in range(rounds):
        cache = plain()
        runs["baseline"].append(run("baseline", cache, number))
        runs["compressed"].append(run("compressed", compressed(), number))
    baseline = runs["baseline"][-1]
    figures = {
        "name": scenario.name,
        "asked": scenario.asked,
        "prompt_tokens": scenario.ids.shape[1],
        "generated_tokens": new_tokens,
        **{kind: speed(done, opened.tokenizer) for kind, done in runs.items()},
        "free_running": free_running(baseline.new_ids, runs["compressed"][-1].new_ids),
        "cache": sizes(cache),
    }
    figures["compressed"] |= forced(opened.model, scenario, compressed(), baseline)
    figures |= ratios(figures)
    return figures, baseline, cache


def speed(runs, tokenizer):
    def median(name):
        return statistics.median(getattr(run, name) for run in runs)

    return {
        **{name: median(name) for name in ("tokens_per_second", "first_token_seconds")},
        "peak_rss_bytes": int(median("peak_rss_bytes")),
        "runs_tokens_per_second": [run.tokens_per_second for run in runs],
        "text": tokenizer.decode(runs[-1].new_ids),
    }


def free_running(expected, found):
    """How many tokens are the same, place by place, and the first that is not, from 1 on."""
    same = [a == b for a, b in zip(expected, found)]
    different = None if all(same) else same.index(False) + 1
    return {"same_tokens": sum(same), "first_difference": different}


def sizes(cache):
    """Of K and V of all tokens of a plain cache."""
    parts = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    values = sum(part.numel() for part in parts)
    return {"tokens": cache.get_seq_length(), "values": values, "bytes_at_16_bits": 2 * values,
            "bytes": sum(part.nbytes for part in parts)}


def forced(model, scenario, cache, baseline):
    """The baseline's text on the compressed cache: bytes as they grow, loss; then the same of
    what is left when the cache is set aside."""
    count, growth = baseline.new_tokens, []

    def note(tokens):
        if (tokens - scenario.ids.shape[1]) % max(1, count // SAMPLES) == 0:
            growth.append([cache.get_seq_length(), cache.nbytes])

    title = f"{scenario.name}: loss"
    run = generate(model, scenario.ids, cache, count, title, baseline.ids, note)
    in_use = {"bytes": cache.nbytes, "scratch_bytes": cache.scratch_nbytes,
              "tokens_by_level": by_level(cache), **loss(baseline.logits, run.logits).figures()}
    cache.settle()
    at_rest = {"bytes": cache.nbytes, "tokens_by_level": by_level(cache)}
    growth.append([cache.get_seq_length(), cache.nbytes])
    if not cache.uncompressed_layers:  # those with a window cannot go back
        at_rest |= scored_at_rest(model, scenario, cache, baseline)
    return {"in_use": in_use, "at_rest": at_rest, "bytes_by_tokens": growth,
            "uncompressed_layers": cache.uncompressed_layers}


@torch.inference_mode()
def scored_at_rest(model, scenario, cache, baseline):
    """Each token of the baseline's text, on what the cache at rest has of all before it but the last."""
    prompt, logits = scenario.ids.shape[1], []
    for tokens in tqdm(range(prompt, prompt + baseline.new_tokens), leave=False, disable=None,
                       desc=f"{scenario.name}: loss at rest", unit="token"):
        before = copy.deepcopy(cache)
        before.crop(tokens - 1 - cache.get_seq_length())
        last = scenario.ids.new_tensor([[baseline.ids[tokens - 1]]])
        logits.append(model(last, past_key_values=before).logits[0, -1:])
    return loss(baseline.logits, torch.cat(logits)).figures()


def by_level(cache):
    return {"as it came" if level is None else level_name(level): tokens
            for level, tokens in cache.tokens_by_level.items()}


def level_name(level):
    """K's and V's where they differ."""
    return "/".join(map(str, level)) if isinstance(level, tuple) else str(level)


def ratios(figures):
    cache, compressed = figures["cache"], figures["compressed"]
    for state in (compressed["in_use"], compressed["at_rest"]):
        state["bits_per_value"] = 8 * state["bytes"] / cache["values"]
        state["ratio_16_bits"] = cache["bytes_at_16_bits"] / state["bytes"]
        state["ratio_model_dtype"] = cache["bytes"] / state["bytes"]
        state["saved_bytes"] = cache["bytes"] - state["bytes"]
    speeds = [figures[kind]["tokens_per_second"] for kind in ("compressed", "baseline")]
    return {"speedup": speeds[0] / speeds[1]}


def summary(scenarios):
    """As averages over scenarios, and what they save together; of caches at rest."""
    at_rest = [scenario["compressed"]["at_rest"] for scenario in scenarios]
    return {
        "average_speedup": statistics.mean(s["speedup"] for s in scenarios),
        "average_ratio_16_bits": statistics.mean(state["ratio_16_bits"] for state in at_rest),
        "average_ratio_model_dtype": statistics.mean(state["ratio_model_dtype"] for state in at_rest),
        "average_generated_tokens": statistics.mean(s["generated_tokens"] for s in scenarios),
        "saved_bytes": sum(state["saved_bytes"] for state in at_rest),
    }
