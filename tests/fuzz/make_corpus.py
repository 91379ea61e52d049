"""Writes the inputs that fuzzing begins with: what a client of this protocol sends, operation by operation.

usage: make_corpus.py [FOLDER]      FOLDER: tests/fuzz/corpus
"""

import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
import wire  # noqa: E402
from wire import F16, F32, Geometry, data_frame, encode, frame  # noqa: E402

SHAPE = Geometry(layers=1, heads=1, head_dim_k=16, head_dim_v=16, dtype=F16)
NAME, MODEL = dict(session=b"s"), b"m"


def numbers(count, kind="e", step=0.25):
    return struct.pack(f"<{count}{kind}", *((i * 7 % 13 - 6) * step for i in range(count)))


def request(type, message, request_id, **fields):
    return frame(type, request_id, encode(message, **fields))


def hello():
    return request(wire.HELLO, "HelloRequest", 1, version_min=1, version_max=1, client="fuzz")


def opened(request_id=2, **fields):
    return request(wire.OPEN, "OpenRequest", request_id, **{**NAME, "model": MODEL, "geometry": SHAPE, **fields})


def appended(tokens, request_id=3, first=0, ids=False, **fields):
    begin = request(wire.APPEND, "AppendRequest", request_id, **NAME, first=first, tokens=tokens,
                    tail_tokens=first % 128, token_ids=ids, **fields)
    parts = [data_frame(request_id, first, tokens, 0, part, numbers(tokens * 16)) for part in (0, 1)]
    if ids:
        parts.insert(0, data_frame(request_id, first, tokens, 0, wire.TOKEN_IDS,
                                   struct.pack(f"<{tokens}I", *range(tokens))))
    return begin + b"".join(parts) + frame(wire.COMMIT, request_id)


def attached(request_id=4):
    text = b"a picture's hash, or a system prompt " * 4
    return (request(wire.ATTACH_PUT, "AttachPutRequest", request_id, **NAME, name=b"text", bytes=len(text)) +
            data_frame(request_id, 0, len(text), 0, wire.BYTES, text) + frame(wire.COMMIT, request_id))


def block(key, parent=b"", request_id=3, tokens=8):
    begin = request(wire.BLOCK_PUT, "BlockPutRequest", request_id, model=MODEL, geometry=SHAPE, key=key,
                    parent=parent, tokens=tokens)
    return begin + b"".join(data_frame(request_id, 0, tokens, 0, part, numbers(tokens * 16))
                            for part in (0, 1)) + frame(wire.COMMIT, request_id)


