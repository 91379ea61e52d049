"""Flipped bits, overwritten and misplaced stretches, cut files: none makes the disk give a wrong value."""

import os
import random

import pytest
from faults import amount, run_check

SEED = int(os.environ.get("KVQ_SEED") or random.randrange(1 << 32))


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_damaged_files_give_what_was_written_last_or_nothing(kind):
    print("KVQ_SEED =", SEED)
    run_check("flip_check", amount(usual=5000, torture=500000, sanitized=300), SEED, kind, seconds=20000)
