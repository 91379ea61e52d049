"""make bench-codec's tables: made of lines as bench_codec prints them."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "bench"))
import codec_tables  # noqa: E402


def lines_of(kernels, level, placement="memory", data="real", dtype="f16", bits=3.1, **fractions):
    same = {"kernels": kernels, "placement": placement, "data": data, "dtype": dtype, "heads": 3,
            "head_dim": 64, "pages": 2, "bytes": 1e6}
    copies = {"kind": "codec copies", **same, "memcpy_gb_per_second": 10.0, "memcpy_of_memcpy": 1.0,
              "streaming_gb_per_second": 12.0, "streaming_of_memcpy": 1.2}
    speeds = {f"{operation}_of_memcpy": value for operation, value in fractions.items()}
    speeds |= {f"{operation}_gb_per_second": 10 * value for operation, value in fractions.items()}
    return [copies, {"kind": "codec", **same, "level": level, "bits_per_value": bits, **speeds}]


def tables_of(lines):
    machine = {"processor": "one", "load": 0.0}
    return {table.title: table for table in
            codec_tables.tables_of({"machine": machine, "mib": 128, "lines": lines})}


def row(table, *first):
    found = [row for row in table.rows if row[:len(first)] == list(first)]
    assert len(found) == 1, table.rows
    return found[0]


@pytest.mark.parametrize("pair, verdict", [(0.86, "PASS"), (0.84, "MISS")])
def test_decoding_in_pairs_is_what_is_aimed_at(pair, verdict):
    tables = tables_of(lines_of("avx512", 3, pair=pair, decode=2.0, encode=0.5, age=0.5))

    found = row(tables["What is aimed at: speed"], "level 3, avx512", "real", "decode in pairs")

    assert found[-1] == verdict


def test_what_is_in_the_caches_is_not_compared_with_the_aims():
    tables = tables_of(lines_of("avx512", 3, placement="cache", pair=2.0, decode=2.0, encode=2.0))

    assert "What is aimed at: speed" not in tables


def test_kernels_that_were_not_measured_are_named():
    tables = tables_of(lines_of("portable", 4, pair=0.2, decode=0.2, encode=0.1))

    assert "avx2, avx512" in tables["What is aimed at: speed"].note


def test_ageing_is_left_open_where_a_level_does_not_age():
    line = lines_of("avx512", 5, pair=1.0, decode=1.0, encode=1.0)
    speeds = next(table for title, table in tables_of(line).items() if title.startswith("avx512: real"))

    assert row(speeds, "level 5")[-2:] == ["", ""]


@pytest.mark.parametrize("bits, verdict", [(3.26, "PASS"), (3.28, "MISS")])
def test_bits_are_compared_on_real_values(bits, verdict):
    tables = tables_of(lines_of("portable", 3, bits=bits, pair=0.2, decode=0.2, encode=0.1))

    assert row(tables["What is aimed at: bits a value"], "level 3", "f16")[-1] == verdict


def test_a_table_says_what_copies_took_beside_it():
    tables = tables_of(lines_of("avx512", 3, pair=1.0, decode=1.0, encode=1.0))

    assert ("memcpy 10.00 GB/s; a copy with streaming stores 12.00 GB/s, 1.20 of memcpy"
            in tables["avx512: real 3x64 f16, from memory to memory"].note)
