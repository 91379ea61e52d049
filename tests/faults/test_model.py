"""The store against a simple reference, by random programs of operations."""

import os
import random

from faults import amount, run_check

SEED = int(os.environ.get("KVQ_SEED") or random.randrange(1 << 32))


def test_the_store_does_what_a_simple_reference_does():
    run_check("model_check", amount(usual=80000, torture=1000000, sanitized=10000))


def test_so_it_does_in_programs_that_nobody_has_run_before():
    print("KVQ_SEED =", SEED)
    run_check("model_check", amount(usual=20000, torture=200000, sanitized=5000), SEED)
