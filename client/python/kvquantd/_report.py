"""Reports as dictionaries with the keys of `kvq ... --json`."""

from __future__ import annotations

import math
from typing import Any, Optional

from ._geometry import PAIRING_NAMES, geometry_from_c, level_from_c
from ._kvq import ffi, lib

_SHARING = {
    lib.KVQ_SHARE_NOTHING: None,
    lib.KVQ_SHARE_IDS: "ids",
    lib.KVQ_SHARE_BYTES: "bytes",
}
_PLACES = {lib.KVQ_PLACE_TAIL: "tail", lib.KVQ_PLACE_SINKS: "sinks"}


def _text(pointer: Any) -> str:
    return str(ffi.string(pointer).decode(errors="replace"))


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


def _levels(rows: Any, count: int) -> list[dict[str, Any]]:
    return [
        {
            "level": _PLACES.get(rows[i].place, level_from_c(rows[i].level)),
            "tokens": rows[i].tokens,
            "bytes": rows[i].bytes,
        }
        for i in range(count)
    ]


def _policy(c: Any) -> dict[str, Any]:
    return {
        "newest_tokens": c.newest_tokens,
        "newest_level": level_from_c(c.newest_level),
        "floor": level_from_c(c.floor),
        "idle_step_ms": c.idle_step_ms,
        "ttl_ms": c.ttl_ms,
    }


def session_info(c: Any) -> dict[str, Any]:
    report: dict[str, Any] = {
        "session": _text(c.session),
        "model": _text(c.model),
        "tenant": _text(c.tenant),
        "id": c.id,
        "version": c.version,
        "level": level_from_c(c.level),
        "min_snr_db": c.min_snr_db or None,
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
        "age_ms": c.age_ms,
        "idle_ms": c.idle_ms,
        "pinned_ms": c.pinned_ms,
        "estimated": bool(c.k.estimated or c.v.estimated),
        "policy": _policy(c.policy),
        "sharing": _SHARING[c.sharing],
        "token_ids_tokens": c.token_ids_tokens,
        "idle_steps": c.idle_steps,
        "tail_coded": bool(c.tail_coded),
        "durability": "disk" if c.durability == lib.KVQ_ON_DISK else "memory",
        "disk_bytes": c.disk_bytes,
        "key_summaries": bool(c.key_summaries),
        "key_summaries_bytes": c.key_summaries_bytes,
        "attachments": {
            "count": c.attachments.count,
            "bytes": c.attachments.bytes,
            "stored_bytes": c.attachments.stored_bytes,
        },
        "embeddings": {
            "entries": c.embeddings.entries,
            "batches": c.embeddings.batches,
            "stored_bytes": c.embeddings.stored_bytes,
        },
        "geometry": _geometry(c.geometry),
    }
    if c.levels != ffi.NULL:
        report["levels"] = _levels(c.levels, c.level_count)
    return report


def attachments(c: Any) -> list[dict[str, Any]]:
    rows = [c.attachments[i] for i in range(c.count)]
    return [
        {
            "name": _text(row.name),
            "bytes": row.bytes,
            "stored_bytes": row.stored_bytes,
            "tokens": row.tokens,
        }
        for row in rows
    ]


def aged(c: Any) -> dict[str, Any]:
    return {
        "level": level_from_c(c.level),
        "stored_bytes_before": c.stored_bytes_before,
        "stored_bytes": c.stored_bytes,
    }


def _snr_db(loss: Any) -> Optional[float]:
    if loss.error <= 0 or loss.energy <= 0:
        return None
    return 10 * math.log10(loss.energy / loss.error)


def fetched(c: Any) -> dict[str, Any]:
    levels = [c.levels[i] for i in range(c.level_count)]
    return {
        "version": c.version,
        "levels": [{"level": level_from_c(row.level), "tokens": row.tokens} for row in levels],
        "snr_k_db": _snr_db(c.k),
        "snr_v_db": _snr_db(c.v),
        "estimated": bool(c.k.estimated or c.v.estimated),
    }


def _memory(c: Any) -> dict[str, int]:
    kinds = ("pages_bytes", "tails_bytes", "sessions_bytes", "fixed_bytes")
    parts = {kind: getattr(c.memory, kind) for kind in kinds}
    return {
        "limit_bytes": c.limit_bytes,
        "used_bytes": c.used_bytes,
        "rss_bytes": c.rss_bytes,
        **parts,
        "buffers_bytes": max(0, c.used_bytes - sum(parts.values())),
        "warm_bytes": c.memory.warm_bytes,
    }


def _operation(c: Any) -> dict[str, Any]:
    return {
        "requests": c.requests,
        "errors": c.errors,
        "total_us": c.total_us,
        "mean_us": c.total_us / c.requests if c.requests else None,
        "max_us": c.max_us,
    }


