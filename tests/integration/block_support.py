"""What the tests of blocks by key share: a client of them, and blocks behind each other."""

import itertools
from types import SimpleNamespace

from wire import (BLOCK_CONTROL, BLOCK_DELETE, BLOCK_EXISTS, BLOCK_GET, BLOCK_PUT, COMMIT, DATA, DATA_CONTROL,
                  ERROR, EXACT, HEADS_TOKENS_DIM, TOKENS_HEADS_DIM, Refused, block, data_frame, decode, frame)
from wire_support import SMALL, WIDE, bits, packed

PAGE = 128
MODEL = b"model"


class Blocks:
    """The blocks of a model and geometry, over one connection."""

    def __init__(self, connection, model=MODEL, geometry=SMALL, level=EXACT):
        self.connection, self.geometry = connection, geometry
        self.space = {"model": model, "geometry": geometry}
        self.level = SimpleNamespace(level=level)

    def begin(self, key, tokens, **fields):
        return self.connection.request(BLOCK_PUT, "BlockPutRequest", **self.space, key=key, tokens=tokens,
                                       **{"level": self.level, **fields})

    def send(self, request_id, arrays, layout=TOKENS_HEADS_DIM):
        tokens, kv = arrays[0].shape[1], packed(arrays, layout)
        for first, layer in itertools.product(range(0, tokens, PAGE), range(self.geometry.layers)):
            count = min(PAGE, tokens - first)
            for part in self.geometry.parts():
                payload = block(kv[part][layer], self.geometry, part, layout, first, count)
                self.connection.send(data_frame(request_id, first, count, layer, part, payload))

    def commit(self, request_id):
        self.connection.send(frame(COMMIT, request_id))
        return self.connection.answer(request_id, "BlockPutReply")

    def put(self, key, arrays, layout=TOKENS_HEADS_DIM, **fields):
        request_id = self.begin(key, arrays[0].shape[1], layout=layout, **fields)
        self.send(request_id, arrays, layout)
        return self.commit(request_id)

    def get(self, keys, tokens, layout=TOKENS_HEADS_DIM, **fields):
        """What came of each key, as the arrays' packed bytes, or None; and the reply."""
        self.connection.request(BLOCK_GET, "BlockGetRequest", **self.space, keys=keys, tokens=tokens, layout=layout,
                                **fields)
        heads = self.geometry.heads if layout == HEADS_TOKENS_DIM else 1
        came = [tuple([[b""] * heads for _ in range(self.geometry.layers)] for _ in (0, 1)) for _ in keys]
        while (got := self.connection.receive()).type == DATA:
            first, _, layer, part = DATA_CONTROL.unpack(got.control)
            rows, of_head = came[first // tokens][part][layer], len(got.payload) // heads
            for head in range(heads):
                rows[head] += got.payload[head * of_head:(head + 1) * of_head]
        if got.type == ERROR:
            raise Refused(got.control)
        reply = decode("BlockGetReply", got.control)
        assert len(reply.hits) == len(keys)
        kvs = [tuple([b"".join(layer) for layer in part] for part in kv) for kv in came]
        return [kv if hit else None for kv, hit in zip(kvs, reply.hits)], reply

    def hits(self, keys, tokens):
        return self.get(keys, tokens)[1].hits

    def assert_holds(self, key, arrays, layout=TOKENS_HEADS_DIM):
        (kv,), reply = self.get([key], arrays[0].shape[1], layout)
        assert reply.hits == [1]
        assert kv == packed(arrays, layout)

    def control(self, keys, action=BLOCK_EXISTS, **fields):
        return self.connection.call(BLOCK_CONTROL, "BlockControl", **self.space, keys=keys, action=action, **fields)

    def exists(self, keys, lease_ms=0):
        return self.control(keys, lease_ms=lease_ms).tokens

    def delete(self, *keys):
        return self.control(keys, BLOCK_DELETE).tokens


def chain_of(blocks, count, tokens=16, seed=0, parent=b""):
    """Blocks, each behind the one before; returns their keys and what each holds."""
    arrays = bits(blocks.geometry, count * tokens, seed)
    keys = [b"%d:%d" % (seed, i) for i in range(count)]
    parts = [tuple(part[:, i * tokens:(i + 1) * tokens] for part in arrays) for i in range(count)]
    for key, behind, values in zip(keys, [parent, *keys], parts):
        blocks.put(key, values, parent=behind)
    return keys, parts


def fill(connection, blocks, count, lease=()):
    """Chains of 256 tokens; those named are leased as soon as they are there."""
    for i in range(count):
        parent = b""
        for j in range(2):
            key = b"%d/%d" % (i, j)
            blocks.put(key, bits(WIDE, PAGE, 2 * i + j), parent=parent, wait_ms=60000)
            parent = key
        if i in lease:
            blocks.exists([b"%d/0" % i, b"%d/1" % i], lease_ms=60000)
