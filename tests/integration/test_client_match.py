"""kvq_match and token ids from C, in both forms; and what a call that was given up leaves alone."""

import time

import numpy as np
import pytest
import wire
from fake_daemon import play  # noqa: F401
from kvquantd._kvq import ffi, lib
from library import Library

LAYERS, HEADS, DIM = 2, 3, 16
GEOMETRY = dict(layers=LAYERS, heads=HEADS, head_dim_k=DIM, head_dim_v=DIM, dtype=lib.KVQ_F16)
MODEL = ffi.new("char[]", b"m")


def ids_of(tokens, seed=0):
    return ffi.new("uint32_t[]", np.random.default_rng(seed).integers(0, 50_000, tokens).tolist())


def append(library, state, tokens, ids, salts=()):
    k = np.random.default_rng(1).normal(size=(LAYERS, tokens, HEADS, DIM)).astype(np.float16)
    source = dict(block=ffi.cast("void *", ffi.from_buffer(k)))
    kept, c = salts_to_c(salts)
    options = library.options("kvq_append_options", first=2**64 - 1,
                              tokens=tokens, k=source, v=source, token_ids=ids, salts=c, salt_count=len(salts))
    return library.call("kvq_append", state, options), kept


def salts_to_c(salts):
    texts = [ffi.new("char[]", text) for _, _, text in salts]
    return texts, ffi.new("struct kvq_salt[]", [
        dict(first=first, tokens=tokens, bytes=text, byte_count=len(salt))
        for (first, tokens, salt), text in zip(salts, texts)])


def match(library, ids, tokens, salts=(), **options):
    """(name of the result, (session, tokens))."""
    found = ffi.new("struct kvq_match *")
    kept, c = salts_to_c(salts)
    code = library.call("kvq_match", library.options(
        "kvq_match_options", model=MODEL, token_ids=ids, tokens=tokens, salts=c, salt_count=len(salts),
        **options), found)
    return code, (ffi.string(found.session).decode(), found.tokens), kept


@pytest.fixture(params=[False, True], ids=["blocking", "non-blocking"])
def library(request, daemon):
    with Library(daemon.socket, request.param) as library:
        yield library


def test_a_match_names_the_session(library):
    ids = ids_of(300)
    _, state = library.open("a", GEOMETRY)
    assert append(library, state, 300, ids)[0] == "ok"
    assert match(library, ids, 200)[:2] == ("ok", ("a", 200))
    assert match(library, ids_of(300, 1), 300)[0] == "miss"
    assert match(library, ffi.NULL, 0)[0] == "miss"


def test_arguments_that_cannot_be_are_told_at_once(library):
    ids = ids_of(10)
    assert match(library, ids, 2**20 + 1)[0] == "argument"
    assert match(library, ffi.NULL, 1)[0] == "argument"
    assert match(library, ids, 10, [(0, 1, b"x" * 65)])[0] == "argument"
    assert match(library, ids, 10, [(0, 0, b"x")])[0] == "invalid"
    assert library.ping() == "ok"


@pytest.mark.parametrize("salts", [1, 60, 700])
def test_salts_go_with_both(library, salts):
    ids, given = ids_of(3000), [(4 * i, 3, b"%d" % i * 8) for i in range(salts)]
    _, state = library.open("a", GEOMETRY)
    assert append(library, state, 3000, ids, given)[0] == "ok"
    assert match(library, ids, 3000, given)[:2] == ("ok", ("a", 3000))
    other = [*given[:-1], (given[-1][0], 3, b"other")]
    assert match(library, ids, 3000, other)[:2][1][1] == given[-1][0]


def test_an_append_in_parts_brings_its_ids_with_begin(library):
    ids = ids_of(200)
    _, state = library.open("a", GEOMETRY)
    k = np.zeros((LAYERS, 200, HEADS, DIM), np.float16)
    options = library.options("kvq_append_options", first=0, tokens=200, token_ids=ids)
    assert library.call("kvq_append_begin", state, options) == "ok"
    for layer in range(LAYERS):
        for part in (0, 1):
            assert library.call("kvq_append_part", layer, part, ffi.from_buffer(k[layer]), 0, 0) == "ok"
    assert library.call("kvq_append_commit") == "ok"
    assert match(library, ids, 200)[:2] == ("ok", ("a", 200))


def test_a_refusal_while_ids_are_still_sent_leaves_the_connection_usable(play):
    """The daemon reads on up to COMMIT; the ids behind the refusal need not be the caller's."""
    tokens = 2**20

    def refuse(peer):
        peer.greet()
        kind, request_id, _, _ = peer.receive()
        assert kind == wire.MATCH
        peer.error(request_id, "full")
        time.sleep(0.2)
        while kind != wire.COMMIT:
            kind, _, _, _ = peer.receive()
        assert peer.answer("PingReply") == wire.PING

    ids = ids_of(tokens)
    with Library(play(refuse), True) as library:
        assert match(library, ids, tokens)[0] == "full"
        ffi.memmove(ids, bytes(4 * tokens), 4 * tokens)
        assert library.ping() == "ok"


def test_what_still_comes_of_a_fetch_given_up_does_not_get_into_what_is_sent(daemon):
    """Values that are gathered on the way stand in a buffer of the connection's."""
    tokens, heads, dim = 2048, 8, 64  # frames of 128 KiB
    geometry = {**GEOMETRY, "heads": heads, "head_dim_k": dim, "head_dim_v": dim}
    shape = (LAYERS, tokens, heads, dim)
    values = np.random.default_rng(2).normal(size=shape).astype(np.float16)
    rows = np.zeros((LAYERS, tokens, heads, dim + 1), np.float16)  # a value apart: they are gathered
    rows[..., :dim] = values
    strides = dict(zip(("layer_stride", "token_stride", "head_stride"), rows.strides))
    gathered = dict(block=ffi.cast("void *", ffi.from_buffer(rows)), **strides)
    with Library(daemon.socket, True) as library:
        _, source = library.open("source", geometry)
        block = dict(block=ffi.cast("void *", ffi.from_buffer(values)))
        assert library.call("kvq_append", source, library.options(
            "kvq_append_options", first=0, tokens=tokens, k=block, v=block)) == "ok"
        for turn in range(5):
            _, target = library.open(f"target{turn}", geometry)
            out = [np.zeros(shape, np.float16) for _ in range(2)]
            k, v = (dict(block=ffi.cast("void *", ffi.from_buffer(one))) for one in out)
            code = lib.kvq_fetch(library.client, source, library.options("kvq_fetch_options", k=k, v=v),
                                 ffi.NULL)
            for _ in range(turn):
                if code == lib.KVQ_AGAIN:
                    library.wait_once()
                    code = lib.kvq_step(library.client)
            time.sleep(0.05)  # the socket fills with what nobody will wait for
            lib.kvq_cancel(library.client)
            assert library.call("kvq_append", target, library.options(
                "kvq_append_options", first=0, tokens=tokens, k=gathered, v=gathered)) == "ok"
            assert library.call("kvq_fetch", target, library.options("kvq_fetch_options", k=k, v=v),
                                ffi.NULL) == "ok"
            assert (out[0] == values).all() and (out[1] == values).all()
