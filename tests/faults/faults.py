"""What the tests in this folder share: how much to do, and the programs that they run."""

import os
import pathlib
import subprocess

TORTURE = bool(os.environ.get("KVQ_TORTURE"))
SANITIZED = bool(os.environ.get("KVQ_SANITIZE"))
BUILD = pathlib.Path(os.environ.get("KVQ_BUILD") or pathlib.Path(__file__).parents[2] / "build")


def amount(usual, torture, sanitized=None):
    """How many times to try something."""
    if TORTURE:
        return torture
    return (sanitized or max(1, usual // 10)) if SANITIZED else usual


def run_check(name, *arguments, seconds=3600):
    """Runs a program of this folder, which says on stdout and stderr what it finds."""
    done = subprocess.run([BUILD / "tests/faults" / name, *map(str, arguments)], text=True,
                          errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=seconds)
    assert done.returncode == 0, done.stdout[-20000:]
