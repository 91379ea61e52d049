"""Which level a token is kept at, by how many tokens have come after it."""

from __future__ import annotations

from typing import Mapping

from .._geometry import Level, level_from_c, level_to_c

Levels = Mapping[int, Level]
Steps = tuple[tuple[int, int], ...]  # (age in tokens, level), both ascending


def steps_of(levels: Levels) -> Steps:
    """Raises ValueError where ages or levels cannot be."""
    steps = tuple(sorted((int(age), int(level_to_c(level))) for age, level in levels.items()))
    if not steps or steps[0][0] < 0:
        raise ValueError("levels names at least one age in tokens, and none below 0")
    if any(not -2 <= level <= 5 for _, level in steps):
        raise ValueError('a level is "exact", "fast8" or 0 to 5')
    if any(older[1] <= younger[1] for younger, older in zip(steps, steps[1:])):
        raise ValueError("older tokens are kept at coarser levels than younger ones")
    return steps


def levels_of(steps: Steps) -> dict[int, Level]:
    return {age: level_from_c(level) for age, level in steps}


def level_at(steps: Steps, age: int) -> int:
    """Of tokens that are as old as the first step at least."""
    return max((level for since, level in steps if since <= age), default=steps[0][1])
