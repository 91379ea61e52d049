"""Embeddings of token ranges: giving them, and finding the ranges nearest to a query."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from ._calls import Call, options_of, structure, text
from ._duration import Duration, milliseconds
from ._geometry import DTYPE_NAMES, DTYPES, Level, geometry_from_c, level_from_c
from ._kvq import ffi, lib
from ._values import numpy_dtype

Range = Union[range, Tuple[int, int]]

_METRICS = {"cosine": lib.KVQ_COSINE, "inner": lib.KVQ_INNER_PRODUCT}
_DTYPES = {"float32": lib.KVQ_F32, "float16": lib.KVQ_F16}


def metric_to_c(metric: str) -> int:
    if metric not in _METRICS:
        raise ValueError(f'metric is "cosine" or "inner", not {metric!r}')
    return int(_METRICS[metric])


def ends(tokens: Range) -> tuple[int, int]:
    if isinstance(tokens, range):
        if tokens.step != 1:
            raise ValueError(f"{tokens!r} leaves tokens out")
        first, end = tokens.start, tokens.stop
    else:
        first, end = tokens
    if not 0 <= first < end:
        raise ValueError(f"tokens {first} to {end} are no range")
    return int(first), int(end)


def _vectors(embeddings: Any) -> Any:
    """[n, dim] in float32 or float16, side by side."""
    array = np.asarray(embeddings)
    if array.dtype.name not in _DTYPES:
        array = array.astype(np.float32)
    if array.ndim != 2:
        raise ValueError(f"embeddings has shape {list(array.shape)}, not [n, dim]")
    return np.ascontiguousarray(array)


def _of_each(values: Optional[Sequence[Any]], count: int, what: str) -> Sequence[Any]:
    if values is None:
        return [None] * count
    if len(values) != count:
        raise ValueError(f"{what} has {len(values)} items for {count} embeddings")
    return values


def _metadata(value: Any) -> bytes:
    if value is None:
        return b""
    return value.encode() if isinstance(value, str) else bytes(value)


def index(
    state: Any,
    embeddings: Any,
    ranges: Sequence[Range],
    labels: Optional[Sequence[Optional[str]]],
    metadata: Optional[Sequence[Any]],
    metric: str,
    if_version: Optional[int],
) -> Call[int]:
    vectors = _vectors(embeddings)
    count = len(vectors)
    if len(ranges) != count:
        raise ValueError(f"ranges has {len(ranges)} items for {count} embeddings")
    options, result = options_of("kvq_index_options"), structure("kvq_index_result")
    entries = ffi.new("struct kvq_entry[]", count)
    kept: list[Any] = [state, vectors, entries]
    rows = zip(ranges, _of_each(labels, count, "labels"), _of_each(metadata, count, "metadata"))
    for entry, (tokens, label, data) in zip(entries, rows):
        first, end = ends(tokens)
        entry.first, entry.tokens = first, end - first
        encoded = _metadata(data)
        kept += [ffi.NULL if not label else text(label), ffi.from_buffer(encoded)]
        entry.label, entry.metadata = kept[-2], kept[-1]
        entry.metadata_bytes = len(encoded)
    options.dim = vectors.shape[1]
    options.dtype = _DTYPES[vectors.dtype.name]
    options.metric = metric_to_c(metric)
    options.entries, options.count = entries, count
    options.vectors = ffi.cast("void *", vectors.ctypes.data)
    options.if_version = if_version or 0
    arguments = (state.session, options, result)
    return Call(lib.kvq_index, arguments, lambda: int(result.changed), kept)


def unindex(
    state: Any,
    labels: Optional[Sequence[str]],
    tokens: Optional[Range],
    if_version: Optional[int],
) -> Call[int]:
    if labels is not None and tokens is not None:
        raise ValueError("entries are deleted by labels or by tokens, not by both")
    options, result = options_of("kvq_unindex_options"), structure("kvq_index_result")
    kept: list[Any] = [state]
    if labels is not None:
        if isinstance(labels, str) or not all(labels):
            raise ValueError("labels is a list of labels, none of them empty")
        if len(labels) == 0:
            return Call(lib.kvq_find, (state.session, structure("kvq_session_state")), lambda: 0, kept)
        kept += [text(label) for label in labels]
        options.labels = names = ffi.new("char *[]", kept[1:])
        options.label_count = len(labels)
        kept.append(names)
    if tokens is not None:
        options.first, options.end = ends(tokens)
    options.if_version = if_version or 0
    arguments = (state.session, options, result)
    return Call(lib.kvq_unindex, arguments, lambda: int(result.changed), kept)


# ---- Recall ----


@dataclasses.dataclass(frozen=True)
class Hit:
    """A range of a session's tokens that a query has found."""

    session: str
    tokens: range
    score: float  # the higher, the nearer: of cosine the angle's, of inner the product
    label: str  # "": none
    metadata: bytes
    level: Level  # the coarsest that its tokens are kept at
    bytes: int  # its share of what the session takes
    age: float  # seconds since it was put
    version: int  # of the session
    k: Any = dataclasses.field(default=None, repr=False)  # [layers, tokens, heads, head_dim]
    v: Any = dataclasses.field(default=None, repr=False)


