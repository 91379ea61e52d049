"""Freezes what this version writes to disk and what its clients send, in tests/golden/VERSION, for later ones to be
held to: once for each version, when it is done.

    make && PYTHONPATH=tests/integration build/venv/bin/python tests/golden/freeze_version.py 0.1
"""

import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

import conftest
import kvquantd
import numpy as np
from kvquantd._kvq import ffi, lib
from recording import Recording
from wire import Connection

GEOMETRY = kvquantd.Geometry(layers=2, heads=1, head_dim=8, dtype="f16")
LEVELS = ("exact", "fast8", 0, 1, 2, 3, 4, 5)
DISK_KEY = bytes(7 * i + 1 & 0xFF for i in range(32))
TOKENS = {"alpha": hashlib.sha256(b"alpha").hexdigest(), "beta": hashlib.sha256(b"beta").hexdigest()}
TENANTS = "".join(f"token {hashlib.sha256(bytes.fromhex(token)).hexdigest()} {tenant} worker\n"
                  for tenant, token in TOKENS.items())


def values(tokens, seed):
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal((2, tokens, 1, 8)).astype(np.float16) for _ in range(2))


def ids(tokens):
    return list(range(1000, 1000 + tokens))


def embeddings(count):
    return np.random.default_rng(9).standard_normal((count, 4)).astype(np.float32)


@contextlib.contextmanager
def running(folder, text):
    """A daemon with this configuration, which ends in order."""
    (folder / "conf").write_text(text)
    daemon = conftest.Daemon(folder, arguments=["--config", folder / "conf"])
    try:
        yield daemon
    finally:
        assert daemon.stop() == 0


# --- what clients send ---


def sessions(client):
    chat = client.open("chat", model="model", geometry=GEOMETRY, level="exact", sharing="ids", new=True,
                       policy=kvquantd.Policy(ttl=3600.0))
    chat.append(*values(70, 1), token_ids=ids(70), salts=[(4, 2, b"image")])
    chat.append(*values(80, 2), token_ids=ids(80), settle=True)
    chat.fetch()
    chat.fetch(range(60, 100), range(1, 2), dtype="f32")
    chat.info()
    client.match(ids(150), "model", [(4, 2, b"image")])
    fork = chat.fork("fork", 100)
    fork.truncate(90)
    fork.age(3)
    fork.policy(kvquantd.Policy(floor=5))
    fork.pin(60.0)
    fork.unpin()
    fork.info()
    client.sessions()
    return chat


def attachments(chat):
    chat.attach("sampler", b"state " * 10)
    chat.attachment("sampler")
    chat.attachments()
    chat.detach("sampler")


def recalls(client, chat):
    chat.index(embeddings(3), [range(0, 8), range(16, 24), range(32, 40)], ["a", "b", None], [b"", b"meta", b""])
    client.recall(embeddings(1)[0], 2, model="model", fetch=True)
    chat.unindex(["a"])
    keyed = client.open("keyed", model="model", geometry=GEOMETRY, level="exact", key_summaries=True)
    keyed.append(*values(128, 3))
    keyed.recall(queries=np.ones((2, 1, 8), np.float32), k=32, fetch=True)


def blocks(client):
    known = client.blocks("model", GEOMETRY, level="exact")
    known.put(b"one", *values(16, 4))
    known.put(b"two", *values(16, 5), parent=b"one", position=16)
    known.get([b"one", b"two", b"none"], 16)
    known.touch([b"one"])
    known.delete([b"one", b"two"])


def cancelled(path):
    """An append in parts that is given up: what Python has no call for."""
    name, client = ffi.new("char[]", path.encode()), ffi.new("struct kvq_client **")
    connect = ffi.new("struct kvq_connect_options *", {"size": ffi.sizeof("struct kvq_connect_options"), "socket": name})
    state, append = ffi.new("struct kvq_session_state *"), ffi.new("struct kvq_append_options *")
    append.size, append.first, append.tokens = ffi.sizeof(append[0]), 2**64 - 1, 4
    assert lib.kvq_connect(connect, client) == 0 and lib.kvq_find(client[0], b"chat", state) == 0
    assert lib.kvq_append_begin(client[0], state, append) == 0
    assert lib.kvq_append_abort(client[0]) == 0
    lib.kvq_close(client[0])


def dumped(path, file):
    """A session to a file and back, under another name."""
    for arguments in (["dump", "chat", file], ["restore", file, "--session", "again"]):
        subprocess.run([conftest.program("KVQ", "kvq"), *arguments, "--socket", path], check=True, stdout=subprocess.DEVNULL)
    with kvquantd.connect(path) as client:
        client.open("again", model="model", geometry=GEOMETRY).fetch(range(0, 70))


def errors(client):
    for call in (lambda: client.open("nobody"), lambda: client.delete("nobody"),
                 lambda: client.open("chat", model="other", geometry=GEOMETRY)):
        try:
            call()
        except kvquantd.Error:
            continue
        raise SystemExit("this was to be refused")


