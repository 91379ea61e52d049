"""Token ids, what stands behind them, and what a match finds by them."""

from __future__ import annotations

from typing import Any, Iterable, NamedTuple, Optional, Sequence

import numpy as np

from ._geometry import Level, level_from_c
from ._kvq import ffi, lib

SHARING = {None: "NOTHING", "ids": "IDS", "bytes": "BYTES"}


class Salt(NamedTuple):
    """What stands behind the ids of some tokens that do not say it: an image's or an audio's hash,
    an adapter's name; at most 64 bytes. first counts from the session's start."""

    first: int
    tokens: int
    salt: bytes


class Match(tuple[str, int]):
    """The pair (session, tokens): a session's name, and how many of its first tokens agree.

    version: the session's, for if_version of a fork. session_tokens: how long it is. level: its level.
    """

    version: int
    session_tokens: int
    level: Level

    def __new__(cls, c: Any) -> Match:
        match = super().__new__(cls, (ffi.string(c.session).decode(), c.tokens))
        match.version, match.session_tokens = c.version, c.session_tokens
        match.level = level_from_c(c.level)
        return match


def sharing_to_c(sharing: Optional[str]) -> int:
    if sharing not in SHARING:
        raise ValueError(f"sharing is None, 'ids' or 'bytes', not {sharing!r}")
    return int(getattr(lib, f"KVQ_SHARE_{SHARING[sharing]}"))


def ids_to_c(token_ids: Sequence[int]) -> tuple[Any, int, Any]:
    """(pointer, count, what keeps them alive); those of 32 bits stay where they are."""
    ids = np.asarray(token_ids)
    if ids.size == 0:
        ids = ids.astype(np.uint32)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError("token_ids are integers, one for each token")
    if ids.size and (ids.min() < 0 or ids.max() > 2**32 - 1):
        raise ValueError("a token id is 0 to 4294967295")
    ids = np.ascontiguousarray(ids, np.uint32)
    held = ffi.from_buffer("uint32_t[]", ids, require_writable=False)
    return held, ids.size, (ids, held)


def salts_to_c(salts: Optional[Iterable[tuple[int, int, bytes]]]) -> tuple[Any, int, Any]:
    """(array, count, what keeps it alive)."""
    given = [Salt(*salt) for salt in salts or ()]
    texts = [ffi.new("char[]", bytes(salt.salt)) for salt in given]
    c = ffi.new("struct kvq_salt[]", len(given))
    for target, salt, text in zip(c, given, texts):
        target.first, target.tokens = salt.first, salt.tokens
        target.bytes, target.byte_count = text, len(salt.salt)
    return c, len(given), (c, texts)
