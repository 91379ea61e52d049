"""What the tests in this folder share: how much to do, and the programs that they run."""

import mmap
import os
import pathlib
import struct
import subprocess
import time

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
    said = done.stdout
    if len(said) > 20000:  # what it failed by comes first
        said = f"{said[:5000]}\n...\n{said[-15000:]}"
    assert done.returncode == 0, said


def soon(condition, seconds=60):
    """Waits until it is so, looking often: most of the time it is so at once."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.001)


class Faults:
    """What fail_nth.c, preloaded into a daemon, makes fail: a file that both map."""

    KINDS = ("memory mapping space opening accepting writing reading syncing renaming sending receiving").split()
    CONTROL = struct.Struct("=7Q")  # kinds, nth, sticky, how, second, calls, failed
    HOW = ("fail", "do half", "kill", "kill after half")

    def __init__(self, folder):
        self.path = folder / "faults"
        self.path.write_bytes(bytes(self.CONTROL.size))
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), self.CONTROL.size)
        self.environment = {"LD_PRELOAD": str(BUILD / "tests/faults/fail_nth.so"),
                            "KVQ_FAULTS": str(self.path)}

    def arm(self, nth, kinds=KINDS, sticky=False, how="fail", second=0):
        """From now on counts calls of these kinds; with the nth this happens, and with the `second` behind it."""
        bits = sum(1 << self.KINDS.index(kind) for kind in kinds)
        self.memory[8:] = self.CONTROL.pack(0, nth, sticky, self.HOW.index(how), second, 0, 0)[8:]
        self.memory[:8] = struct.pack("=Q", bits)

    def disarm(self):
        """Calls that were counted, and how many of them failed."""
        self.memory[:8] = bytes(8)
        return self.CONTROL.unpack(self.memory[:])[5:]
