"""Several threads on the same sessions: under the thread sanitizer above all."""

import os
import random

from faults import amount, run_check

SEED = int(os.environ.get("KVQ_SEED") or random.randrange(1 << 32))


def test_threads_on_the_same_sessions_see_whole_tokens_in_their_places():
    print("KVQ_SEED =", SEED)
    for seed in (SEED, SEED + 1):
        run_check("race_check", amount(usual=3, torture=300, sanitized=5), seed)
