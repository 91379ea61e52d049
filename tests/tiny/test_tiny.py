"""The page codec's portable C without a C library: what it needs, and that its bytes are the host's.

Under qemu, on a Cortex-M7 (all of the codec) and a Cortex-M3 (the decoder). What decoding may take of
RAM and stack is said in config/profiles/tiny.json.
"""

import json
import os
import pathlib
import re
import subprocess

import pytest
from call_graph import CallGraph

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = pathlib.Path(os.environ.get("KVQ_BUILD") or ROOT / "build") / "tiny"
PROFILE = json.loads((ROOT / "config/profiles/tiny.json").read_text())
BOARDS = {"cortex-m7": ("mps2-an500", "check_codec"), "cortex-m3": ("mps2-an385", "check_decoder")}
KERNELS = r"page_\w+_portable"  # what is called through the table of kernels
RUN_SECONDS = 300
FIGURE = re.compile(r"^(\w+) (\d+)$", re.MULTILINE)
VERDICT = re.compile(r"^(\S+) (encoded|aged|decoded|workspace) (same|differs)$", re.MULTILINE)


class Run:
    """A program's run on a board: its figures, and what it says of each vector."""

    def __init__(self, processor):
        board, program = BOARDS[processor]
        done = subprocess.run(
            ["qemu-system-arm", "-M", board, "-display", "none", "-monitor", "none", "-serial", "none",
             "-semihosting-config", "enable=on,target=native", "-kernel", f"{processor}/{program}.elf"],
            cwd=TINY, text=True, capture_output=True, timeout=RUN_SECONDS, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        output = done.stdout + done.stderr
        self.figures = {name: int(number) for name, number in FIGURE.findall(output)}
        self.verdicts = VERDICT.findall(output)

    def of(self, what):
        """How many vectors there is a verdict on, and which are not as on the host."""
        said = [(name, verdict) for name, about, verdict in self.verdicts if about == what]
        return len(said), [name for name, verdict in said if verdict != "same"]


@pytest.fixture(scope="module")
def runs():
    return {processor: Run(processor) for processor in BOARDS}


@pytest.fixture(scope="module")
def graphs():
    return {processor: CallGraph(TINY / processor, KERNELS) for processor in BOARDS}


@pytest.fixture(params=BOARDS)
def processor(request):
    return request.param


def symbols(*options):
    return subprocess.run(["arm-none-eabi-nm", *map(str, options)], check=True, text=True,
                          capture_output=True).stdout


def test_values_are_encoded_to_the_hosts_bytes(runs):
    count, differing = runs["cortex-m7"].of("encoded")
    assert count == runs["cortex-m7"].figures["vectors"] >= 90 and differing == []


def test_a_page_ages_to_the_hosts_bytes(runs):
    count, differing = runs["cortex-m7"].of("aged")
    assert count >= 2 and differing == []


def test_pages_are_decoded_to_the_hosts_values(runs, processor):
    count, differing = runs[processor].of("decoded")
    assert count == runs[processor].figures["vectors"] >= 90 and differing == []


def test_the_decoder_writes_nothing_behind_the_workspace_that_it_asks_for(runs, processor):
    count, differing = runs[processor].of("workspace")
    assert count == runs[processor].figures["vectors"] and differing == []


def test_workspace_and_a_pages_values_are_within_the_profiles_ram(runs, processor):
    _, heads, _, head_dim = PROFILE["shape"]
    values_bytes = 2 * 128 * heads * head_dim
    needed = runs[processor].figures["decoder_workspace_bytes"] + values_bytes
    assert needed <= PROFILE["decoder"]["ram_bytes"]


def test_the_longest_chain_of_calls_is_within_the_profiles_stack(graphs, processor):
    needed = PROFILE["decoder"]["stack_needed_bytes"][processor]
    assert graphs[processor].depth("page_peek") <= graphs[processor].depth("page_decode") <= needed
    assert needed <= PROFILE["decoder"]["stack_bytes"]


def test_no_run_takes_more_stack_than_the_longest_chain_of_calls(graphs, runs, processor):
    used = runs[processor].figures["decoder_stack_bytes"]
    assert 0 < used <= graphs[processor].depth("page_decode")
    if "encoder_stack_bytes" in runs[processor].figures:
        assert runs[processor].figures["encoder_stack_bytes"] <= graphs[processor].depth("page_encode")


def test_the_size_of_every_frame_is_known_when_it_is_compiled(graphs, processor):
    assert set(graphs[processor].kinds.values()) == {"static"}


def test_a_program_of_the_decoder_has_only_memcpy_and_memset_of_a_c_library(processor):
    """It is linked with nothing but gcc's own arithmetic (__aeabi_...)."""
    objects = list((TINY / processor / "proto/page").glob("*.o"))
    defined = set(re.findall(r" [TRDB] (\w+)$", symbols("-g", "--defined-only", *objects), re.MULTILINE))
    wanted = set(re.findall(r" U (\w+)$", symbols("-u", *objects), re.MULTILINE)) - defined
    foreign = {name for name in wanted if not name.startswith("__aeabi_")}
    without_fpu = {"sqrtf"} if processor == "cortex-m3" else set()  # of the encoder
    assert foreign - without_fpu == {"memcpy", "memset"}


def test_the_codec_keeps_no_state(processor):
    objects = (TINY / processor / "proto/page").glob("*.o")
    assert re.findall(r" [BbDd] (\w+)$", symbols(*objects), re.MULTILINE) == []
