"""The targets of tests/fuzz over their corpus and some hundreds of changes of each input, without libFuzzer.

`make fuzz` goes on from there.
"""

import os
import pathlib
import subprocess

import pytest

FUZZ = pathlib.Path(__file__).resolve().parents[1] / "fuzz"
BUILD = pathlib.Path(os.environ.get("KVQ_BUILD", FUZZ.parents[1] / "build"))
CORPORA = sorted(path for path in (FUZZ / "corpus").iterdir())
CHANGES, SECONDS = 400, 3  # of each input; of a target, then it is enough


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.name)
def test_no_input_breaks_a_target(corpus, tmp_path):
    command = [BUILD / "tests" / "fuzz" / f"replay_{corpus.name}", f"-changes={CHANGES}", f"-seconds={SECONDS}"]
    done = subprocess.run([*command, *sorted(corpus.iterdir())], cwd=tmp_path, text=True, errors="replace",
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"{done.stdout}\nthe input is in {tmp_path}/broken-input"


def test_every_target_has_a_corpus():
    targets = {path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.c")}
    of_pages = {"page_bytes", "page_values"}  # what tests/unit does has no files
    assert {path.name for path in CORPORA} == targets - of_pages
