"""The package kvquantd against a real daemon: arrays, tensors and buffers in and out, and exceptions."""

import dataclasses
import gc
import sys
import weakref

import kvquantd
import ml_dtypes
import numpy as np
import pytest


LAYERS, TOKENS, HEADS, DIM = 3, 200, 2, 64
GEOMETRY = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM)
SHAPE = (LAYERS, TOKENS, HEADS, DIM)


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


@pytest.fixture
def session(client):
    return client.open("s", model="m", geometry=GEOMETRY, level="exact")


def values(shape=SHAPE, dtype=np.float16, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def same(a, b):
    assert a.shape == b.shape
    return np.array_equal(np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8))


@pytest.mark.parametrize("name, dtype", [
    ("f16", np.float16), ("f32", np.float32), ("bf16", ml_dtypes.bfloat16),
])
@pytest.mark.parametrize("settle", [False, True])
def test_what_is_appended_is_fetched_bit_for_bit(client, name, dtype, settle):
    geometry = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM, dtype=name)
    session = client.open("s", model="m", geometry=geometry, level="exact")
    k, v = values(dtype=dtype), values(dtype=dtype, seed=1)
    assert session.append(k, v, settle=settle) == TOKENS == session.tokens
    fetched_k, fetched_v = session.fetch()
    assert fetched_k.dtype == fetched_v.dtype == dtype
    assert same(fetched_k, k) and same(fetched_v, v)


def test_bfloat16_may_come_as_uint16(client):
    geometry = {"layers": LAYERS, "heads": HEADS, "head_dim": DIM, "dtype": "bf16"}
    session = client.open("s", model="m", geometry=geometry, level="exact")
    k = values(dtype=ml_dtypes.bfloat16)
    session.append(k.view(np.uint16), k)
    for fetched in session.fetch():
        assert same(fetched, k)


EIGHT_BITS = {"fp8_e4m3": ml_dtypes.float8_e4m3fn, "fp8_e5m2": ml_dtypes.float8_e5m2, "int8": np.int8}


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_8_bit_values_are_fetched_bit_for_bit(client, name):
    session = client.open("s", model="m", geometry=dataclasses.replace(GEOMETRY, dtype=name), level="exact")
    given = [np.random.default_rng(part).integers(0, 256, SHAPE, np.uint8).view(EIGHT_BITS[name])
             for part in (0, 1)]
    session.append(*given)
    for fetched, expected in zip(session.fetch(), given):
        assert fetched.dtype == EIGHT_BITS[name]
        assert same(fetched, expected)


@pytest.mark.parametrize("name, alias", [("fp8_e4m3", "float8_e4m3fn"), ("fp8_e5m2", "float8_e5m2")])
def test_8_bit_floats_may_come_as_uint8(client, name, alias):
    session = client.open("s", model="m", geometry=dataclasses.replace(GEOMETRY, dtype=alias), level="exact")
    assert session.geometry.dtype == name
    k = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    session.append(k, k.view(EIGHT_BITS[name]))
    for fetched in session.fetch():
        assert same(fetched, k)
    out = np.zeros_like(k), None
    session.fetch(range(0, TOKENS), out=out)
    assert same(out[0], k)


@pytest.mark.parametrize("name, stand_in", [
    ("bf16", np.uint16), ("fp8_e4m3", np.uint8), ("fp8_e5m2", np.uint8), ("int8", np.int8),
])
def test_without_ml_dtypes_floats_that_numpy_lacks_come_as_integers(client, monkeypatch, name, stand_in):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # importing it fails
    session = client.open("s", model="m", geometry=dataclasses.replace(GEOMETRY, dtype=name), level="exact")
    k = np.arange(np.prod(SHAPE)).astype(stand_in).reshape(SHAPE)
    session.append(k, k)
    for fetched in session.fetch():
        assert fetched.dtype == stand_in
        assert same(fetched, k)


def test_8_bits_of_another_kind_are_refused(client):
    session = client.open("s", model="m", geometry=dataclasses.replace(GEOMETRY, dtype="int8"))
    with pytest.raises(TypeError, match="uint8, not int8"):
        session.append(np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8))


def turned(array):
    """The same values from memory in the order [layers, heads, tokens, head_dim]."""
    return np.ascontiguousarray(array.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)


def spread(array):
    """The same values from memory with gaps between tokens and heads."""
    wide = np.zeros((LAYERS, array.shape[1] * 2, HEADS + 1, DIM), array.dtype)[:, ::2, 1:]
    wide[:] = array
    return wide


def backwards(array):
    """The same values from memory that runs from the last token to the first."""
    return np.ascontiguousarray(array[:, ::-1])[:, ::-1]


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    out = raw[1:].view(array.dtype).reshape(array.shape)
    out[:] = array
    return out


