"""Holds the rooms' "may use" table against the #include lines of every C file. Exit status 1: not held.

A room may include its own headers and those of the rooms named here, written from the repository
root; nothing else of ours. A folder that is no room may hold no C file.
"""

import pathlib
import re
import sys

PROTO = {"proto/wire", "proto/page"}
BASE = {"daemon/base"}
STORE = {"proto/page", *BASE}
MAY_USE = {
    "proto/wire": set(),
    "proto/page": set(),
    "daemon/base": set(),
    "daemon/store": STORE,
    "daemon/recall": {"daemon/store", *STORE},
    "daemon/rpc": {"daemon/store", "daemon/recall", *PROTO, *BASE},
    "daemon/server": {"daemon/rpc", "proto/wire", *BASE},
    "daemon/ops": {"daemon/store", "daemon/recall", "daemon/rpc", "daemon/server", *BASE},
    "client/c": PROTO,
    "client/cli": {"client/c", *PROTO},
    "client/python": {"client/c"},
}
ANYTHING = ("daemon", "tests")  # main.c, and the tests, which look into every room
PAGE_TYPES_ONLY = "daemon/rpc"  # of proto/page it may use page.h, not a part of the codec
TREES = ("proto", "daemon", "client", "tests")
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)
C_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def room_of(path):
    """The room a file lies in; None if in none."""
    folder = pathlib.PurePath(path).parent
    for candidate in (folder, *folder.parents):
        if str(candidate) in MAY_USE:
            return str(candidate)
    parts = folder.parts
    if parts == ("daemon",) or parts[:1] == ("tests",):
        return parts[0]
    return None


def complaint(room, included, bracket):
    ours = included.split("/")[0] in TREES
    if bracket == "<":
        return "is ours: write it in quotes" if ours else None
    if not ours:
        return "is not written from the repository root"
    used = room_of(included)
    if used is None:
        return "lies in no room"
    if room in ANYTHING or used == room:
        return None
    if used not in MAY_USE[room]:
        return f"{room} may not use {used}"
    if room == PAGE_TYPES_ONLY and used == "proto/page" and included != "proto/page/page.h":
        return f"{room} may use the page's types only, proto/page/page.h"
    return None


def complaints(path):
    room = room_of(path)
    if room is None:
        yield f"{path}: lies in no room"
        return
    text = C_COMMENT.sub(lambda m: "\n" * m.group().count("\n"), path.read_text())
    for match in INCLUDE.finditer(text):
        bracket, included = match.groups()
        why = complaint(room, included, bracket)
        if why:
            line = text.count("\n", 0, match.start(1)) + 1
            yield f"{path}:{line}: \"{included}\": {why}"


def main():
    files = [f for tree in TREES for f in sorted(pathlib.Path(tree).rglob("*.[ch]"))
             if "build" not in f.parts]
    if not files:
        print("check-rooms: matched no file", file=sys.stderr)
        return 1
    found = [line for file in files for line in complaints(file)]
    print("\n".join(found) if found else f"rooms: {len(files)} files hold the \"may use\" table")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
