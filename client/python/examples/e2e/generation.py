"""Greedy generation on a cache: how long each token takes, and what the model said of it."""

import ctypes
import dataclasses
import pathlib
import time

import torch
from tqdm import tqdm
from transformers import (LogitsProcessor, LogitsProcessorList, StoppingCriteria,
                          StoppingCriteriaList)

PROCESS = pathlib.Path("/proc/self")
BLOCK_TOKENS = 32  # of float64 logits at a time


class Watch(StoppingCriteria):
    """Called after each token: notes the time, and calls `each` with the number of tokens."""

    def __init__(self, title, tokens, each=None):
        self.seconds, self.each = [], each
        self.bar = tqdm(total=tokens, desc=title, unit="token", leave=False, disable=None)
        self.start = time.perf_counter()

    def __call__(self, input_ids, scores, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)
        self.bar.update()
        if self.each:
            self.each(input_ids.shape[1])
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


class Forced(LogitsProcessor):
    """Lets the model say the tokens of a given sequence, whatever it would have chosen."""

    def __init__(self, ids):
        self.ids = ids

    def __call__(self, input_ids, scores):
        chosen = torch.full_like(scores, -torch.inf)
        chosen[:, self.ids[input_ids.shape[1]]] = 0
        return chosen


@dataclasses.dataclass
class Run:
    ids: list  # with the prompt's
    new_tokens: int
    logits: torch.Tensor  # [new tokens, vocabulary], as the model gave them
    first_token_seconds: float
    tokens_per_second: float  # after the first token
    peak_rss_bytes: int

    @property
    def new_ids(self):
        return self.ids[-self.new_tokens:]


@torch.inference_mode()
def generate(model, ids, cache, new_tokens, title, forced=None, each=None):
    """`new_tokens` greedy tokens after ids [1, tokens], of which the cache may hold all but the last.
    None of them is the end of the text, so that every run does the same work."""
    begin_peak()
    watch = Watch(title, new_tokens, each)
    done = model.generate(
        ids, attention_mask=torch.ones_like(ids), past_key_values=cache, do_sample=False,
        max_new_tokens=new_tokens, min_new_tokens=new_tokens, pad_token_id=0,
        stopping_criteria=StoppingCriteriaList([watch]),
        logits_processor=LogitsProcessorList([Forced(forced)] if forced else []),
        output_logits=True, return_dict_in_generate=True)
    watch.bar.close()
    first, last = watch.seconds[0], watch.seconds[-1]
    return Run(done.sequences[0].tolist(), new_tokens, torch.cat(done.logits), first,
               (new_tokens - 1) / (last - first), peak_bytes())


def begin_peak():
    """From here on the peak of RSS counts anew; memory that is free goes back first."""
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        pass  # the peak is then that of the process so far


def peak_bytes():
    line = next(line for line in (PROCESS / "status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) * 1024


@dataclasses.dataclass
class Loss:
    """Of each token, against what the model said on its own cache: the divergence in nats, and
    whether the likeliest token is the same."""

    kld: torch.Tensor
    same: torch.Tensor

    def figures(self):
        return {"tokens": len(self.kld), "kld_mean": float(self.kld.mean()),
                "kld_median": float(self.kld.median()), "kld_max": float(self.kld.max()),
                "agreement": float(self.same.double().mean())}


def loss(expected, found):
    """Of logits [tokens, vocabulary]."""
    kld = []
    for own, other in zip(expected.split(BLOCK_TOKENS), found.split(BLOCK_TOKENS)):
        own, other = own.double().log_softmax(-1), other.double().log_softmax(-1)
        kld.append((own.exp() * (own - other)).sum(-1))
    return Loss(torch.cat(kld), expected.argmax(-1) == found.argmax(-1))