class Recalled(List[Hit]):
    """Hits, best first. With fetch: k and v of all of them, one behind the other, [layers, tokens,
    heads, head_dim]; a hit whose session changed on the way has None for its k, and what stands in
    its place here is undefined."""

    k: Any = None
    v: Any = None


def _names(kept: list[Any], sessions: Optional[Sequence[str]]) -> tuple[Any, int]:
    if sessions is None:
        return ffi.NULL, 0
    if len(sessions) == 0:
        raise ValueError("sessions: there are none; None means all of the model")
    names = [text(name) for name in sessions]
    array = ffi.new("char *[]", names)
    kept += [names, array]
    return array, len(names)


def _text(pointer: Any) -> str:
    return str(ffi.string(pointer).decode(errors="replace"))


def _values(found: Any, address: Any, head_dim: int) -> Optional[Any]:
    """A copy: the library's memory ends with the client's next call."""
    if address == ffi.NULL or head_dim == 0:
        return None
    geometry = geometry_from_c(found.geometry)
    dtype = numpy_dtype(DTYPE_NAMES[found.dtype])
    shape = (found.layers, found.tokens, geometry.heads, head_dim)
    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(bytearray(ffi.buffer(address, count)), dtype).reshape(shape)


def _hits(found: Any, recalled: Recalled) -> Iterator[Hit]:
    at = 0
    for row in (found.hits[i] for i in range(found.count)):
        end = at + row.tokens
        has = recalled.k is not None and row.fetched
        yield Hit(
            session=_text(row.session),
            tokens=range(row.first, row.first + row.tokens),
            score=row.score,
            label=_text(row.label),
            metadata=bytes(ffi.buffer(row.metadata, row.metadata_bytes)) if row.metadata_bytes else b"",
            level=level_from_c(row.level),
            bytes=row.bytes,
            age=row.age_ms / 1000,
            version=row.version,
            k=recalled.k[:, at:end] if has else None,
            v=recalled.v[:, at:end] if has and recalled.v is not None else None,
        )
        at = end


DEFAULTS: dict[str, Any] = {
    "sessions": None,
    "model": None,
    "metric": "cosine",
    "min_score": None,
    "label": None,
    "tokens": None,
    "newer_than": None,
    "merge": False,
    "fetch": False,
    "dtype": None,
    "layers": None,
}


def recall(
    query: Any,
    k: int,
    *,
    sessions: Optional[Sequence[str]],
    model: Optional[str],
    metric: str,
    min_score: Optional[float],
    label: Optional[str],
    tokens: Optional[Range],
    newer_than: Optional[Duration],
    merge: bool,
    fetch: bool,
    dtype: Optional[str],
    layers: Optional[range],
) -> Call[Recalled]:
    vector = np.ascontiguousarray(np.asarray(query), dtype=np.float32)
    if vector.ndim != 1:
        raise ValueError(f"query has shape {list(vector.shape)}, not [dim]")
    if not 0 <= k < 1 << 32:
        raise ValueError(f"k is a number of ranges, not {k}")
    options, found = options_of("kvq_recall_options"), structure("kvq_recalled")
    kept: list[Any] = [vector]
    options.sessions, options.session_count = _names(kept, sessions)
    for field, given in (("model", model), ("label", label)):
        if given:
            kept.append(text(given))
            setattr(options, field, kept[-1])
    options.query = ffi.cast("float *", vector.ctypes.data)
    options.dim, options.metric, options.k = len(vector), metric_to_c(metric), k
    if min_score is not None:
        options.has_min_score, options.min_score = True, min_score
    if tokens is not None:
        options.first, options.end = ends(tokens)
    if newer_than is not None:
        options.newer_than_ms = max(1, milliseconds(newer_than, "newer_than"))
    options.merge, options.fetch = merge, fetch
    if dtype is not None:
        options.dtype = DTYPES[dtype]
    if layers is not None:
        options.first_layer, options.end_layer = ends(layers)

    def learn() -> Recalled:
        recalled = Recalled()
        recalled.k = _values(found, found.k, found.geometry.head_dim_k)
        recalled.v = _values(found, found.v, found.geometry.head_dim_v)
        recalled.extend(_hits(found, recalled))
        return recalled

    return Call(lib.kvq_recall, (options, found), learn, kept)
