"""The example as `make run` runs it: two processes, one daemon, five levels."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = os.environ.get("KVQ_BUILD", "build")
ROW = re.compile(r"^ +(exact|fast8|[0-5]) +[\d.]+ MiB +([\d.]+) .* (\d+) +(\d+)$", re.MULTILINE)


def tool(name, *arguments):
    done = subprocess.run([f"tools/{name}", *map(str, arguments)], cwd=ROOT, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=600)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What is printed by the second of two runs, for each level: ratio, tokens the same, next."""
    run = tmp_path_factory.mktemp("run")
    try:
        tool("run.sh", BUILD, run)
        again = tool("run.sh", BUILD, run)
    finally:
        ended = tool("stop.sh", run)
    assert "runs already" in again
    assert "has ended" in ended
    assert not (run / "kvquantd.sock").exists()
    return {level: (float(ratio), int(same), int(following))
            for level, ratio, same, following in ROW.findall(again)}


def test_every_level_is_shown(shown):
    assert list(shown) == ["exact", "fast8", "1", "3", "4"]


def test_an_exact_session_goes_on_as_the_uncompressed_cache_does(shown):
    assert shown["exact"][1:] == (64, 64)


def test_a_coarser_level_takes_less(shown):
    ratios = [ratio for ratio, _, _ in shown.values()]
    assert ratios == sorted(ratios)
    assert shown["3"][0] > 4


def test_a_compressed_session_mostly_chooses_the_same_next_token(shown):
    assert all(following >= 54 for _, _, following in shown.values())
