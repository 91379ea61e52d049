"""What a model is called, so that no other weights, nor settings that change K and V, have its name."""

from __future__ import annotations

import hashlib
import pathlib
import re
from typing import Iterable

PIECE = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
READ_BYTES = 1 << 22
STEM_MAX = 80  # a model has at most 255 bytes


def files_of(path: str) -> list[pathlib.Path]:
    """A GGUF file, or all pieces of one that is split."""
    piece = PIECE.search(path)
    if not piece:
        return [pathlib.Path(path)]
    start = pathlib.Path(path[: piece.start()])
    return sorted(start.parent.glob(f"{_escaped(start.name)}-*-of-{piece[1]}.gguf"))


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def digest_of_files(paths: Iterable[pathlib.Path]) -> str:
    """Of all that is in them: about a second for each GB, once."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def model_name(path: str) -> str:
    paths = files_of(path)
    return f"{paths[0].stem[:STEM_MAX]}@{digest_of_files(paths)[:32]}"


def digest_of_settings(settings: object) -> str:
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
