"""Ways to say which tokens of a context the present query attends to."""

import key_summaries
import kvquantd
import numpy as np

SESSION, LEVEL = "recall-bench", 5  # the daemon's summaries do not depend on what is left of the keys


class Method:
    """`block_tokens` tokens are recalled together. Made for one Context."""

    block_tokens = key_summaries.BLOCK_TOKENS

    def begin(self):
        """Before a run of tokens is read."""

    def recall(self, layer, queries, exponents, budget):
        """The best blocks that there is room for."""
        scores = self.scores(layer, queries, exponents)
        size, tokens = self.block_tokens, budget.recallable
        first, end = -(-tokens.start // size), tokens.stop // size
        count = min(budget.room // size, end - first)
        best = np.argpartition(-scores[:, first:end], count - 1, -1)[:, :count] + first
        chosen = np.zeros((len(scores), budget.context // size), bool)
        np.put_along_axis(chosen, best, True, -1)
        recalled = np.zeros((len(scores), budget.context), bool)
        recalled[:, :chosen.shape[1] * size] = chosen.repeat(size, -1)
        return recalled


class Recency(Method):
    """The newest tokens, more of them, and nothing else."""

    name = "recency only"

    def __init__(self, context):
        pass

    def recall(self, layer, queries, exponents, budget):
        recalled = np.zeros((queries.shape[1], budget.context), bool)
        recalled[:, budget.context - budget.window - budget.room:] = True
        return recalled


class Oracle(Method):
    """The blocks with most of the true attention of the layer's heads at this very step."""

    def __init__(self, context, block_tokens=Method.block_tokens):
        self.tokens, self.block_tokens = context.tokens, block_tokens
        self.name = f"oracle, {block_tokens} tokens"

    def scores(self, layer, queries, exponents):
        shares = np.exp(exponents - exponents.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        blocks = self.tokens // self.block_tokens
        within = shares[..., :blocks * self.block_tokens].sum((0, 1))
        return within.reshape(len(within), blocks, -1).sum(-1)


class KeySummaries(Method):
    """What the daemon keeps of a session's keys, and finds by them: its own answers."""

    name = "key summaries"

    def __init__(self, context, client, judge):
        try:
            client.delete(SESSION)
        except kvquantd.Miss:
            pass
        self.session = client.open(SESSION, model=judge.name, geometry=judge.geometry, level=LEVEL,
                                   key_summaries=True, new=True)
        self.session.append(context.k, context.v, settle=True)
        self.bits = self.session.info()["bits_per_value"]

    def recall(self, layer, queries, exponents, budget):
        recalled = np.zeros((queries.shape[1], budget.context), bool)
        blocks = budget.room // self.block_tokens
        if blocks == 0:
            return recalled
        asked = queries.swapaxes(0, 1) * np.float32(queries.shape[-1] ** 0.5)
        for seen, query in zip(recalled, asked):
            (found,) = self.session.recall(queries=query[None], k=blocks, layers=layer,
                                           tokens=budget.recallable)
            for tokens in found.ranges:
                seen[tokens.start:tokens.stop] = True
        return recalled


class MeanKeys(Method):
    """What the daemon's summaries are of, uncoded."""

    name = "mean keys of 4 tokens, uncoded"

    def __init__(self, context):
        self.means = [key_summaries.block_means(context.keys(layer))
                      for layer in range(len(context.k))]

    def scores(self, layer, queries, exponents):
        return key_summaries.estimate(queries, self.means[layer])


class LeastAndLargest(Method):
    """Quest's summaries of 16 tokens, uncoded, for a layer instead of a head."""

    name, block_tokens = "least and largest, 16 tokens", 16

    def __init__(self, context):
        self.bounds = [key_summaries.bounds(context.keys(layer), self.block_tokens)
                       for layer in range(len(context.k))]

    def scores(self, layer, queries, exponents):
        return key_summaries.upper_bound(queries, *self.bounds[layer])


class StepBefore(Method):
    """Another method, asked with the query of the token before: all layers can be asked at once."""

    def __init__(self, method):
        self.method, self.name = method, f"{method.name}, query of the step before"

    def begin(self):
        self.method.begin()
        self.last = {}

    def recall(self, layer, queries, exponents, budget):
        before = np.concatenate([self.last.get(layer, queries[:, :1]), queries[:, :-1]], 1)
        self.last[layer] = queries[:, -1:]
        return self.method.recall(layer, before, exponents, budget)


class Embeddings(Method):
    """The text of every 64 tokens against that of the newest 64; one choice for all layers."""

    name, block_tokens, query_tokens = "embeddings, 64 tokens", 64, 64

    def __init__(self, context, embed, text_of, following):
        size = self.block_tokens
        ids = context.ids + following
        self.vectors = embed([text_of(context.ids[first:first + size])
                              for first in range(0, context.tokens - size + 1, size)])
        self.queries = embed([text_of(ids[end - self.query_tokens:end])
                              for end in range(context.tokens + 1, len(ids) + 1)])
        self.next = {}

    def begin(self):
        self.next = {}

    def scores(self, layer, queries, exponents):
        first = self.next.get(layer, 0)
        self.next[layer] = end = first + queries.shape[1]
        known = np.minimum(np.arange(first, end), len(self.queries) - 1)
        return self.queries[known] @ self.vectors.T
