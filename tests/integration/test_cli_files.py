"""kvq import and export: what goes in comes out, and bad files are refused in one line."""

import io
import os
import struct

import ml_dtypes
import numpy as np
import pytest

LAYERS, TOKENS, HEADS, DIM = 3, 150, 2, 64
SHAPE = (LAYERS, 2, TOKENS, HEADS, DIM)


def values(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def save(path, array):
    np.save(path, array)
    return path


def one_line(result):
    assert result.stderr.startswith("kvq: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def refused(result, *words):
    """Exit status 1, nothing on stdout, and one line that has the words."""
    assert (result.returncode, result.stdout) == (1, "")
    line = one_line(result)
    assert all(word in line for word in words), line


@pytest.fixture
def cache(tmp_path):
    return save(tmp_path / "cache.npy", values(SHAPE, np.float16))


@pytest.fixture
def stored(kvq, cache):
    """The values of a session "a" that is stored exactly."""
    assert kvq("import", "a", cache, "--model", "m", "--level", "exact").returncode == 0
    return np.load(cache)


@pytest.mark.parametrize("dtype, options", [
    (np.float16, []), (np.float32, []), (np.float32, ["--dtype", "f32"]),
    (np.uint16, ["--dtype", "bf16"]),
])
def test_what_is_imported_exact_is_exported_bit_for_bit(kvq, tmp_path, dtype, options):
    array = values(SHAPE, np.float32)
    array = (array.view(np.uint32) >> 16).astype(np.uint16) if dtype == np.uint16 else array.astype(dtype)
    path = save(tmp_path / "in.npy", array)
    assert kvq("import", "a", path, "--model", "m", "--level", "exact", *options).returncode == 0
    assert kvq("export", "a", tmp_path / "out.npy").returncode == 0
    out = np.load(tmp_path / "out.npy")
    assert out.dtype == array.dtype
    assert np.array_equal(out, array)


@pytest.mark.parametrize("dtype, options", [
    (np.uint8, ["--dtype", "fp8_e4m3"]), (np.uint8, ["--dtype", "fp8_e5m2"]),
    (ml_dtypes.float8_e4m3fn, ["--dtype", "fp8_e4m3"]), (ml_dtypes.float8_e5m2, ["--dtype", "fp8_e5m2"]),
    (np.int8, []), (np.int8, ["--dtype", "int8"]),
])
def test_8_bit_values_are_exported_bit_for_bit(kvq, tmp_path, dtype, options):
    array = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8).view(dtype)
    path = save(tmp_path / "in.npy", array)
    assert kvq("import", "a", path, "--model", "m", "--level", "exact", *options).returncode == 0
    assert kvq("export", "a", tmp_path / "out.npy").returncode == 0
    out = np.load(tmp_path / "out.npy")
    assert out.dtype == (np.int8 if dtype == np.int8 else np.uint8)
    assert np.array_equal(out.view(np.uint8), array.view(np.uint8))


def test_not_a_number_and_infinity_survive_exact(kvq, tmp_path):
    array = values(SHAPE, np.float16)
    array[0, 0, 0, 0, :3] = np.nan, np.inf, -np.inf
    kvq("import", "a", save(tmp_path / "in.npy", array), "--model", "m", "--level", "exact")
    kvq("export", "a", tmp_path / "out.npy")
    out = np.load(tmp_path / "out.npy")
    assert np.array_equal(out.view(np.uint16), array.view(np.uint16))


@pytest.mark.parametrize("written, tokens, layers", [
    (["--tokens", "10:140"], slice(10, 140), slice(None)),
    (["--tokens", "127:129", "--layers", "1:2"], slice(127, 129), slice(1, 2)),
    (["--tokens", "140:"], slice(140, None), slice(None)),
    (["--tokens", ":1", "--layers", "2:"], slice(0, 1), slice(2, None)),
    (["--tokens", ":", "--layers", ":2"], slice(None), slice(0, 2)),
])
def test_ranges_of_tokens_and_layers_are_exported(kvq, stored, tmp_path, written, tokens, layers):
    assert kvq("export", "a", tmp_path / "out.npy", *written).returncode == 0
    assert np.array_equal(np.load(tmp_path / "out.npy"), stored[layers, :, tokens])


@pytest.mark.parametrize("level", ["exact", "fast8", "0", "1", "2", "3", "4", "5"])
def test_every_level_codes_all_tokens_and_says_the_loss_it_has(kvq, cache, tmp_path, level):
    info = kvq.json("import", "a", cache, "--model", "m", "--level", level)
    levels = {row["level"]: row["tokens"] for row in info["levels"]}
    assert levels.get("tail", 0) == 0
    assert levels["sinks"] == 4
    assert levels[int(level) if level.isdigit() else level] == TOKENS - 4
    kvq("export", "a", tmp_path / "out.npy")
    before, after = (np.load(p).astype(np.float64) for p in (cache, tmp_path / "out.npy"))
    for part, key in enumerate(("snr_k_db", "snr_v_db")):
        error = np.sum((after[:, part] - before[:, part]) ** 2)
        if level == "exact":
            assert error == 0 and info[key] is None
        else:
            db = 10 * np.log10(np.sum(before[:, part] ** 2) / error)
            assert info[key] == pytest.approx(db, abs=0.1)


def test_decibels_instead_of_a_level(kvq, cache):
    info = kvq.json("import", "a", cache, "--model", "m", "--min-snr-db", "30")
    assert (info["level"], info["min_snr_db"]) == (5, 30)
    assert min(info["snr_k_db"], info["snr_v_db"]) >= 30
    assert "level       5 at most, 30 dB at least" in kvq("info", "a").stdout


def test_a_level_beside_decibels_is_the_coarsest(kvq, cache):
    info = kvq.json("import", "a", cache, "--model", "m", "--min-snr-db", "1", "--level", "1")
    assert {row["level"] for row in info["levels"]} == {"sinks", 1}


def test_append_with_other_decibels_is_refused(kvq, cache):
    assert kvq("import", "a", cache, "--model", "m", "--min-snr-db", "30").returncode == 0
    assert kvq("import", "a", cache, "--model", "m", "--append", "--min-snr-db", "30").returncode == 0
    refused(kvq("import", "a", cache, "--model", "m", "--append", "--min-snr-db", "31"), "30 dB", "--replace")
    assert kvq("import", "b", cache, "--model", "m").returncode == 0
    refused(kvq("import", "b", cache, "--model", "m", "--append", "--min-snr-db", "30"), "no decibels", "--replace")


def test_level_3_is_the_default(kvq, cache):
    assert kvq.json("import", "a", cache, "--model", "m")["level"] == 3


@pytest.mark.parametrize("dim_v", [32, 0])
def test_v_of_another_head_dim_or_absent_goes_through_npz(kvq, tmp_path, dim_v):
    arrays = {"k": values((LAYERS, TOKENS, HEADS, DIM), np.float16)}
    if dim_v:
        arrays["v"] = values((LAYERS, TOKENS, HEADS, dim_v), np.float16, seed=1)
    np.savez(tmp_path / "in.npz", **arrays)
    assert kvq("import", "a", tmp_path / "in.npz", "--model", "m", "--level", "exact").returncode == 0
    refused(kvq("export", "a", tmp_path / "out.npy"), ".npz")
    assert kvq("export", "a", tmp_path / "out.npz", "--tokens", "5:").returncode == 0
    with np.load(tmp_path / "out.npz") as out:
        assert sorted(out.files) == sorted(arrays)
        for name, array in arrays.items():
            assert np.array_equal(out[name], array[:, 5:])


def test_an_exported_npz_can_be_imported(kvq, stored, tmp_path):
    kvq("export", "a", tmp_path / "a.npz")
    assert kvq("import", "b", tmp_path / "a.npz", "--model", "m", "--level", "exact").returncode == 0
    kvq("export", "b", tmp_path / "b.npy")
    assert np.array_equal(np.load(tmp_path / "b.npy"), stored)


def test_append_adds_tokens_behind_those_there(kvq, stored, cache, tmp_path):
    more = values((LAYERS, 2, 70, HEADS, DIM), np.float16, seed=1)
    info = kvq.json("import", "a", save(tmp_path / "more.npy", more), "--model", "m", "--append")
    assert info["tokens"] == TOKENS + 70
    kvq("export", "a", tmp_path / "out.npy")
    assert np.array_equal(np.load(tmp_path / "out.npy"), np.concatenate([stored, more], axis=2))


def test_append_creates_a_session_that_is_not_there(kvq, cache):
    assert kvq.json("import", "new", cache, "--model", "m", "--append")["tokens"] == TOKENS


def test_append_of_another_shape_model_level_or_rope_is_refused(kvq, stored, cache, tmp_path):
    other = save(tmp_path / "other.npy", values((LAYERS + 1, 2, 5, HEADS, DIM), np.float16))
    refused(kvq("import", "a", other, "--model", "m", "--append"), "shape")
    refused(kvq("import", "a", cache, "--model", "other", "--append"), "model")
    refused(kvq("import", "a", cache, "--model", "m", "--append", "--level", "2"), "exact", "--replace")
    rope = "theta=10000,pairing=half,dims=64"
    refused(kvq("import", "a", cache, "--model", "m", "--append", "--rope", rope), "rotary")
    assert kvq.json("info", "a")["tokens"] == TOKENS


def test_replace_leaves_only_the_new_tokens(kvq, stored, tmp_path):
    new = values((1, 2, 9, 1, 40), np.float32)
    path = save(tmp_path / "new.npy", new)
    assert kvq("import", "a", path, "--model", "n", "--level", "exact", "--replace").returncode == 0
    kvq("export", "a", tmp_path / "out.npy")
    assert np.array_equal(np.load(tmp_path / "out.npy"), new)


def test_an_existing_session_without_a_flag_is_an_error(kvq, stored, cache):
    version = kvq.json("info", "a")["version"]
    refused(kvq("import", "a", cache, "--model", "m"), "--append", "--replace")
    assert kvq.json("info", "a")["version"] == version


def test_rope_is_part_of_the_geometry(kvq, cache):
    rope = "theta=100000,pairing=interleaved,dims=64"
    info = kvq.json("import", "a", cache, "--model", "m", "--rope", rope)
    assert info["geometry"]["rope"] == {"pairing": "interleaved", "theta": 100000, "dims": 64, "scaling": 1}


def npy(header, body=b"", version=(1, 0), length=None):
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text + body


def header(descr="'<f2'", order="False", shape=SHAPE):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


BODY = bytes(int(np.prod(SHAPE)) * 2)
BAD_FILES = {
    "empty": (b"", "empty"),
    "not npy": (b"\x93NUMPX" + bytes(200), "not an .npy"),
    "unknown version": (npy(header(), BODY, (4, 0)), "version"),
    "header cut": (npy(header(), BODY)[:40], "truncated"),
    "header length cut": (npy(header(), BODY)[:9], "not an .npy"),
    "header longer than the file": (npy(header(), length=9000), "truncated"),
    "header too long": (npy(header(), BODY, (2, 0), 2**31), "too long"),
    "values cut by one": (npy(header(), BODY)[:-1], "truncated"),
    "no values": (npy(header()), "truncated"),
    "Fortran order": (npy(header(order="True"), BODY), "Fortran"),
    "float64": (npy(header("'<f8'"), BODY * 4), "<f8"),
    "int16": (npy(header("'<i2'"), BODY), "<i2"),
    "uint8 without --dtype": (npy(header("'|u1'"), BODY), "--dtype fp8_e4m3 or fp8_e5m2"),
    "big-endian": (npy(header("'>f2'"), BODY), ">f2"),
    "a record": (npy(header("[('a', '<f2')]"), BODY), "header"),
    "uint16 without --dtype": (npy(header("'<u2'"), BODY), "--dtype bf16"),
    "rank 4": (npy(header(shape=SHAPE[1:]), BODY), "shape"),
    "three parts": (npy(header(shape=(2, 3, 150, 2, 64)), BODY), "shape"),
    "rank 9": (npy(header(shape=(1,) * 9), BODY), "header"),
    "no tokens": (npy(header(shape=(3, 2, 0, 2, 64)), BODY), "tokens"),
    "no layers": (npy(header(shape=(0, 2, 150, 2, 64)), BODY), "layers"),
    "a product that overflows": (npy(header(shape=(2**31, 2, 2**31, 2, 2**31)), BODY), "shape"),
    "a dimension above 2^64": (npy(header(shape=(2**70, 2, 1, 1, 1)), BODY), ""),
    "a negative dimension": (npy(header(shape=(-1, 2, 1, 1, 1)), BODY), "header"),
    "no shape": (npy("{'descr': '<f2', 'fortran_order': False}", BODY), "header"),
    "garbage for a header": (npy("import os", BODY), "header"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_npy_is_refused_and_nothing_is_created(kvq, tmp_path, name):
    content, word = BAD_FILES[name]
    (tmp_path / "bad.npy").write_bytes(content)
    refused(kvq("import", "a", tmp_path / "bad.npy", "--model", "m"), "bad.npy", word)
    assert kvq.json("sessions") == []


def test_npy_versions_1_to_3_are_read(kvq, cache, tmp_path):
    body = values(SHAPE, np.float16).tobytes()
    for version in (1, 2, 3):
        (tmp_path / "v.npy").write_bytes(npy(header(), body, (version, 0)))
        arguments = ("import", "a", tmp_path / "v.npy", "--model", "m", "--level", "exact", "--replace")
        assert kvq(*arguments).returncode == 0
        kvq("export", "a", tmp_path / "out.npy")
        assert np.array_equal(np.load(tmp_path / "out.npy"), np.load(cache))


@pytest.mark.parametrize("stands_in, said", [
    (np.float16, "f32"), (np.float16, "fp8_e4m3"), (np.uint16, "fp8_e5m2"), (np.uint8, "int8"),
    (np.int8, "fp8_e4m3"), (np.uint8, "bf16"),
])
def test_a_dtype_that_contradicts_the_file_is_refused(kvq, tmp_path, stands_in, said):
    path = save(tmp_path / "in.npy", np.zeros(SHAPE, stands_in))
    refused(kvq("import", "a", path, "--model", "m", "--dtype", said), "--dtype")


def test_a_file_that_is_absent_or_a_folder_is_refused(kvq, tmp_path):
    refused(kvq("import", "a", tmp_path / "none.npy", "--model", "m"), "No such file")
    refused(kvq("import", "a", tmp_path, "--model", "m"), "not a file")


def npz(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


K = np.ones((2, 5, 1, 8), np.float16)
GOOD_NPZ = npz(k=K, v=K)
BAD_NPZ = {
    "compressed": (npz(np.savez_compressed, k=K), "compressed"),
    "no k": (npz(v=K), "no array k"),
    "k of rank 3": (npz(k=K[0]), "shape"),
    "v with other tokens": (npz(k=K, v=K[:, 1:]), "differ"),
    "v of another dtype": (npz(k=K, v=K.astype(np.float32)), "differ"),
    "not a zip": (b"k" * 400, "not an .npz"),
    "cut": (GOOD_NPZ[:-30], "not an .npz"),
    "a bit flipped": (GOOD_NPZ.replace(K.tobytes(), K.tobytes()[:-1] + b"\x3d", 1), "damaged"),
}


@pytest.mark.parametrize("name", BAD_NPZ)
def test_a_bad_npz_is_refused(kvq, tmp_path, name):
    content, word = BAD_NPZ[name]
    (tmp_path / "bad.npz").write_bytes(content)
    refused(kvq("import", "a", tmp_path / "bad.npz", "--model", "m"), "bad.npz", word)


def test_an_npz_cut_anywhere_is_refused(kvq, tmp_path):
    path = tmp_path / "cut.npz"
    for length in range(1, len(GOOD_NPZ), 41):
        path.write_bytes(GOOD_NPZ[:length])
        refused(kvq("import", "a", path, "--model", "m"))


def test_an_npz_with_any_byte_of_its_directory_wrong_never_crashes(kvq, tmp_path):
    path = tmp_path / "odd.npz"
    for at in range(len(GOOD_NPZ) - 150, len(GOOD_NPZ)):
        odd = bytearray(GOOD_NPZ)
        odd[at] ^= 0xFF
        path.write_bytes(odd)
        result = kvq("import", "a", path, "--model", "m", "--replace")
        assert result.returncode in (0, 1), (at, result)


def test_a_failed_export_leaves_no_file_and_keeps_the_old_one(kvq, stored, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    assert kvq("export", "nothing", folder / "x.npy").returncode == 3
    assert kvq("export", "a", folder / "x.npy", "--tokens", "0:151").returncode == 3
    assert kvq("export", "a", folder / "x.npy", "--tokens", "150:").returncode == 3
    refused(kvq("export", "a", folder / "x.npy", "--layers", "0:4"), "layers")
    assert os.listdir(folder) == []
    (folder / "x.npy").write_text("mine")
    assert kvq("export", "nothing", folder / "x.npy").returncode == 3
    assert (folder / "x.npy").read_text() == "mine"


def test_an_export_into_no_folder_is_refused(kvq, stored, tmp_path):
    refused(kvq("export", "a", tmp_path / "none" / "x.npy"), "No such file")


def test_an_export_replaces_files_only(kvq, stored, tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    os.symlink("/dev/full", tmp_path / "device.npy")
    (tmp_path / "folder.npy").mkdir()
    for name in ("pipe.npy", "device.npy", "folder.npy"):
        refused(kvq("export", "a", tmp_path / name), name, "not a file")
    assert (tmp_path / "pipe.npy").is_fifo() and (tmp_path / "device.npy").is_symlink()


def test_an_exported_file_has_the_mode_that_the_umask_leaves(kvq, stored, tmp_path):
    kvq("export", "a", tmp_path / "x.npy", umask=0o027)
    assert os.stat(tmp_path / "x.npy").st_mode & 0o777 == 0o640


@pytest.mark.memory("64M")
def test_an_import_that_does_not_fit_leaves_no_session(kvq, tmp_path):
    large = save(tmp_path / "large.npy", values((4, 2, 8192, 8, 128), np.float16))
    result = kvq("import", "a", large, "--model", "m", "--level", "exact")
    refused(result, "--memory")
    assert kvq.json("sessions") == []


def test_an_npz_of_more_tokens_than_one_append_takes_is_whole(kvq, tmp_path):
    tokens = 8192 * 128 + 77  # an append has at most 8,192 runs of at most 128 tokens
    k = np.arange(2 * tokens * 2, dtype=np.uint32).astype(np.uint16).reshape(2, tokens, 1, 2)
    np.savez(tmp_path / "in.npz", k=k)
    result = kvq("import", "a", tmp_path / "in.npz", "--model", "m", "--level", "exact", "--dtype", "bf16")
    assert result.returncode == 0, result.stderr
    assert kvq("export", "a", tmp_path / "out.npz").returncode == 0
    assert np.array_equal(np.load(tmp_path / "out.npz")["k"], k)


def test_an_import_may_keep_summaries_of_its_keys(kvq, cache):
    assert kvq("import", "a", cache, "--model", "m", "--key-summaries").returncode == 0
    assert "can be recalled by" in kvq("info", "a").stdout
    assert kvq("import", "b", cache, "--model", "m").returncode == 0
    assert "can be recalled by" not in kvq("info", "b").stdout