def columns(array):
    """The same values from memory in which those of a row are apart: has to be copied."""
    return np.asfortranarray(array)


@pytest.mark.parametrize("arrange", [turned, spread, backwards, unaligned, columns, list, tuple])
def test_any_strides_are_read(session, arrange):
    k, v = values(), values(seed=1)
    session.append(arrange(k), arrange(v))
    fetched_k, fetched_v = session.fetch()
    assert same(fetched_k, k) and same(fetched_v, v)


@pytest.mark.parametrize("arrange", [turned, spread, backwards, unaligned, list, tuple])
def test_any_strides_with_whole_rows_are_filled(session, arrange):
    k, v = values(), values(seed=1)
    session.append(k, v)
    out = arrange(np.zeros_like(k)), arrange(np.zeros_like(v))
    assert session.fetch(range(0, TOKENS), out=out) == out
    assert same(np.array(out[0]), k) and same(np.array(out[1]), v)


def test_filling_an_array_touches_nothing_beside_it(session):
    k, v = values(), values(seed=1)
    session.append(k, v)
    wide = np.full((LAYERS, TOKENS, HEADS + 2, DIM + 8), 7, np.float16)
    session.fetch(range(0, TOKENS), out=(wide[:, :, 1:-1, 4:-4], None))
    assert same(wide[:, :, 1:-1, 4:-4], k)
    wide[:, :, 1:-1, 4:-4] = 7
    assert (wide == 7).all()


@pytest.mark.parametrize("dtype, alike", [("f32", np.float32), ("float32", np.float32),
                                          ("bfloat16", ml_dtypes.bfloat16), ("f16", np.float16)])
def test_values_are_fetched_in_the_dtype_that_is_asked_for(session, dtype, alike):
    given = values(), values(seed=1)
    session.append(*given)
    out = tuple(np.zeros(SHAPE, alike) for _ in given)
    for pair in (session.fetch(dtype=dtype), session.fetch(out=out, dtype=dtype)):
        for fetched, expected in zip(pair, given):
            assert fetched.dtype == alike
            assert same(fetched, expected.astype(alike))


def test_an_array_to_be_filled_has_the_dtype_that_is_asked_for(session):
    session.append(values(), values())
    out = values(), values()
    with pytest.raises(TypeError, match="holds float16, not float32"):
        session.fetch(out=out, dtype="float32")


def test_a_dtype_that_values_are_not_given_in_is_refused(session):
    session.append(values(), values())
    with pytest.raises(kvquantd.Unsupported):
        session.fetch(dtype="int8")
    with pytest.raises(ValueError, match="dtype is one of"):
        session.fetch(dtype="float64")


@pytest.mark.parametrize("tokens, layers", [
    (range(0, 1), None), (range(127, 129), range(1, 2)), (range(199, 200), range(0, 3)),
    (range(3, 200), range(2, 3)), (range(5, 5), None), (range(0, 9), range(1, 1)),
])
def test_ranges_are_fetched(session, tokens, layers):
    k, v = values(), values(seed=1)
    session.append(k, v)
    fetched_k, fetched_v = session.fetch(tokens=tokens, layers=layers)
    chosen = slice(None) if layers is None else slice(layers.start, layers.stop)
    assert same(fetched_k, k[chosen, tokens.start:tokens.stop])
    assert same(fetched_v, v[chosen, tokens.start:tokens.stop])


def test_values_appended_in_pieces_are_one_sequence(session):
    k, v = values((LAYERS, 700, HEADS, DIM)), values((LAYERS, 700, HEADS, DIM), seed=1)
    at = 0
    for count in (1, 5, 122, 128, 1, 300, 143):
        session.append(k[:, at:at + count], v[:, at:at + count], first=at)
        at += count
    fetched_k, fetched_v = session.fetch()
    assert same(fetched_k, k) and same(fetched_v, v)


@pytest.mark.parametrize("heads, dim, dim_v", [(1, 40, 96), (3, 80, 0), (8, 256, 128), (1, 8, 8)])
def test_odd_geometries(client, heads, dim, dim_v):
    geometry = kvquantd.Geometry(layers=2, heads=heads, head_dim=dim, head_dim_v=dim_v)
    session = client.open("s", model="m", geometry=geometry, level="exact")
    k = values((2, 300, heads, dim))
    v = values((2, 300, heads, dim_v), seed=1) if dim_v else None
    session.append(turned(k) if heads == 1 else k, v)
    fetched_k, fetched_v = session.fetch()
    assert same(fetched_k, k)
    assert fetched_v is None if v is None else same(fetched_v, v)


def test_plain_buffers_are_packed_values(session):
    k, v = values(), values(seed=1)
    session.append(k.tobytes(), memoryview(v))
    out = bytearray(k.nbytes), bytearray(v.nbytes)
    session.fetch(range(0, TOKENS), out=out)
    assert out == (k.tobytes(), v.tobytes())


