"""Reports as dictionaries with the keys of `kvq ... --json`."""

from __future__ import annotations

import math
from typing import Any, Optional

from ._geometry import PAIRING_NAMES, geometry_from_c, level_from_c
from ._kvq import ffi, lib

_PLACES = {lib.KVQ_PLACE_TAIL: "tail", lib.KVQ_PLACE_SINKS: "sinks"}


def _text(pointer: Any) -> str:
    return ffi.string(pointer).decode(errors="replace")


def _finite(number: float) -> Optional[float]:
    return number if math.isfinite(number) else None


def _geometry(c: Any) -> dict[str, Any]:
    geometry = geometry_from_c(c)
    rope: dict[str, Any] = {"pairing": PAIRING_NAMES[c.rope.pairing]}
    if geometry.rope:
        rope.update(theta=c.rope.theta, dims=c.rope.dims, scaling=geometry.rope.scaling)
    return {
        "layers": c.layers,
        "heads": c.heads,
        "head_dim_k": c.head_dim_k,
        "head_dim_v": c.head_dim_v,
        "dtype": geometry.dtype,
        "rope": rope,
    }


def _level(c: Any) -> dict[str, Any]:
    return {
        "level": _PLACES.get(c.place, level_from_c(c.level)),
        "tokens": c.tokens,
        "bytes": c.bytes,
    }


def session_info(c: Any) -> dict[str, Any]:
    report = {
        "session": _text(c.session),
        "model": _text(c.model),
        "id": c.id,
        "version": c.version,
        "level": level_from_c(c.level),
        "tokens": c.tokens,
        "tokens_available": c.tokens_available,
        "tail_tokens": c.tail_tokens,
        "logical_bytes": c.logical_bytes,
        "stored_bytes": c.stored_bytes,
        "unique_bytes": c.unique_bytes,
        "ratio": _finite(c.ratio),
        "ratio_input": _finite(c.ratio_input),
        "bits_per_value": _finite(c.bits_per_value),
        "snr_k_db": _finite(c.snr_k_db),
        "snr_v_db": _finite(c.snr_v_db),
        "estimated": bool(c.k.estimated or c.v.estimated),
        "geometry": _geometry(c.geometry),
    }
    if c.levels != ffi.NULL:
        report["levels"] = [_level(c.levels[i]) for i in range(c.level_count)]
    return report


def status(c: Any) -> dict[str, Any]:
    operations = [c.operations[i] for i in range(c.operation_count)]
    return {
        "version": _text(c.version),
        "pid": c.pid,
        "uptime_seconds": c.uptime_seconds,
        "sockets": [_text(c.sockets[i]) for i in range(c.socket_count)],
        "connections": c.connections,
        "memory": {
            "limit_bytes": c.limit_bytes,
            "used_bytes": c.used_bytes,
            "rss_bytes": c.rss_bytes,
        },
        "sessions": c.sessions,
        "tokens": c.tokens,
        "stored_bytes": c.stored_bytes,
        "ratio": c.bytes_16bit / c.stored_bytes if c.stored_bytes else None,
        "requests": {_text(o.operation): o.requests for o in operations},
        "errors": {_text(o.operation): o.errors for o in operations},
    }
