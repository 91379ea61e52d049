"""Writes corpus/, what fuzzing begins with: what clients send, what a daemon leaves on disk, configurations.

KVQUANTD names the daemon; without it build/kvquantd is taken.
"""

import hashlib
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
import wire  # noqa: E402
from wire import F16, F32, Geometry, data_frame, encode, frame  # noqa: E402

SHAPE = Geometry(layers=1, heads=1, head_dim_k=16, head_dim_v=16, dtype=F16)
NAME, MODEL = dict(session=b"s"), b"m"
DUMP_CLOSING_BYTES = 64  # the part behind a file's sessions


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
    yield "dump", ten + request(wire.DUMP, "DumpRequest", 4, **NAME)
    yield "restore", hello() + restored((HERE.parent / "golden" / "1.dump").read_bytes()[:-DUMP_CLOSING_BYTES])


def restored(dump):
    return (request(wire.RESTORE, "RestoreRequest", 2, **NAME) + data_frame(2, 0, len(dump), 0, wire.BYTES, dump) +
            frame(wire.COMMIT, 2) + request(wire.INFO, "InfoRequest", 3, **NAME))


def recalls(ten):
    vectors = wire.packed_entries([(0, 4, b"one", b"meta", numbers(4, "f")), (4, 6, b"two", b"", numbers(4, "f"))])
    put = (request(wire.INDEX_PUT, "IndexPutRequest", 4, **NAME, dim=4, dtype=F32, entries=2, bytes=len(vectors)) +
           data_frame(4, 0, len(vectors), 0, wire.VECTORS, vectors) + frame(wire.COMMIT, 4))
    yield "index-put", ten + put
    yield "recall", ten + put + recall(fetch=False)
    yield "recall-fetch", ten + put + recall(fetch=True)
    yield "index-delete", ten + put + request(wire.INDEX_DELETE, "IndexDeleteRequest", 5, **NAME, labels=[b"one"])
    yield "recall-keys", hello() + opened(key_summaries=True) + appended(128, settle=True) + recall_keys()


def recall(fetch):
    return request(wire.RECALL, "RecallRequest", 5, sessions=[b"s"], dim=4, k=3, merge=True, fetch=fetch) + data_frame(
        5, 0, 4, 0, wire.VECTORS, numbers(4, "f")) + frame(wire.COMMIT, 5)


def recall_keys():
    return request(wire.RECALL_KEYS, "RecallKeysRequest", 4, **NAME, query_heads=1, k=2, fetch=True) + data_frame(
        4, 0, 1, 0, wire.VECTORS, numbers(16, "f")) + frame(wire.COMMIT, 4)


def segments_values(folder):
    """The newest value of each key, as daemon/store/disk/DISK.md has them."""
    newest = {}
    for path in sorted(folder.glob("*.segment")):
        data, at = path.read_bytes(), 8192
        while at + 88 <= len(data):
            if data[at + 16:at + 20] != b"KVQR":
                at += 4096
                continue
            head_bytes, sequence, id, kind, deleted, level = struct.unpack_from("<IQQBBb", data, at + 20)
            parts, data_bytes, first, tokens, version, tenant, model, session, history = struct.unpack_from(
                "<IQQQQHHHH", data, at + 44)
            name = data[at + 88 + tenant + model:][:session]
            entries = at + 88 + (tenant + model + session + 7) // 8 * 8 + 24 * history
            sizes = [struct.unpack_from("<Q", data, entries + 24 * part)[0] for part in range(parts)]
            if sequence > newest.get((kind, id), (0,))[0]:
                value = struct.pack("<QQQQBbBB", id, first, tokens, version, kind, level, session, parts) + name
                value += struct.pack(f"<{parts}I", *sizes) + data[at + head_bytes:][:data_bytes]
                newest[kind, id] = sequence, b"" if deleted else value
            at += (head_bytes + data_bytes + 4095) // 4096 * 4096
    values = [value for _, value in newest.values() if value]
    return struct.pack("<I", len(values)) + b"".join(values)


