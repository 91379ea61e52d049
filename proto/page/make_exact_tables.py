"""The tables of exact pages: exponents' drops, with and without signs, of simulated channels.

A channel is 128 values: Gaussian, some with heavy tails, about a mean or about a wave (K behind RoPE),
some with one outlier. Channels fall into cells by their mean drop and by how many of their signs
differ from the most. Tables and the cells that they serve are fitted to each other (k-means, the distance
being bits).
"""
import itertools

import numpy as np

TOKENS = 128
UNSIGNED, SIGNED = 16, 16
DROPS = 48  # drops beyond are counted as this
FINE_CELLS, COARSE_CELLS, FLIP_CELLS = 48, 16, 16
DROP_CELLS = FINE_CELLS + COARSE_CELLS
ESCAPE_BITS = 12  # what an escape costs, its symbol included
MEANS = (0, 0, 0, 0, .1, .2, .3, .4, .5, .65, .8, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 14, 20)
WAVES = (0, .5, 1, 1.5, 2, 3, 5)
TAILS = (0, .2, .4)
OUTLIERS = (0, 1, 3, 6, 9)  # octaves
SEED, STARTS, ROUNDS = 20240229, 4, 60


def drop_cell(sum_of_drops, tokens):
    """Eighths up to a mean drop of six, then whole ones; as exact.c has it."""
    eighths = 8 * sum_of_drops // tokens
    return np.minimum(np.where(eighths < FINE_CELLS, eighths,
                               FINE_CELLS + (eighths - FINE_CELLS) // 8), DROP_CELLS - 1)


def flip_cell(flips, tokens):
    return np.minimum(2 * FLIP_CELLS * flips // tokens, FLIP_CELLS - 1)


def channels(random, count, mean, wave, tail, outlier):
    speed = np.exp(random.uniform(np.log(.005), 0, (count, 1)))
    turn = random.uniform(0, 2 * np.pi, (count, 1))
    x = random.standard_normal((count, TOKENS)) * np.exp(tail * random.standard_normal((count, TOKENS)))
    x += mean + wave * np.cos(speed * np.arange(TOKENS) + turn)
    x *= 2 ** random.uniform(0, 1, (count, 1))
    if outlier:
        x[:, 0] = (abs(x[:, 0]) + 1) * 2.0**outlier
    return x


def count_cells(cells, x):
    """Adds x's channels to histograms [drop cell, flip cell, flipped, drop]."""
    exponent = np.frexp(x)[1]
    drop, flip = exponent.max(1, keepdims=True) - exponent, x < 0
    most = flip.sum(1, keepdims=True) * 2 > TOKENS
    flip = flip ^ most
    at = drop_cell(drop.sum(1), TOKENS) * FLIP_CELLS + flip_cell(flip.sum(1), TOKENS)
    np.add.at(cells.reshape(-1, 2, DROPS),
              (at[:, None], flip.astype(int), np.minimum(drop, DROPS - 1)), 1)


def simulated_cells():
    random, cells = np.random.default_rng(SEED), np.zeros((DROP_CELLS, FLIP_CELLS, 2, DROPS))
    for mean, wave, tail, outlier in itertools.product(MEANS, WAVES, TAILS, OUTLIERS):
        if wave == 0 or mean <= 6:
            count_cells(cells, channels(random, 20 if outlier else 500, mean, wave, tail, outlier))
    return cells.reshape(-1, 2, DROPS)


def bits(counts):
    """What each (flipped, drop) takes under the distribution of counts; the unlikely is escaped."""
    return np.minimum(-np.log2((counts + .02) / (counts + .02).sum()), ESCAPE_BITS)


def costs(cells, unsigned, signed):
    """Bits of each cell under each table: those of drops alone, a bit more a value for the sign, first."""
    drops = cells.sum(1)
    plain = [drops @ bits(table) + drops.sum(1) for table in unsigned]
    joint = [np.einsum("cfd,fd->c", cells, bits(table)) for table in signed]
    return np.stack(plain + joint, 1)


def refitted(counts, table, number, random, size):
    """The counts of the cells that a table serves; of some other cell if it serves none."""
    mine = table == number
    return counts[mine].sum(0) if mine.any() else counts[random.choice(len(counts), p=size)]


def fit(cells, seed):
    """(bits, table of each cell, drop counts of the unsigned, (flipped, drop) counts of the signed)."""
    random, size, drops = np.random.default_rng(seed), cells.sum((1, 2)), cells.sum(1)
    size = size / size.sum()
    start = random.choice(len(cells), UNSIGNED + SIGNED, replace=False, p=size)
    unsigned, signed = drops[start[:UNSIGNED]], cells[start[UNSIGNED:]]
    for _ in range(ROUNDS):
        table = costs(cells, unsigned, signed).argmin(1)
        unsigned = np.stack([refitted(drops, table, k, random, size) for k in range(UNSIGNED)])
        signed = np.stack([refitted(cells, table, UNSIGNED + k, random, size) for k in range(SIGNED)])
    return costs(cells, unsigned, signed).min(1).sum(), table, unsigned, signed


def in_order(table, unsigned, signed):
    """The tables renumbered by mean drop."""
    def rising(counts):
        total = np.maximum(counts.sum(1), 1)
        return np.argsort((counts * np.arange(DROPS)).sum(1) / total, kind="stable")

    plain, joint = rising(unsigned), rising(signed.sum(1))
    number = np.argsort(np.concatenate([plain, UNSIGNED + joint]))
    return number[table], unsigned[plain], signed[joint]


def spread(table, full):
    """The tables of all cells: where no channel fell, that of the nearest cell that has some."""
    places = np.stack(np.divmod(full, FLIP_CELLS), 1)
    nearest = [((places - cell) ** 2 * (1, 2)).sum(1).argmin()
               for cell in itertools.product(range(DROP_CELLS), range(FLIP_CELLS))]
    return table[nearest].reshape(DROP_CELLS, FLIP_CELLS)


def exact_tables(symbols):
    """(table of each cell [DROP_CELLS][FLIP_CELLS], probabilities of symbols 1.. of each table)."""
    cells = simulated_cells()
    full = np.flatnonzero(cells.sum((1, 2)))
    _, table, unsigned, signed = min((fit(cells[full], seed) for seed in range(STARTS)),
                                     key=lambda f: f[0])
    table, unsigned, signed = in_order(table, unsigned, signed)
    probabilities = []
    for counts in unsigned:
        probabilities.append(counts[:symbols - 1] / counts.sum())
    for counts in signed:  # symbol 1 + 2 * drop + flipped
        probabilities.append(counts.T.ravel()[:symbols - 1] / counts.sum())
    return spread(table, full), [np.concatenate([[0], p]) for p in probabilities]
