"""Builds kvquantd._kvq from the declarations of kvq.h against libkvq, the first of these there is:

1. $KVQUANT_BUILD/libkvq.a, where that is set;
2. libkvq.a in build/ of the checkout that this folder belongs to, unless KVQUANT_SYSTEM is set;
3. the system's, which pkg-config finds as libkvq.

The extension gets a copy of the first two; of the third it needs the shared library at run time.
"""

import os
import pathlib
import re
import subprocess

from cffi import FFI

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
MISSING = """libkvq is not there. Either
  - in a checkout of KVQuant: run `make` in {checkout}, then this again;
  - or install libkvq so that `pkg-config --exists libkvq` succeeds (PKG_CONFIG_PATH helps);
  - or set KVQUANT_BUILD to the folder that has libkvq.a.
"""


def declarations(header):
    """What cffi takes of a C header: no comments, no preprocessor, no linkage."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def pkg_config(*arguments):
    """The words it prints; None where it fails or is not there."""
    try:
        done = subprocess.run(["pkg-config", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.split() if done.returncode == 0 else None


def static_library():
    """The path of a libkvq.a, or None."""
    named = os.environ.get("KVQUANT_BUILD")
    library = pathlib.Path(named or CHECKOUT / "build", "libkvq.a").resolve()
    if named and not library.exists():
        raise SystemExit(f"KVQUANT_BUILD is {named}, where there is no libkvq.a: run make first")
    if not named and os.environ.get("KVQUANT_SYSTEM"):
        return None
    return library if library.exists() else None


def linked_to_static(library):
    """protobuf-c too is copied where that can be done, so that a wheel stands alone."""
    folder = pkg_config("--variable=libdir", "libprotobuf-c")
    protobuf_c = pathlib.Path(folder[0] if folder else "", "libprotobuf-c.a")
    copied = folder and protobuf_c.exists()
    return HERE.parent / "c" / "kvq.h", {
        "extra_objects": [str(library), *([str(protobuf_c)] if copied else [])],
        "libraries": [*([] if copied else ["protobuf-c"]), "ssl", "crypto", "m"],
        "extra_link_args": ["-Wl,--exclude-libs,ALL"],
    }


def linked_to_system():
    folder = pkg_config("--variable=includedir", "libkvq")
    if not folder:
        raise SystemExit(MISSING.format(checkout=CHECKOUT))
    return pathlib.Path(folder[0], "kvq.h"), {"extra_link_args": pkg_config("--libs", "libkvq")}


library = static_library()
header, linking = linked_to_static(library) if library else linked_to_system()
builder = FFI()
builder.cdef(declarations(header.read_text()))
builder.set_source(
    "kvquantd._kvq", '#include "kvq.h"', include_dirs=[str(header.parent)], **linking
)

if __name__ == "__main__":
    builder.compile(verbose=True)
