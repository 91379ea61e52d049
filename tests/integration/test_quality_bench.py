"""make bench-quality: a run as its smoke test makes it, and the known methods' bytes and values."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import kvquantd
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUALITY = ROOT / "tests" / "quality"
BUILD = pathlib.Path(os.environ.get("KVQ_BUILD", ROOT / "build"))
DAEMON = os.environ.get("KVQUANTD", BUILD / "kvquantd")
LEVELS = ["exact", "fast8", *(f"level {n}" for n in range(6))]
sys.path.append(str(QUALITY))
import known_methods  # noqa: E402
from methods import Codec, bytes_of, find  # noqa: E402
from samples import level_bits_at  # noqa: E402

GEOMETRY = kvquantd.Geometry(layers=2, heads=3, head_dim=64, dtype="float16")


class Report:
    def __init__(self, folder):
        command = [sys.executable, QUALITY / "bench.py", "--quick", "--output", folder, "--work",
                   ROOT / "build" / "run", "--daemon", DAEMON,
                   "--method", f"{QUALITY}/example_method.py:ShortMantissas"]
        # Two threads that wait for each other take several times as long where others compute.
        self.printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600,
                                      env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}).stdout
        self.files = {kind: (folder / f"quality.{kind}").read_text()
                      for kind in ("md", "json", "csv", "svg")}
        self.rows = {row["method"]: row for row in json.loads(self.files["json"])["methods"]}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return Report(tmp_path_factory.mktemp("quality"))


def test_what_is_printed_is_what_is_written(report):
    assert report.printed == report.files["md"]


def test_every_level_known_method_and_method_of_ones_own_has_a_row(report):
    known = {method.name for method in known_methods.KNOWN_METHODS}
    assert {"16-bit cache", *LEVELS, "level 3, active", *known, "short mantissas"} <= set(report.rows)


def test_a_line_of_csv_and_a_point_of_the_plot_for_each_row(report):
    lines = list(csv.DictReader(report.files["csv"].splitlines()))
    assert [line["method"] for line in lines] == list(report.rows)
    titles = [node.text for node in xml.etree.ElementTree.fromstring(report.files["svg"]).iter()
              if node.tag.endswith("}title")]
    lossy = [name for name in report.rows if name not in ("16-bit cache", "exact")]
    assert [title.split(":")[0] for title in titles] == lossy


def test_exact_loses_nothing_and_a_coarser_level_takes_less_and_loses_more(report):
    assert report.rows["exact"]["kld_mean"] == 0 and report.rows["exact"]["same_top"] == 1
    rows = [report.rows[name] for name in LEVELS]
    assert [row["bits_per_value"] for row in rows] == sorted(
        (row["bits_per_value"] for row in rows), reverse=True)
    assert [row["kld_mean"] for row in rows] == sorted(row["kld_mean"] for row in rows)


def test_a_method_is_told_what_levels_take_for_its_loss():
    levels = [{"kld_mean": kld, "bits_per_value": bits} for kld, bits in ((1e-2, 3), (1e-4, 5))]
    assert level_bits_at(1e-3, levels) == pytest.approx(4)
    assert level_bits_at(1e-5, levels) is None


def test_an_active_sessions_tail_is_counted_as_it_came(report):
    idle, active = (report.rows[name]["bits_per_value"] for name in ("level 3", "level 3, active"))
    tail = 300 % 128 / 300  # of the context of the smoke test
    assert active == pytest.approx(idle * (1 - tail) + 16 * tail, rel=0.05)


def test_a_row_that_is_none_is_named_before_anything_is_measured():
    done = subprocess.run([sys.executable, QUALITY / "bench.py", "--quick", "--only", "level 7",
                           "--work", ROOT / "build" / "run", "--daemon", DAEMON],
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "no row level 7" in done.stderr


def cache(tokens, seed=1):
    """K and V of a model whose keys have a large mean in some channels."""
    random = np.random.default_rng(seed)
    k, v = random.normal(size=(2, 2, tokens, 3, 64))
    k[..., ::16] += 8
    return k.astype(np.float16), v.astype(np.float16)


def through(method, tokens=300):
    """Bits a value, and the squared error over the energy of K and of V."""
    k, v = cache(tokens)
    codec = method(GEOMETRY)
    stored = codec.encode(k, v)
    restored = codec.decode(stored)
    losses = []
    for given, back in zip((k, v), restored):
        assert back.shape == given.shape
        given = given.astype(np.float64)
        losses.append(((given - back) ** 2).sum() / (given**2).sum())
    return 8 * bytes_of(stored) / (k.size + v.size), losses


@pytest.mark.parametrize("name, bits", [
    ("Q8_0", 8.5), ("Q5_1", 6), ("Q4_0", 4.5), ("RotatedQ4_0", 4.5), ("Fp8", 8),
    # 300 tokens: 44 fill no window, a float16 pair for 32 codes; of V the newest 128 stay
    ("Kivi4", (256 * 5 + 44 * 16 + 172 * 5 + 128 * 16) / 600),
    ("Kivi2", (256 * 3 + 44 * 16 + 172 * 3 + 128 * 16) / 600),
    ("OneScale", 4 + 2 * 2 * 32 / (2 * 2 * 300 * 3 * 64)),
])
def test_a_known_method_stores_the_bits_it_is_known_for(name, bits):
    assert through(getattr(known_methods, name))[0] == pytest.approx(bits)


@pytest.mark.parametrize("name, loss_max", [
    ("Q8_0", 1e-4), ("Q5_1", 2.5e-3), ("Q4_0", 2.5e-2), ("RotatedQ4_0", 1e-2), ("Fp8", 1e-3),
    ("Kivi4", 5e-3), ("Kivi2", 0.12), ("OneScale", 0.06)])
def test_a_known_method_gives_back_about_what_it_was_given(name, loss_max):
    losses = through(getattr(known_methods, name))[1]
    assert all(0 < loss < loss_max for loss in losses)


def test_kivi_keeps_a_cache_shorter_than_its_window_as_it_is():
    assert through(known_methods.Kivi4, 100) == (16, [0, 0])


def test_float8_rounds_to_nearest_even_and_saturates():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = x[np.abs(x.astype(np.float32)) <= 448].astype(np.float32).reshape(1, 1, -1)
    fp8 = known_methods.Fp8(GEOMETRY)
    expected = x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert np.array_equal(fp8.decode_k(fp8.encode_k(x)), expected)
    huge = np.full((1, 1, 2), 6e4, np.float32) * [1, -1]
    assert fp8.decode_k(fp8.encode_k(huge)).tolist() == [[[448, -448]]]


def test_rotation_spreads_one_value_over_a_head_and_is_its_own_inverse():
    x = np.zeros((1, 1, 64), np.float32)
    x[..., 5] = 8
    assert np.array_equal(np.abs(known_methods.rotate(x)), np.ones_like(x))
    assert np.array_equal(known_methods.rotate(known_methods.rotate(x)), x)


def test_every_byte_of_what_is_stored_counts():
    stored = {"codes": np.zeros((3, 5), np.uint8), "rest": [b"1234", (np.float32(1), 7, None)]}
    assert bytes_of(stored) == 15 + 4 + 4


def test_a_method_is_found_by_module_or_file_and_a_wrong_name_said():
    example = find(f"{QUALITY}/example_method.py:ShortMantissas")
    assert Codec(example, GEOMETRY).row.name == "short mantissas"
    assert find("known_methods:Q4_0") is known_methods.Q4_0
    with pytest.raises(SystemExit, match="no_such"):
        find("known_methods:no_such")
