"""What a model makes of the tokens that follow a context, on a KV cache that came back."""

import numpy as np
from samples import Sample

BLOCK_TOKENS = 32  # of float64 logits at a time


class Continuation:
    """The tokens after a context; what the model says of them on its own 16-bit cache, `k` and `v`."""

    def __init__(self, model, text, ids, k, v):
        self.model, self.text, self.k, self.v = model, text, k, v
        self.scored, self.following = ids[:-1], np.array(ids[1:])
        self.own_logits = model.logits(k, v, self.scored)

    def sample(self, row, stored_bytes, k, v):
        error, energy = zip(*(squares(*pair) for pair in ((self.k, k), (self.v, v))))
        return Sample(row, self.text, self.k.shape[1], stored_bytes, self.k.size + self.v.size,
                      np.array(error), np.array(energy),
                      *self.compare(self.model.logits(k, v, self.scored)))

    def noise(self, row):
        """The own cache once more, the tokens in two runs of other lengths: other shapes of matrix
        products, which a model's arithmetic answers with other roundings."""
        cut = len(self.scored) // 3
        logits = self.model.logits_in_runs(self.k, self.v, [self.scored[:cut], self.scored[cut:]])
        nothing = np.zeros(2)
        energy = [squares(part, part)[1] for part in (self.k, self.v)]
        return Sample(row, self.text, self.k.shape[1], self.k.nbytes + self.v.nbytes,
                      self.k.size + self.v.size, nothing, np.array(energy), *self.compare(logits))

    def compare(self, logits):
        return compare(self.own_logits, logits, self.following)


def compare(own_logits, logits, following):
    """Divergence, loss and same top token of each scored token."""
    parts = []
    for first in range(0, len(logits), BLOCK_TOKENS):
        block = slice(first, first + BLOCK_TOKENS)
        own, other = log_softmax(own_logits[block]), log_softmax(logits[block])
        lost = np.take_along_axis(own - other, following[block, None], -1)[:, 0]
        parts.append(((np.exp(own) * (own - other)).sum(-1), lost,
                      own.argmax(-1) == other.argmax(-1)))
    return [np.concatenate(part) for part in zip(*parts)]


def log_softmax(logits):
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def squares(given, restored):
    """The sums of squared errors and of squares, a layer at a time."""
    error = energy = 0.0
    for x, y in zip(given, restored):
        x, y = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
        difference = x - y
        error, energy = error + difference @ difference, energy + x @ x
    return error, energy
