"""A model's cache as engines hold it, and what an engine does with its adapter, the same for all."""

import abc
import math

import kvquantd
import numpy as np
import torch
from kvquantd import _blocks
from kvquantd._kvq import ffi
from wire_support import wait_until

MODEL = "sha256:weights"
LAYERS, HEADS, DIM, TOKENS = 3, 4, 64, 128
SHAPE = (2, LAYERS, TOKENS, HEADS, DIM)  # K, then V
LONG = 60  # seconds that are not meant to pass


def chunk(number, dtype=torch.float16):
    """K and V of some tokens, all heads."""
    values = np.random.default_rng(number).standard_normal(SHAPE).astype(np.float32)
    return torch.from_numpy(values).to(dtype)


def of_rank(values, rank, degree):
    """As a tensor-parallel rank has it."""
    share = HEADS // degree
    return values[:, :, :, rank * share:(rank + 1) * share].contiguous()


class Engine(abc.ABC):
    """An engine that has chunks by number. Each call returns when the adapter has answered."""

    store_options = {"model": MODEL, "level": "exact", "deadline": LONG, "retry_after": 5, "lease": 3600}

    @property
    @abc.abstractmethod
    def breaker(self):
        """That of the adapter."""

    @abc.abstractmethod
    def store(self, number):
        """Whether chunk(number) is stored now."""

    @abc.abstractmethod
    def holds(self, number):
        """What a look-up says."""

    @abc.abstractmethod
    def load(self, number):
        """What the adapter fetches into memory that held something else, or None for a miss."""

    @abc.abstractmethod
    def close(self):
        """Ends the adapter."""

    def hits(self, number):
        loaded = self.load(number)
        return loaded is not None and torch.equal(loaded, chunk(number))


def signal_to_noise_db(got, expected):
    noise = (got.double() - expected.double()).square().mean()
    return float(10 * torch.log10(expected.double().square().mean() / noise))


def check_loss(load, report):
    """What is lost of chunk(1) is what is reported, but where it was coded anew between the two."""
    def so():
        got = load()
        lost = [signal_to_noise_db(part, expected) for part, expected in zip(got, chunk(1))]
        return all(abs(one - reported) < 0.2 for one, reported in zip(lost, report()))

    wait_until(so)


def reported_db(socket, key, geometry, tokens):
    """What the daemon says is lost of a block: signal to noise of K and of V."""
    with kvquantd.connect(socket) as client:
        blocks = client.blocks(MODEL, geometry)
        call = _blocks.get(blocks._blocks, geometry, [key], tokens, None)
        result = ffi.new("struct kvq_fetch_result *")
        call.arguments = (*call.arguments[:-1], result)
        assert client._run(call)[0] is not None
        return tuple(10 * math.log10(part.energy / part.error) for part in (result.k, result.v))
