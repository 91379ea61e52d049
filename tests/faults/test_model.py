"""The store against a simple reference, by random programs of operations."""

import os
import pathlib
import random

from faults import amount, run_check

SEED = int(os.environ.get("KVQ_SEED") or random.randrange(1 << 32))


def test_the_store_does_what_a_simple_reference_does():
    run_check("model_check", amount(usual=80000, torture=1000000, sanitized=10000))


def test_so_it_does_in_programs_that_nobody_has_run_before():
    print("KVQ_SEED =", SEED)
    run_check("model_check", amount(usual=20000, torture=200000, sanitized=5000), SEED)


def test_what_killed_programs_left_behind_is_in_nobodys_way():
    """Their folders are named by processes whose numbers come again."""
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    left = [pathlib.Path(f"{folder}/kvq-model-{os.getpid() + i}") for i in range(1, 3000)]
    try:
        for path in left:
            path.mkdir(exist_ok=True)
        run_check("model_check", 5000)
    finally:
        for path in left:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()
