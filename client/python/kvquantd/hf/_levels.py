"""Which level a token is kept at, by how many tokens have come after it."""

from __future__ import annotations

from typing import Mapping, Union

from .._geometry import Level, level_from_c, level_to_c

PairOrLevel = Union[Level, tuple[Level, Level]]  # of K and V, or of both
Levels = Mapping[int, PairOrLevel]
Pair = tuple[int, int]
Steps = tuple[tuple[int, Pair], ...]  # (age in tokens, levels of K and V), both ascending


def steps_of(levels: Levels) -> Steps:
    """Raises ValueError where ages or levels cannot be."""
    steps = tuple(sorted((int(age), pair_to_c(given)) for age, given in levels.items()))
    if not steps or steps[0][0] < 0:
        raise ValueError("levels names at least one age in tokens, and none below 0")
    if any(not -2 <= level <= 5 for _, pair in steps for level in pair):
        raise ValueError('a level is "exact", "fast8" or 0 to 5')
    if any(not is_coarser(older[1], younger[1]) for younger, older in zip(steps, steps[1:])):
        raise ValueError("older tokens are kept at coarser levels than younger ones")
    return steps


def is_coarser(pair: Pair, other: Pair) -> bool:
    """In K or in V, and finer in neither."""
    return pair != other and pair[0] >= other[0] and pair[1] >= other[1]


def levels_of(steps: Steps) -> dict[int, PairOrLevel]:
    return {age: pair_from_c(pair) for age, pair in steps}


def pair_to_c(given: PairOrLevel) -> Pair:
    k, v = given if isinstance(given, tuple) else (given, given)
    return int(level_to_c(k)), int(level_to_c(v))


def pair_from_c(pair: Pair) -> PairOrLevel:
    k, v = map(level_from_c, pair)
    return k if k == v else (k, v)


def levels_at(steps: Steps, age: int) -> Pair:
    """Of tokens that are as old as the first step at least."""
    return max((pair for since, pair in steps if since <= age), default=steps[0][1])