def conversations():
    start = hello() + opened()
    ten = start + appended(10)
    yield "hello", hello()
    yield "ping", hello() + frame(wire.PING, 2) + frame(wire.PING, 3)
    yield "append", ten
    yield "append-page", start + appended(128, settle=True) + appended(4, request_id=4, first=128)
    yield "append-ids", start + appended(12, ids=True)
    yield "append-cancel", start + appended(10)[:-24] + frame(wire.CANCEL, 3)
    yield "open-policy", hello() + opened(
        policy=wire.policy(newest_tokens=64, newest_level=-2, floor=5, idle_step_ms=1000, ttl_ms=9000),
        level=wire.SimpleNamespace(level=0), sharing=2, min_snr_db=20.0)
    yield "fetch", ten + request(wire.FETCH, "FetchRequest", 4, **NAME, first=2, end=9, dtype=F32, within_ms=50)
    yield "info", ten + request(wire.INFO, "InfoRequest", 4, **NAME)
    yield "list", ten + request(wire.LIST, "ListRequest", 4, after_id=0, limit=5)
    yield "delete", ten + request(wire.DELETE, "DeleteRequest", 4, **NAME)
    yield "stats", ten + frame(wire.STATS, 4)
    yield "fork", ten + request(wire.FORK, "ForkRequest", 4, **NAME, target=b"t", tokens=5)
    yield "truncate", ten + request(wire.TRUNCATE, "TruncateRequest", 4, **NAME, tokens=3)
    yield "age", ten + request(wire.AGE, "AgeRequest", 4, **NAME, level=5, settle=True)
    yield "pin", ten + request(wire.PIN, "PinRequest", 4, **NAME, lease_ms=5000)
    yield "delete-many", ten + request(wire.DELETE_MANY, "DeleteManyRequest", 4, prefix=b"s", model=MODEL,
                                       pinned_too=True)
    yield "policy", ten + request(wire.POLICY, "PolicyRequest", 4, **NAME, policy=wire.policy(ttl_ms=5000))
    ids = struct.pack("<12I", *range(12))
    yield "match", start + appended(12, ids=True) + request(
        wire.MATCH, "MatchRequest", 4, model=MODEL, tokens=12) + data_frame(
            4, 0, 12, 0, wire.TOKEN_IDS, ids) + frame(wire.COMMIT, 4)
    yield "flush", ten + request(wire.FLUSH, "FlushRequest", 4)
    yield "attach", ten + attached() + request(wire.ATTACH_GET, "AttachGetRequest", 5, **NAME, name=b"text")
    yield "attach-list", ten + attached() + request(wire.ATTACH_LIST, "AttachListRequest", 5, **NAME)
    yield "attach-delete", ten + attached() + request(wire.ATTACH_DELETE, "AttachDeleteRequest", 5, **NAME,
                                                      name=b"text")
    chain = hello() + block(b"k1") + block(b"k2", b"k1", 4)
    of_model = dict(model=MODEL, geometry=SHAPE)
    yield "block-get", chain + request(wire.BLOCK_GET, "BlockGetRequest", 5, **of_model, keys=[b"k1", b"k2"],
                                       tokens=8)
    yield "block-control", chain + request(wire.BLOCK_CONTROL, "BlockControlRequest", 5, **of_model,
                                           keys=[b"k1", b"no"], action=2)
    yield "control", ten + request(wire.CONTROL, "ControlRequest", 4, state=2, limit_bytes=48 << 20)
    yield from recalls(ten)


def recalls(ten):
    vectors = wire.packed_entries([(0, 4, b"one", b"meta", numbers(4, "f")), (4, 6, b"two", b"", numbers(4, "f"))])
    put = (request(wire.INDEX_PUT, "IndexPutRequest", 4, **NAME, dim=4, dtype=F32, entries=2, bytes=len(vectors)) +
           data_frame(4, 0, len(vectors), 0, wire.VECTORS, vectors) + frame(wire.COMMIT, 4))
    query = numbers(4, "f")
    for name, fetch in ("recall", False), ("recall-fetch", True):
        yield name, ten + put + request(
            wire.RECALL, "RecallRequest", 5, sessions=[b"s"], dim=4, k=3, merge=True, fetch=fetch) + data_frame(
                5, 0, 4, 0, wire.VECTORS, query) + frame(wire.COMMIT, 5)
    yield "index-delete", ten + put + request(wire.INDEX_DELETE, "IndexDeleteRequest", 5, **NAME, labels=[b"one"])
    keys = hello() + opened(key_summaries=True) + appended(128, settle=True)
    query = numbers(16, "f")
    yield "recall-keys", keys + request(
        wire.RECALL_KEYS, "RecallKeysRequest", 4, **NAME, query_heads=1, k=2, fetch=True) + data_frame(
            4, 0, 1, 0, wire.VECTORS, query) + frame(wire.COMMIT, 4)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "corpus")
    target = folder / "connection"
    target.mkdir(parents=True, exist_ok=True)
    for number, (name, stream) in enumerate(conversations()):
        split = number if number % 3 == 2 else 0  # some arrive in pieces
        (target / name).write_bytes(struct.pack("<I", split) + stream)


if __name__ == "__main__":
    main()