def saved(daemon, *requests):
    """What a daemon with a disk has there after a client sent these and it ended."""
    with tempfile.TemporaryDirectory(prefix="kvquant-corpus-") as folder:
        folder = pathlib.Path(folder)
        (folder / "conf").write_text(f"disk = {folder}/disk\ntail_idle = never\n")
        process = subprocess.Popen([daemon, "--config", folder / "conf", "--socket", folder / "s", "--memory", "64M"])
        while not (folder / "s").exists():
            time.sleep(0.01)
        with wire.Connection(folder / "s", hello=False) as client:
            client.send(b"".join(requests))
            client.request(wire.FLUSH, "FlushRequest", 99)
            while client.receive().request_id != 99:
                pass
        process.terminate()
        process.wait()
        return segments_values(folder / "disk")


def recoveries(daemon):
    durable = opened(durability=wire.ON_DISK)
    fetch = request(wire.FETCH, "FetchRequest", 9, **NAME) + request(wire.INFO, "InfoRequest", 10, **NAME)
    yield "tail", saved(daemon, hello(), durable, appended(10)), hello() + fetch + appended(5, first=10)
    page = saved(daemon, hello(), durable, appended(128, settle=True))
    yield "page", page, hello() + fetch + request(wire.FORK, "ForkRequest", 4, **NAME, target=b"t", tokens=5)
    yield "ids", saved(daemon, hello(), durable, appended(12, ids=True)), hello() + fetch
    yield "attachment", saved(daemon, hello(), durable, appended(10), attached()), hello() + request(
        wire.ATTACH_GET, "AttachGetRequest", 5, **NAME, name=b"text")
    yield "block", saved(daemon, hello(), block(b"k1"), block(b"k2", b"k1", 4)), hello() + request(
        wire.BLOCK_GET, "BlockGetRequest", 5, model=MODEL, geometry=SHAPE, keys=[b"k1", b"k2"], tokens=8)
    entries = dict(recalls(hello() + durable + appended(10)))["index-put"]
    yield "entries", saved(daemon, entries), hello() + recall(fetch=True)
    keys = opened(durability=wire.ON_DISK, key_summaries=True) + appended(128, settle=True)
    yield "keys", saved(daemon, hello(), keys), hello() + recall_keys()


def configurations():
    lines = (HERE.parents[1] / "config" / "kvquantd.conf").read_text().splitlines()
    values = [line.lstrip("#") for line in lines if " = " in line]
    yield "all", "\n".join(values)
    yield "units", "memory = 1G\nttl = 90s\nsocket_mode = 0660\n; comment\n\nlevel = exact\n"
    yield "continued", "memory = 64M\n  128M\n[section]\nname: value\n"


def tables():
    yield "users", "# who\nuser root a admin\nuser 1000 b worker\nuser * c reader\ngroup 100 d worker\n"
    yield "tokens", f"token {hashlib.sha256(bytes(32)).hexdigest()} a worker\ntoken {'0' * 64} b.c reader # no one's\n"


def requests_of_http():
    name = "</script>\"'&\u2028\u202e".encode()
    for path in ("/", "/metrics", "/status.json", "/status.json?since=3", "/healthz", "/%2e%2e/x"):
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n".encode()
        yield path.strip("/").replace("/", "_").replace("?", "_") or "page", bytes([len(name)]) + name + head
    yield "open-metrics", b"\x01s" + b"GET /metrics HTTP/1.0\r\n\r\n"
    yield "post", b"\x01s" + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


def answers_of_plugin():
    def hits(*ids):
        return struct.pack("<b", len(ids)) + b"".join(struct.pack("<Qf", id, 0.5) for id in ids)

    yield "right", bytes([3, 0]) + 4 * hits(2, 4, 258)
    yield "wrong", bytes([7, 1]) + hits(1, 1, 2**64 - 1) + hits(300, 2, 4) + struct.pack("<b", 127) + hits(*range(8))
    yield "failed", bytes([1, 2]) + struct.pack("<b", -1)


def write(target, files):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files:
        (folder / name).write_bytes(data)


def main():
    daemon = os.environ.get("KVQUANTD", str(HERE.parents[1] / "build" / "kvquantd"))
    write("connection", ((name, struct.pack("<I", number if number % 3 == 2 else 0) + stream)  # some in pieces
                         for number, (name, stream) in enumerate(conversations())))
    write("recovery", ((name, values + stream) for name, values, stream in recoveries(daemon)))
    write("http", requests_of_http())
    write("retriever", answers_of_plugin())
    write("credentials", ((name, text.encode()) for name, text in tables()))
    write("config", ((name, text.encode()) for name, text in configurations()))


if __name__ == "__main__":
    main()