def test_torch_tensors_are_read_and_filled(client):
    torch = pytest.importorskip("torch")
    geometry = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM, dtype="bf16")
    session = client.open("s", model="m", geometry=geometry, level="exact")
    k = torch.randn(SHAPE).to(torch.bfloat16)
    v = torch.randn(LAYERS, HEADS, TOKENS, DIM).to(torch.bfloat16).transpose(1, 2)
    session.append(k, [v[i] for i in range(LAYERS)])
    out = torch.empty(SHAPE, dtype=torch.bfloat16), torch.empty(SHAPE, dtype=torch.bfloat16)
    session.fetch(range(0, TOKENS), out=out)
    assert torch.equal(out[0], k) and torch.equal(out[1], v)


def wrong(shape=SHAPE, dtype=np.float16):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize("k, v, error, words", [
    (wrong((LAYERS + 1, *SHAPE[1:])), wrong(), ValueError, "shape"),
    (wrong((LAYERS, TOKENS, HEADS + 1, DIM)), wrong(), ValueError, "shape"),
    (wrong(SHAPE[1:]), wrong(), ValueError, "shape"),
    (wrong(), wrong((LAYERS, TOKENS - 1, HEADS, DIM)), ValueError, "tokens"),
    (wrong(), None, ValueError, "v is missing"),
    (wrong(dtype=np.float32), wrong(), TypeError, "float32"),
    (wrong().astype(">f2"), wrong(), TypeError, "big-endian"),
    ([wrong()[0]] * 2, wrong(), ValueError, "layers"),
    ([wrong()[0], wrong()[0], wrong()[0, 1:]], wrong(), ValueError, "shapes"),
    (b"x" * 5, wrong(), ValueError, "bytes"),
    ("text", wrong(), TypeError, "bytes-like"),
])
def test_values_that_do_not_fit_are_refused_before_anything_is_sent(session, k, v, error, words):
    with pytest.raises(error, match=words):
        session.append(k, v)
    assert session.append(wrong(), wrong()) == TOKENS


def test_out_that_cannot_be_filled_is_refused(session):
    session.append(wrong(), wrong())
    frozen = wrong()
    frozen.flags.writeable = False
    for out in (frozen, bytes(frozen.nbytes), columns(wrong()), wrong((LAYERS, 5, HEADS, DIM)),
                np.broadcast_to(wrong()[:, :1], SHAPE)):
        with pytest.raises(ValueError):
            session.fetch(range(0, TOKENS), out=(out, None))


def test_token_ids_are_counted(session):
    with pytest.raises(ValueError, match="token_ids"):
        session.append(wrong(), wrong(), token_ids=range(5))
    session.append(wrong(), wrong(), token_ids=range(TOKENS))


def test_an_append_elsewhere_says_where_the_end_is(session):
    session.append(wrong(), wrong())
    with pytest.raises(kvquantd.WrongFirst) as caught:
        session.append(wrong(), wrong(), first=3)
    assert (caught.value.tokens, caught.value.code, caught.value.name) == (TOKENS, 8, "wrong_first")
    assert not caught.value.retryable


def test_two_writers_with_stale_tails_do_not_tear(daemon, session):
    """Both append at where they believe the end is: the later is told, and nothing is mixed."""
    with kvquantd.connect(daemon.socket) as other:
        theirs = other.open("s", model="m")
        session.append(values(), values())
        with pytest.raises(kvquantd.WrongFirst):
            theirs.append(values(seed=2), values(seed=2))
        theirs.append(values(seed=3), values(seed=3))
    assert session.tokens == TOKENS
    k, _ = session.fetch()
    assert same(k, np.concatenate([values(), values(seed=3)], axis=1))


def test_a_tail_that_moved_is_cut_anew(daemon, client):
    """Another's settled append codes the tail; the next append of this one is sent again by itself."""
    session = client.open("s", model="m", geometry=GEOMETRY, level="exact")
    session.append(values(), values())
    with kvquantd.connect(daemon.socket) as other:
        theirs = other.open("s", model="m")
        theirs.append(values(seed=1)[:, :3], values(seed=1)[:, :3], settle=True)
    session.append(values(seed=2), values(seed=2), first=TOKENS + 3)
    k, _ = session.fetch()
    assert same(k, np.concatenate([values(), values(seed=1)[:, :3], values(seed=2)], axis=1))


