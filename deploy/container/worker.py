"""A worker of the example in compose.yaml: stores a conversation and goes away, or resumes what another stored.

    worker.py store|resume SESSION

The values are made up; in an inference worker they come from the model.
"""

import sys

import kvquantd
import numpy as np

GEOMETRY = kvquantd.Geometry(layers=16, heads=8, head_dim=64, dtype="float16")
TURN_TOKENS = 512


def made_up(turn):
    """K and V of one turn: [layers, tokens, heads, head_dim] each."""
    shape = (2, GEOMETRY.layers, TURN_TOKENS, GEOMETRY.heads, GEOMETRY.head_dim)
    return np.random.default_rng(turn).standard_normal(shape, np.float32).astype(np.float16)


def store(client, name):
    session = client.open(name, model="none", geometry=GEOMETRY, level="exact")
    session.truncate(0)
    session.append(*made_up(turn=1), settle=True)
    print(f"stored {session.tokens} tokens in {name}, {session.info()['stored_bytes']:,} bytes")


def resume(client, name):
    session = client.open(name)
    if not np.array_equal(session.fetch(), made_up(turn=1)):
        raise SystemExit(f"what is in {name} is not what was stored")
    print(f"resumed {name} with {session.tokens} tokens, bit for bit what was stored")
    session.append(*made_up(turn=2), settle=True)
    print(f"went on to {session.tokens} tokens")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("store", "resume"):
        raise SystemExit(__doc__)
    with kvquantd.connect() as connected:
        (store if sys.argv[1] == "store" else resume)(connected, sys.argv[2])
