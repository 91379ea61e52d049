"""Builds kvquantd._kvq from the declarations of kvq.h against libkvq.a.

KVQUANT_BUILD names the folder with libkvq.a; without it, build/ of the checkout.
"""

import os
import pathlib
import re
import subprocess

from cffi import FFI

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("KVQUANT_BUILD") or HERE.parents[1] / "build").resolve()
HEADER = HERE.parent / "c" / "kvq.h"


def declarations(header):
    """What cffi takes of a C header: no comments, no preprocessor, no linkage."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def protobuf_c():
    """The static library where it can be part of a shared object, so that a wheel stands alone."""
    folder = subprocess.run(
        ["pkg-config", "--variable=libdir", "libprotobuf-c"], capture_output=True, text=True
    ).stdout.strip()
    library = pathlib.Path(folder, "libprotobuf-c.a")
    if folder and library.exists():
        return {"extra_objects": [str(library)], "libraries": ["m"]}
    return {"extra_objects": [], "libraries": ["protobuf-c", "m"]}


library = BUILD / "libkvq.a"
if not library.exists():
    raise SystemExit(f"{library} is missing: run make first, or set KVQUANT_BUILD to its folder")

linking = protobuf_c()
builder = FFI()
builder.cdef(declarations(HEADER.read_text()))
builder.set_source(
    "kvquantd._kvq",
    '#include "kvq.h"',
    include_dirs=[str(HEADER.parent)],
    extra_objects=[str(library), *linking["extra_objects"]],
    libraries=linking["libraries"],
    extra_link_args=["-Wl,--exclude-libs,ALL"],
)

if __name__ == "__main__":
    builder.compile(verbose=True)
