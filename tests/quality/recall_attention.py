"""A context of which the tokens after it see only a part, chosen anew by each token and layer."""

import dataclasses

import numpy as np
from models import Cache

SINKS = 4
WINDOW_TOKENS = 256
WINDOW_SHARE_MAX = 0.75  # of a small budget, so that something is left to recall
PREFILL_TOKENS = 1024


@dataclasses.dataclass
class Budget:
    """How many of a context's tokens are seen: sinks, the newest, and so many recalled ones."""

    context: int
    share: float

    @property
    def tokens(self):
        return int(self.share * self.context)

    @property
    def window(self):
        return min(WINDOW_TOKENS, int(self.tokens * WINDOW_SHARE_MAX))

    @property
    def room(self):
        return self.tokens - SINKS - self.window

    @property
    def recallable(self):
        """Tokens that may be recalled: what is neither a sink nor among the newest."""
        return range(SINKS, self.context - self.window)


class Context:
    """A judge's cache that holds a context; what follows it is read any number of times."""

    def __init__(self, judge, ids, capacity):
        self.model, self.ids, self.tokens = judge.model, ids, len(ids)
        self.cache = Cache(self.model, 1, self.tokens + capacity)
        self.cache.tokens = 0
        for first in range(0, self.tokens, PREFILL_TOKENS):
            self.model.forward([ids[first:first + PREFILL_TOKENS]], self.cache)
        self.k, self.v = self.cache.export(0)
        self.cache.store(0, self.k, self.v)  # as float16 holds it

    def keys(self, layer):
        """[tokens, heads, head_dim], as in the cache."""
        return self.k[layer].astype(np.float32)

    def logits(self, ids, attend=None):
        """Of the tokens `ids` after the context."""
        return self.model.logits(self.hidden(ids, attend))

    def hidden(self, ids, attend=None):
        self.cache.tokens = self.tokens
        return self.further(ids, attend)

    def further(self, ids, attend):
        """After all that was read, the context and what followed it."""
        if attend:
            self.model.attend = attend
        try:
            return self.model.forward([ids], self.cache)[0]
        finally:
            vars(self.model).pop("attend", None)

    def answer(self, ids, new_tokens, attend=None):
        """The likeliest tokens after the context and `ids`, one by one."""
        hidden, answer = self.hidden(ids, attend), []
        for _ in range(new_tokens):
            answer.append(int(self.model.logits(hidden[-1]).argmax()))
            hidden = self.further(answer[-1:], attend)
        return answer


def exponents_of(q, k):
    """What attention takes the exponential of: [heads, group, n, tokens seen], -inf in the future."""
    heads, head_dim, seen = k.shape
    n = q.shape[1]
    exponents = (q.reshape(heads, -1, head_dim) @ k).reshape(heads, -1, n, seen)
    future = np.triu(np.ones((n, n), bool), 1)
    exponents[..., seen - n:][..., future] = -np.inf
    return exponents


def softmax(exponents):
    exponents -= exponents.max(-1, keepdims=True)
    np.exp(exponents, out=exponents)
    exponents /= exponents.sum(-1, keepdims=True)
    return exponents


def weighted(shares, v):
    """[query_heads, n, head_dim] of shares [heads, group, n, tokens] and v [heads, tokens, head_dim]."""
    heads, group, n, seen = shares.shape
    return (shares.reshape(heads, group * n, seen) @ v).reshape(heads * group, n, -1)


class Recalling:
    """Attention to sinks, the newest tokens, what `method` recalls, and all that follows the context.

    method.recall(layer, queries, exponents, budget): the tokens of the context it recalls, True in
    [n, context]. Queries [query_heads, n, head_dim] are after RoPE and divided by sqrt(head_dim).
    """

    def __init__(self, method, budget):
        self.method, self.budget = method, budget
        method.begin()

    def __call__(self, layer, q, k, v):
        exponents = exponents_of(q[0], k[0])
        seen = self.seen(layer, q[0], exponents)
        exponents[..., :self.budget.context][..., ~seen] = -np.inf
        return weighted(softmax(exponents), v[0])[None]

    def seen(self, layer, queries, exponents):
        budget = self.budget
        seen = self.method.recall(layer, queries, exponents, budget)
        seen[:, :SINKS] = seen[:, budget.recallable.stop:] = True
        return seen