_TRAFFIC = (
    "appended_tokens",
    "appended_bytes",
    "appends_waiting",
    "fetched_tokens",
    "fetched_bytes",
    "fetch_hits",
    "fetch_misses",
    "connections",
    "connections_accepted",
    "connections_refused",
    "connections_stalled",
    "sessions_created",
    "sessions_deleted",
)
_AGEING = (
    "chunks",
    "bytes_before",
    "bytes_after",
    "expired_sessions",
    "coded_tails",
    "tail_bytes_before",
    "tail_bytes_after",
    "decoded_tails",
)
_SHARED = (
    "chunks",
    "bytes",
    "matches",
    "match_hits",
    "matched_tokens",
    "token_ids_bytes",
)
_BLOCKS = ("blocks", "tokens", "index_bytes", "put", "asked", "hits", "lost")
_RECALL = (
    "entries",
    "batches",
    "stored_bytes",
    "put",
    "deleted",
    "recalls",
    "hits",
    "total_us",
    "max_us",
    "plugin_searches",
    "plugin_timeouts",
    "plugin_faults",
    "dropped_hits",
    "plugin_bytes",
)
_ATTACHMENTS = ("attachments", "bytes", "stored_bytes", "put", "hits", "misses", "damaged")
_KEEPER = ("queued_sessions", "chunks", "bytes_before", "bytes_after")
_PRESSURE = (
    "rounds",
    "aged_sessions",
    "aged_bytes",
    "evicted_sessions",
    "evicted_tokens",
    "evicted_bytes",
    "deleted_sessions",
    "refused",
    "spilled_chunks",
    "spilled_bytes",
    "coded_tails",
    "coded_tail_bytes",
)
_DISK = (
    "limit_bytes",
    "used_bytes",
    "live_bytes",
    "written_bytes",
    "read_bytes",
    "loaded_chunks",
    "loaded_bytes",
    "failed_loads",
    "saves",
    "failed_saves",
    "syncs",
    "damaged",
    "reclaimed_bytes",
    "evicted_bytes",
    "queued_bytes",
)


_TAKEN = (
    "sessions",
    "tokens",
    "bytes",
    "cut_sessions",
    "took_us",
    "set_aside_bytes",
)
_OUTCOMES = ("none", "done", "cold", "set-aside")


def _takeover(c: Any) -> dict[str, Any]:
    counts = {key: getattr(c, key) for key in _TAKEN}
    return {"outcome": _OUTCOMES[c.outcome], "why": _text(c.why) or None, **counts}


def _disk(c: Any) -> Optional[dict[str, Any]]:
    """None without one."""
    if c.limit_bytes == 0:
        return None
    return {"recovering": bool(c.recovering), **{key: getattr(c, key) for key in _DISK}}


def _capacity(c: Any) -> dict[str, Any]:
    levels = (str(level_from_c(lib.KVQ_LEVEL_EXACT + i)) for i in range(len(c.tokens)))
    return {"model": _text(c.model), "tokens": dict(zip(levels, c.tokens))}


_QUOTAS = ("memory_bytes", "disk_bytes", "in_flight_bytes", "sessions", "connections")


def _tenant(c: Any) -> dict[str, Any]:
    """What it has of each quota; a limit of 0 is none."""
    quotas = {name: getattr(c, name) for name in _QUOTAS}
    return {
        "tenant": _text(c.tenant),
        **{
            name: {"used": quota.used, "limit": quota.limit, "refused": quota.refused}
            for name, quota in quotas.items()
        },
        "requests_limit": c.requests_limit,
    }


STATES = ("?", "normal", "drained", "read-only")


def control(c: Any) -> dict[str, Any]:
    return {"state": STATES[c.state], "limit_bytes": c.limit_bytes, "used_bytes": c.used_bytes}


def status(c: Any) -> dict[str, Any]:
    rows = [c.operations[i] for i in range(c.operation_count)]
    operations = {_text(row.operation): row for row in rows}
    errors = [c.errors[i] for i in range(c.error_count)]
    return {
        "version": _text(c.version),
        "pid": c.pid,
        "uptime_seconds": c.uptime_seconds,
        "state": STATES[c.state],
        "sockets": [_text(c.sockets[i]) for i in range(c.socket_count)],
        "memory": _memory(c),
        "sessions": c.sessions,
        "tokens": c.tokens,
        "bytes_16bit": c.bytes_16bit,
        "logical_bytes": c.logical_bytes,
        "stored_bytes": c.stored_bytes,
        "unique_bytes": c.unique_bytes,
        "ratio": c.bytes_16bit / c.stored_bytes if c.stored_bytes else None,
        "ratio_input": c.logical_bytes / c.stored_bytes if c.stored_bytes else None,
        "levels": _levels(c.levels, c.level_count),
        "keeper": {key: getattr(c.keeper, key) for key in _KEEPER},
        "pressure": {key: getattr(c.pressure, key) for key in _PRESSURE},
        "capacity": [_capacity(c.capacity[i]) for i in range(c.capacity_count)],
        "ageing": {key: getattr(c.ageing, key) for key in _AGEING},
        "sharing": {key: getattr(c.sharing, key) for key in _SHARED},
        "blocks": {key: getattr(c.blocks, key) for key in _BLOCKS},
        "attachments": {key: getattr(c.attachments, key) for key in _ATTACHMENTS},
        "recall": {
            "plugin": _text(c.recall.plugin),
            "plugin_on": bool(c.recall.plugin_on),
            **{key: getattr(c.recall, key) for key in _RECALL},
        },
        "disk": _disk(c.disk),
        "takeover": _takeover(c.takeover),
        "tenants": [_tenant(c.tenants[i]) for i in range(c.tenant_count)],
        **{key: getattr(c, key) for key in _TRAFFIC},
        "requests": {name: row.requests for name, row in operations.items()},
        "operations": {name: _operation(row) for name, row in operations.items()},
        "errors": {_text(row.error): row.count for row in errors},
    }