def converse(path):
    client = kvquantd.connect(path)
    client.ping()
    chat = sessions(client)
    attachments(chat)
    recalls(client, chat)
    blocks(client)
    errors(client)
    client.flush()
    client.status()
    client.control()
    client.delete_many(prefix="f")
    chat.delete()
    client.close()


def freeze_conversation(folder):
    with tempfile.TemporaryDirectory() as work:
        with running(pathlib.Path(work), f"disk = {work}/disk\n") as daemon, \
                Recording(f"{work}/between.sock", daemon.socket) as recording:
            converse(recording.path)
            with kvquantd.connect(daemon.socket) as kept:
                kept.open("chat", model="model", geometry=GEOMETRY, level="exact").append(*values(70, 1))
            cancelled(recording.path)
            dumped(recording.path, f"{work}/dump")
    (folder / "conversation.jsonl").write_text(recording.text())


# --- what is on disk ---


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def write_levels(client):
    for number, level in enumerate(LEVELS):
        session = client.open(f"level {level}", model="model", geometry=GEOMETRY, level=level)
        session.append(*values(135, number), settle=True)


def write_sessions(client):
    shared = client.open("shared", model="model", geometry=GEOMETRY, level=2, sharing="ids", key_summaries=True)
    shared.append(*values(200, 20), token_ids=ids(200), salts=[(4, 2, b"image")], settle=True)
    shared.attach("sampler", b"state " * 10)
    shared.index(embeddings(3), [range(0, 8), range(16, 24), range(150, 158)], ["a", "b", None], [b"", b"meta", b""])
    shared.fork("fork", 140)
    cut = client.open("cut", model="model", geometry=GEOMETRY, level="exact")
    cut.append(*values(140, 21))
    cut.truncate(100)
    aged = client.open("aged", model="model", geometry=GEOMETRY, level=0)
    aged.append(*values(130, 22), settle=True)
    aged.age(4)
    client.open("deleted", model="model", geometry=GEOMETRY).append(*values(10, 23))
    client.flush()
    client.delete("deleted")
    known = client.blocks("model", GEOMETRY, level="exact")
    known.put(b"one", *values(128, 24))
    known.put(b"two", *values(64, 25), parent=b"one", position=128)


def tell(client):
    """What a client finds there: what later versions are to find, too."""
    told = {"sessions": {}, "blocks": {}, "recalled_keys": [], "matched": None}
    for info in client.sessions():
        session = client.open(info["session"])
        found = session.fetch()
        told["sessions"][session.name] = {
            "tokens": session.tokens, "level": session.level, "values": digest(*found),
            "attachments": {one["name"]: session.attachment(one["name"]).decode() for one in session.attachments()},
            "recalled": [[hit.tokens.start, hit.tokens.stop, hit.label] for hit in session.recall(embeddings(1)[0], 3)]
            if session.name in ("shared", "fork") else []}
    if "shared" in told["sessions"]:
        layers = client.open("shared").recall(queries=np.ones((2, 1, 8), np.float32), k=4)
        told["recalled_keys"] = [[[one.start, one.stop] for one in layer.ranges] for layer in layers]
        told["matched"] = client.match(ids(200), "model", [(4, 2, b"image")])[1]
    known = client.blocks("model", GEOMETRY)
    for key, tokens in ((b"one", 128), (b"two", 64)):
        got = known.get([key], tokens)[0]
        told["blocks"][key.decode()] = got and digest(*got)
    return told


def freeze_disk(folder, name, secret):
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "key").write_bytes(DISK_KEY)
        (work / "key").chmod(0o600)
        (work / "tenants").write_text(TENANTS)
        (work / "tenants").chmod(0o600)
        told, text = {}, f"disk = {work}/disk\ntenants = {work}/tenants\n"
        with running(work, text + (f"disk_key = {work}/key\n" if secret else "")) as daemon:
            for tenant, token in TOKENS.items():
                with kvquantd.connect(daemon.socket, token=token) as client:
                    (write_sessions if tenant == "alpha" else write_levels)(client)
                    client.flush()
                    told[tenant] = tell(client)
        with tarfile.open(folder / f"disk-{name}.tar.xz", "w:xz") as tar:
            for path in sorted((work / "disk").iterdir()):
                entry = tarfile.TarInfo(path.name)
                entry.size = path.stat().st_size
                tar.addfile(entry, io.BytesIO(path.read_bytes()))
    (folder / "disk.json").write_text(json.dumps(told, indent=1) + "\n")


def main(folder):
    folder.mkdir(exist_ok=True)
    for header in ("client/c/kvq.h", "daemon/recall/kvq_retriever.h"):
        shutil.copy(conftest.ROOT / header, folder)
    freeze_conversation(folder)
    freeze_disk(folder, "plain", secret=False)
    freeze_disk(folder, "encrypted", secret=True)


if __name__ == "__main__":
    main(conftest.ROOT / "tests/golden" / sys.argv[1])
