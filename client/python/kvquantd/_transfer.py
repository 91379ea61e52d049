"""Append and fetch, ready to be made: ranges, arrays, and what a fetch says of itself."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Optional, Sequence

from . import _report
from ._calls import Call, options_of, structure
from ._duration import Duration, milliseconds
from ._errors import Error, WrongFirst
from ._geometry import DTYPES, Geometry
from ._kvq import ffi, lib
from ._token_ids import ids_to_c, salts_to_c
from ._values import new_values, values_of

_AT_END = 2**64 - 1


class Fetched(tuple[Any, Any]):
    """The pair (k, v), and beside it what the daemon said about it.

    version: the session's, at the fetch. levels: as info() has them, `[{level, tokens}]` of the
    tokens fetched, those of the tail as exact unless it was coded while nobody used the session.
    snr_k_db, snr_v_db: the signal-to-noise ratio of the coded pages that the range touches, against
    what was appended; None where nothing was lost. Of 8-bit dtypes it is that of the values before
    they are rounded to 8 bits again.
    estimated: they were coded anew since that was measured.
    """

    version: int
    levels: list[dict[str, Any]]
    snr_k_db: Optional[float]
    snr_v_db: Optional[float]
    estimated: bool

    def __new__(cls, k: Any, v: Any, report: dict[str, Any]) -> Fetched:
        fetched = super().__new__(cls, (k, v))
        fetched.__dict__.update(report)
        return fetched

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (*self, self.__dict__)  # it is copied and pickled as any pair is


def source_of(geometry: Geometry, k: Any, v: Any, c: Any) -> tuple[int, list[Any]]:
    """Fills k and v of c; returns how many tokens they have, and what must stay alive with it."""
    k_values = values_of(k, geometry, geometry.layers, geometry.head_dim, "k")
    kept = [k_values, k_values.fill(c.k)]
    if geometry.head_dim_v and v is None:
        raise ValueError("v is missing")
    if geometry.head_dim_v:
        v_values = values_of(v, geometry, geometry.layers, geometry.head_dim_v, "v")
        if v_values.tokens != k_values.tokens:
            raise ValueError(f"k has {k_values.tokens} tokens, v {v_values.tokens}")
        kept += [v_values, v_values.fill(c.v)]
    elif v is not None:
        raise ValueError("the geometry has no V")
    return k_values.tokens, kept


def append(
    state: Any,
    geometry: Geometry,
    k: Any,
    v: Any,
    first: Optional[int],
    token_ids: Optional[Sequence[int]],
    salts: Optional[Iterable[tuple[int, int, bytes]]],
    settle: bool,
) -> Optional[Call[int]]:
    """None: there is nothing to append."""
    options = options_of("kvq_append_options")
    count, kept = source_of(geometry, k, v, options)
    if token_ids is not None and len(token_ids) != count:
        raise ValueError(f"{len(token_ids)} token_ids for {count} tokens")
    if count == 0:
        return None
    options.first = _AT_END if first is None else first
    options.tokens = count
    options.settle = settle
    if token_ids is not None:
        options.token_ids, _, ids = ids_to_c(token_ids)
        options.salts, options.salt_count, held = salts_to_c(salts)
        kept += [ids, held]
    elif salts:
        raise ValueError("salts go with token_ids")

    def explain(error: Error) -> None:
        if isinstance(error, WrongFirst):
            error.tokens = state.tokens

    return Call(lib.kvq_append, (state, options), lambda: int(state.tokens), kept, explain)


def _check_range(given: range, what: str) -> None:
    if given.step != 1 or given.start < 0 or given.stop < given.start:
        raise ValueError(f"{what} is no plain range: {given}")


def _fill_target(
    geometry: Geometry, out: Any, layers: int, tokens: int, head_dim: int, what: str, c: Any
) -> Any:
    """Fills c, a struct kvq_target; returns what must stay alive while it is used."""
    if out is None:
        return None
    values = values_of(out, geometry, layers, head_dim, f"out {what}", writable=True)
    if values.tokens != tokens:
        raise ValueError(f"out {what} has room for {values.tokens} tokens, not {tokens}")
    return values, values.fill(c)


def fetch(
    state: Any,
    geometry: Geometry,
    tokens: range,
    layers: Optional[range],
    out: Optional[tuple[Any, Any]],
    dtype: Optional[str],
    if_version: Optional[int],
    within: Optional[Duration],
) -> Call[Fetched]:
    layers = range(0, geometry.layers) if layers is None else layers
    geometry = dataclasses.replace(geometry, dtype=dtype or geometry.dtype)
    _check_range(tokens, "tokens")
    _check_range(layers, "layers")
    shape, dims = (len(layers), len(tokens)), (geometry.head_dim, geometry.head_dim_v or 0)
    if out is None:
        out_k, out_v = (new_values(geometry, *shape, dim) for dim in dims)
    else:
        out_k, out_v = out
    result = structure("kvq_fetch_result")

    def fetched() -> Fetched:
        return Fetched(out_k, out_v, _report.fetched(result))

    if len(tokens) == 0 or len(layers) == 0:
        result.version = state.version
        return Call(_nothing_to_ask, (), fetched)
    options = options_of("kvq_fetch_options")
    options.first, options.end = tokens.start, tokens.stop
    options.first_layer, options.end_layer = layers.start, layers.stop
    options.dtype = DTYPES[geometry.dtype]
    options.if_version = if_version or 0
    if within is not None:
        options.within_ms = max(1, milliseconds(within, "within"))
    kept = [
        _fill_target(geometry, out_k, *shape, dims[0], "k", options.k),
        _fill_target(geometry, out_v, *shape, dims[1], "v", options.v),
    ]
    return Call(lib.kvq_fetch, (state, options, result), fetched, kept)


def _nothing_to_ask(client: Any) -> int:
    """An empty range is answered without the daemon."""
    return 0