def test_each_refusal_is_an_exception_of_its_own(client, session):
    session.append(wrong(), wrong())
    with pytest.raises(kvquantd.Miss):
        client.open("nothing")
    with pytest.raises(kvquantd.Miss):
        client.open("nothing", model="m")
    with pytest.raises(kvquantd.Miss):
        session.fetch(range(0, TOKENS + 1))
    with pytest.raises(kvquantd.Miss):
        client.delete("nothing")
    with pytest.raises(kvquantd.Exists):
        client.open("s", model="m", geometry=GEOMETRY, new=True)
    with pytest.raises(kvquantd.ModelMismatch):
        client.open("s", model="other", geometry=GEOMETRY)
    with pytest.raises(kvquantd.ModelMismatch):
        client.open("s", model="m", geometry=kvquantd.Geometry(LAYERS, HEADS, DIM, dtype="f32"))
    with pytest.raises(kvquantd.VersionChanged):
        session.fetch(if_version=session.version + 1)
    with pytest.raises(kvquantd.Invalid):
        client.open("", model="m", geometry=GEOMETRY)
    with pytest.raises(kvquantd.Invalid):
        client.open("x\n", model="m", geometry=GEOMETRY)
    with pytest.raises(kvquantd.Invalid):
        session.fetch(layers=range(0, LAYERS + 1))
    with pytest.raises(kvquantd.Unsupported):
        client.open("big", model="m", geometry=kvquantd.Geometry(1, 2**20, 2**20))
    assert issubclass(kvquantd.Miss, kvquantd.Error)
    client.ping()


@pytest.mark.memory("64M")
def test_a_full_store_is_retryable_and_keeps_what_it_took(client):
    geometry = kvquantd.Geometry(layers=4, heads=8, head_dim=64)
    k = values((4, 1024, 8, 64))
    session = client.open("s", model="m", geometry=geometry, level="exact")
    with pytest.raises(kvquantd.Full) as caught:
        for _ in range(100):
            session.append(k, k)
    assert caught.value.retryable
    assert session.tokens > 0
    fetched, _ = session.fetch()  # of which the newest may have been evicted meanwhile
    assert same(fetched, np.concatenate([k] * 100, axis=1)[:, :session.tokens])


def test_a_session_knows_itself(client):
    rope = kvquantd.Rope(theta=1e5, pairing="interleaved", dims=64)
    geometry = kvquantd.Geometry(LAYERS, HEADS, DIM, rope=rope)
    session = client.open("s", model="m", geometry=geometry, level=2)
    assert (session.name, session.model, session.level, session.tokens) == ("s", "m", 2, 0)
    assert session.created and session.geometry == geometry
    again = client.open("s")
    assert not again.created and again.geometry == geometry


def still(report):
    """A session's report without what changes by itself."""
    return {key: value for key, value in report.items() if key not in ("age_ms", "idle_ms")}


def test_reports_have_the_keys_of_the_command(client, kvq):
    session = client.open("s", model="m", geometry=GEOMETRY, level=3)
    session.append(values(), values(), settle=True)
    ours, theirs = session.info(), kvq.json("info", "s")
    assert list(ours) == list(theirs)
    for key, value in still(theirs).items():
        assert ours[key] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
    assert [still(row) for row in client.sessions()] == [
        {key: value for key, value in still(session.info()).items() if key != "levels"}]
    ours, theirs = client.status(), kvq.json("status")
    assert list(ours) == list(theirs)
    for key in ("memory", "keeper", "operations"):
        assert list(ours[key]) == list(theirs[key])
    assert list(ours["operations"]["append"]) == list(theirs["operations"]["append"])
    assert ours["levels"] == theirs["levels"]
    assert ours["memory"]["limit_bytes"] == theirs["memory"]["limit_bytes"]


def test_a_deleted_session_is_gone(client, session):
    session.append(wrong(), wrong())
    assert session.delete() > 0
    for call in (session.fetch, session.info, session.delete, lambda: session.append(wrong(), wrong())):
        with pytest.raises(kvquantd.Miss):
            call()
    client.ping()


def test_an_empty_session_fetches_nothing(session):
    k, v = session.fetch()
    assert k.shape == v.shape == (LAYERS, 0, HEADS, DIM)
    assert session.append(wrong((LAYERS, 0, HEADS, DIM)), wrong((LAYERS, 0, HEADS, DIM))) == 0


def test_values_stay_alive_during_the_call_only(session):
    class Watched(np.ndarray):
        pass

    k = values().view(Watched)
    seen = weakref.ref(k)
    session.append(k, k)
    del k
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("wrong_geometry", [
    {"layers": 1, "heads": 1, "head_dim": 8, "dtype": "f8"},
    {"layers": 1, "heads": 1, "head_dim": 8, "rope": {"theta": 1.0, "pairing": "x", "dims": 8}},
])
def test_a_geometry_of_no_meaning_is_refused(wrong_geometry):
    with pytest.raises(ValueError):
        kvquantd.Geometry(**wrong_geometry)
