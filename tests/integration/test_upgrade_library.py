"""Programs that were built against the headers of 0.1, in tests/golden/0.1, go on with today's library.

Until 0.1.0 is out its headers may be copied there anew. From then on a structure of options grows at its end, one of
results does not, and a call that must give more gets another symbol version.
"""

import os
import re
import subprocess

import pytest
from cffi import FFI
from conftest import ROOT

BUILD = ROOT / (os.environ.get("KVQ_BUILD") or "build")
FROZEN = ROOT / "tests/golden/0.1"
HEADERS = {"kvq.h": ROOT / "client/c/kvq.h", "kvq_retriever.h": ROOT / "daemon/recall/kvq_retriever.h"}

PRINTED = """\
created 1, level -2, 100 tokens
fetched 100 tokens, the same
matched 100 tokens of chat
attached state
recalled here at 8 of chat
a block of 16 tokens
chat of model, 100 tokens, level -2, tenant default
chat has 100 tokens
fork has 10 tokens
2 sessions, 116 tokens appended, state 1
deleted 1, then miss
"""


def code_of(path):
    """Declarations alone: no comments, no preprocessor, no linkage."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def fields_of(ffi, kind, at=0, prefix=""):
    """{path of a field: where it is, and what}, those of structures within it, too."""
    found = {}
    for name, field in kind.fields or ():
        inside = fields_of(ffi, field.type, at + field.offset, f"{prefix}{name}.") if field.type.kind == "struct" else {}
        found |= inside or {prefix + name: (at + field.offset, ffi.sizeof(field.type), field.type.kind)}
    return found


class Interface:
    def __init__(self, path):
        code, ffi = code_of(path), FFI()
        ffi.cdef(code)
        kinds = [ffi.typeof(f"struct {name}") for name in ffi.list_types()[1]]
        kinds = [kind for kind in kinds if kind.fields]
        self.fields = {kind.cname: fields_of(ffi, kind) for kind in kinds}
        self.sizes = {kind.cname: ffi.sizeof(kind) for kind in kinds}
        self.numbers = {name: int(number) for name, number in re.findall(r"\b(KVQ_\w+) = (-?\d+)\b", code)}
        declared = re.findall(r"^[a-z][\w *]*?\b(kvq_\w+)\(([^;]*)\);", code, re.MULTILINE)
        self.calls = {name: " ".join(arguments.split()) for name, arguments in declared}


@pytest.fixture(params=HEADERS)
def header(request):
    return request.param


@pytest.fixture
def then(header):
    return Interface(FROZEN / header)


@pytest.fixture
def now(header):
    return Interface(HEADERS[header])


def missing(then, now):
    """What was there and is not as it was."""
    return {name: (value, now.get(name)) for name, value in then.items() if now.get(name) != value}


def test_every_field_is_where_it_was(then, now):
    assert len(then.fields) > 3
    for name, fields in then.fields.items():
        assert missing(fields, now.fields[name]) == {}, name


def test_only_what_begins_with_its_size_has_grown(then, now):
    fixed = {name: size for name, size in then.sizes.items() if "size" not in then.fields[name]}
    assert missing(fixed, now.sizes) == {}
    assert [name for name, size in then.sizes.items() if now.sizes[name] < size] == []


def test_every_number_and_every_call_is_what_it_was(then, now):
    assert missing(then.numbers, now.numbers) == missing(then.calls, now.calls) == {}


@pytest.mark.skipif(bool(os.environ.get("KVQ_SANITIZE")), reason="a library with a sanitizer in it is not for others to link")
def test_a_program_of_0_1_does_what_it_did(daemon, tmp_path):
    program = tmp_path / "program"
    subprocess.run(["cc", "-Wall", "-Werror", "-I", FROZEN, "-o", program, FROZEN / "program.c", f"-L{BUILD}", "-lkvq"],
                   check=True, timeout=300)
    done = subprocess.run([program, daemon.socket], env={**os.environ, "LD_LIBRARY_PATH": str(BUILD)}, text=True,
                          capture_output=True, timeout=300)
    assert done.stdout == PRINTED and done.returncode == 0, done.stderr
