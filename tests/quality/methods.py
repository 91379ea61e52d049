"""What a method is to the bench, and how one is found by name.

A method is a class with
    name: what the tables call it
    saves_engine_memory: whether an engine can attend to what it stores, so that it saves memory
        while a session is active, too
    counted: what it stores, in words
    __init__(geometry): a kvquantd.Geometry: layers, heads, head_dim, dtype and rope of the model
    encode(k, v) -> what is stored: arrays or bytes, in tuples, lists and dictionaries as it likes
    decode(stored) -> k, v
K and V are [layers, tokens, heads, head_dim], float16 as the model left them, any float as they come
back. Every byte of every array counts; names, shapes and numbers by themselves do not.
"""

import importlib
import importlib.util
import pathlib
import sys

from samples import AT_REST, IN_ENGINE, Row


def bytes_of(stored):
    """Of all arrays and byte strings in it."""
    if isinstance(stored, dict):
        return bytes_of(list(stored.values()))
    if isinstance(stored, (list, tuple)):
        return sum(map(bytes_of, stored))
    if isinstance(stored, (bytes, bytearray)):
        return len(stored)
    if stored is None or isinstance(stored, (int, str)):
        return 0
    return stored.nbytes  # of an array or a tensor


class Codec:
    """A method class, as a row of the tables."""

    def __init__(self, method, geometry):
        self.method = method(geometry)
        self.row = Row(self.method.name, IN_ENGINE if self.method.saves_engine_memory else AT_REST,
                       self.method.counted)

    def sample(self, continuation):
        stored = self.method.encode(continuation.k, continuation.v)
        k, v = self.method.decode(stored)
        return continuation.sample(self.row, bytes_of(stored), k, v)


def find(specification):
    """The class of `module:Class` or `path/to/file.py:Class`."""
    where, _, name = specification.rpartition(":")
    try:
        return getattr(load(where), name)
    except (ImportError, OSError, AttributeError) as error:
        raise SystemExit(f"--method {specification}: {error}") from None


def load(where):
    if not where.endswith(".py"):
        sys.path.insert(0, "")
        return importlib.import_module(where)
    path = pathlib.Path(where)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
