"""Forgetting at equal bytes: tokens dropped, all at one level, or what is recalled finer than the rest."""

import types

import numpy as np
from continuation import compare
from recall_attention import Budget, Recalling, exponents_of, softmax, weighted
from recall_methods import LEVEL

CHUNK_TOKENS = 128
FINE = 2
OFTEN_SHARE = 0.25  # of the chunks stay fine


class Coded:
    """A context's K and V as a level leaves them, and the bits a value it takes."""

    def __init__(self, client, judge, context, level):
        session = client.open("levels", model=judge.name, geometry=judge.geometry, level=level,
                              new=True)
        session.append(context.k, context.v, settle=True)
        self.k, self.v = session.fetch()
        self.level, self.bits = level, session.info()["bits_per_value"]
        session.delete()


def coded_at_levels(client, judge, context, coarse):
    return {level: Coded(client, judge, context, level)
            for level in {FINE, FINE + 1, LEVEL, *coarse}}


class CoarseRest(Recalling):
    """Nothing is dropped: what is not seen at the level of the context's cache is at a coarser one."""

    def __init__(self, method, budget, coarse):
        super().__init__(method, budget)
        self.k = np.ascontiguousarray(coarse.k.transpose(0, 2, 3, 1), np.float32)
        self.v = np.ascontiguousarray(coarse.v.swapaxes(1, 2), np.float32)

    def __call__(self, layer, q, k, v):
        tokens = self.budget.context
        exponents = exponents_of(q[0], k[0])
        seen = self.seen(layer, q[0], exponents)
        heads, group, n, _ = exponents.shape
        coarse = q[0].reshape(heads, group * n, -1) @ self.k[layer]
        np.copyto(exponents[..., :tokens], coarse.reshape(heads, group, n, tokens), where=~seen)
        shares = softmax(exponents)
        out = weighted(shares, v[0])
        shares[..., :tokens][..., seen] = 0
        out += weighted(shares[..., :tokens], self.v[layer] - v[0][:, :tokens])
        return out[None]


class Levels:
    """The rows for one reading of a context."""

    def __init__(self, coded, context, reading, method, coarse, shares):
        self.context, self.method, self.reading = context, method, reading
        self.coarse, self.shares = coarse, shares
        self.scored, self.following = reading.following[:-1], np.array(reading.following[1:])
        self.own = context.logits(self.scored)
        self.coded = coded
        self.summary_bits = method.bits - coded[LEVEL].bits

    def kld(self, logits, first=0):
        part = slice(first, None)
        return compare(self.own[part], logits[part], self.following[part])[0]

    def row(self, name, bits, divergence):
        return {"way": name, "reading": self.reading.name, "context_tokens": self.context.tokens,
                "bits_per_value": bits, "divergence": divergence}

    def store(self, coded):
        self.context.cache.store(0, coded.k, coded.v)

    def rows(self):
        for level in sorted(self.coded):
            self.store(self.coded[level])
            yield self.row(f"all at level {level}", self.coded[level].bits,
                           self.kld(self.context.logits(self.scored)))
        self.store(self.coded[FINE])
        for coarse in self.coarse:
            for share in self.shares:
                yield from self.dropped_and_coarse(share, self.coded[coarse])
        yield from self.often()
        self.store(types.SimpleNamespace(k=self.context.k, v=self.context.v))

    def dropped_and_coarse(self, share, coarse):
        """The same bytes twice: `share` at the fine level and the rest at a coarse one, or more at the
        fine level and nothing else."""
        fine, context = self.coded[FINE].bits, self.context
        bits = share * fine + (1 - share) * coarse.bits
        budget = Budget(context.tokens, share)
        logits = context.logits(self.scored, CoarseRest(self.method, budget, coarse))
        named = f"{share:.0%} at level {FINE}, the rest at {coarse.level}"
        yield self.row(named, bits + self.summary_bits, self.kld(logits))
        budget = Budget(context.tokens, bits / fine)
        logits = context.logits(self.scored, Recalling(self.method, budget))
        yield self.row(f"as many bytes at level {FINE}, nothing else ({named})", bits + self.summary_bits,
                       self.kld(logits))

    def often(self):
        """Some chunks stay fine, the rest is at the coarsest level: those recalled most often while
        the first half was read, or the newest, as many more of them as summaries take bytes. The
        second half is scored."""
        half, context = len(self.scored) // 2, self.context
        self.store(types.SimpleNamespace(k=context.k, v=context.v))
        counting = Counting(self.method, Budget(context.tokens, self.shares[0]))
        context.logits(self.scored[:half], counting)
        chunks = -(-context.tokens // CHUNK_TOKENS)
        newest = np.arange(chunks)
        often = np.add.reduceat(counting.times, newest * CHUNK_TOKENS).astype(float)
        often[-2:] = np.inf  # the newest in both
        fine, coarse = self.coded[FINE], self.coded[max(self.coarse)]
        shares = OFTEN_SHARE + self.summary_bits / (fine.bits - coarse.bits), OFTEN_SHARE
        for name, order, share, extra in zip(("the newest", "what is recalled often"),
                                             (newest, often), shares, (0, self.summary_bits)):
            kept = round(share * chunks)
            self.store(mixed(fine, coarse, np.argsort(order, kind="stable")[chunks - kept:]))
            bits = (kept * fine.bits + (chunks - kept) * coarse.bits) / chunks
            yield self.row(f"{OFTEN_SHARE:.0%} of the chunks at level {FINE} ({name}), the rest at "
                           f"{coarse.level}", bits + extra,
                           self.kld(context.logits(self.scored), half))


class Counting(Recalling):
    """How often each token was recalled, over layers and steps."""

    times = 0

    def seen(self, layer, queries, exponents):
        seen = super().seen(layer, queries, exponents)
        recallable = np.zeros(seen.shape[1], int)
        recallable[self.budget.recallable] = 1
        self.times = self.times + seen.sum(0) * recallable
        return seen


def mixed(fine, coarse, chunks):
    k, v = coarse.k.copy(), coarse.v.copy()
    for chunk in chunks:
        part = slice(chunk * CHUNK_TOKENS, (chunk + 1) * CHUNK_TOKENS)
        k[:, part], v[:, part] = fine.k[:, part], fine.v[:, part]
    return types.SimpleNamespace(k=k, v=v)


def pooled(rows):
    groups = {}
    for row in rows:
        groups.setdefault((row["context_tokens"], row["way"]), []).append(row)
    return [{"context_tokens": tokens, "way": way,
             "bits_per_value": float(np.mean([row["bits_per_value"] for row in group])),
             "scored_tokens": sum(len(row["divergence"]) for row in group),
             "kld_mean": float(np.concatenate([row["divergence"] for row in group]).mean())}
            for (tokens, way), group in groups.items()]
