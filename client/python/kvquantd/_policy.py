"""How a session is kept, and its translation from and to kvq.h."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

from ._duration import Duration, milliseconds
from ._geometry import Level, level_from_c, level_to_c
from ._kvq import ffi, lib

@dataclasses.dataclass(frozen=True)
class Policy:
    """How a session is kept. What is None is the daemon's default in Client.open(), and stays as it
    is in Session.policy(), which returns everything.

    newest_tokens: so many of the newest are kept at newest_level, no coarser than the session's
    level. floor: the coarsest level that time and pressure lead to, no finer than the session's;
    its level, where a session is opened with one. idle_step: one level coarser for each such time
    without use; ttl: deleted after such a time without use, unless pinned. Both in seconds (a float
    in what is returned) or a timedelta; 0: never. A session is used when it is opened, appended to,
    fetched, forked or truncated.
    """

    newest_tokens: Optional[int] = None
    newest_level: Optional[Level] = None
    floor: Optional[Level] = None
    idle_step: Optional[Duration] = None
    ttl: Optional[Duration] = None


def policy_to_c(policy: Policy) -> Any:
    options = ffi.new("struct kvq_policy_options *")
    options.size = ffi.sizeof("struct kvq_policy_options")
    c = options.policy
    if policy.newest_tokens is not None:
        options.given |= lib.KVQ_POLICY_NEWEST_TOKENS
        c.newest_tokens = policy.newest_tokens
    if policy.newest_level is not None:
        options.given |= lib.KVQ_POLICY_NEWEST_LEVEL
        c.newest_level = level_to_c(policy.newest_level)
    if policy.floor is not None:
        options.given |= lib.KVQ_POLICY_FLOOR
        c.floor = level_to_c(policy.floor)
    if policy.idle_step is not None:
        options.given |= lib.KVQ_POLICY_IDLE_STEP
        c.idle_step_ms = milliseconds(policy.idle_step, "idle_step")
    if policy.ttl is not None:
        options.given |= lib.KVQ_POLICY_TTL
        c.ttl_ms = milliseconds(policy.ttl, "ttl")
    return options


def policy_from_c(c: Any) -> Policy:
    return Policy(
        newest_tokens=c.newest_tokens,
        newest_level=level_from_c(c.newest_level),
        floor=level_from_c(c.floor),
        idle_step=c.idle_step_ms / 1000,
        ttl=c.ttl_ms / 1000,
    )
