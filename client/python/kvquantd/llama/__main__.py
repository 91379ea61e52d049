"""What `kvq llama save|restore|list` runs: see its help."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from .._client import Client, connect
from .._errors import Error, Miss
from .._geometry import Level
from ._slots import Refused, Slot, restore, save, saved
from ._state import NotUnderstood

SLOT = "http://127.0.0.1:8080/slots/0"


def _level(text: str) -> Level:
    if text not in ("exact", "fast8", *"012345"):
        raise argparse.ArgumentTypeError('a level is "exact", "fast8" or 0 to 5')
    return int(text) if text.isdigit() else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kvq llama", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in "save", "restore", "list":
        command = verbs.add_parser(verb)
        command.add_argument("--socket")
        command.add_argument("--json", action="store_true")
        if verb != "list":
            command.add_argument("session")
            command.add_argument("folder", help="the server's --slot-save-path")
            command.add_argument("url", nargs="?", default=SLOT, help=f"of the slot ({SLOT})")
            command.add_argument("--model", help="names the weights; else the file's contents do")
        if verb == "save":
            command.add_argument("--level", type=_level, default=3)
    return parser


def _save(client: Client, given: argparse.Namespace) -> tuple[dict[str, Any], str]:
    kept = save(client, Slot(given.url, given.folder), given.session, given.model, given.level)
    stored = client.open(given.session).info()["stored_bytes"]
    told = f"{given.session}: {kept.tokens:,} tokens, {kept.new_tokens:,} of them new; {kept.how}"
    why = f" ({kept.why})" if kept.why else ""
    return ({"session": kept.session, "tokens": kept.tokens, "new_tokens": kept.new_tokens,
             "how": kept.how, "why": kept.why, "state_bytes": kept.state_bytes, "stored_bytes": stored},
            f"{told}{why}; {kept.state_bytes:,} bytes in {stored:,}")


def _restore(client: Client, given: argparse.Namespace) -> tuple[dict[str, Any], str]:
    tokens, size = restore(client, Slot(given.url, given.folder), given.session, given.model)
    return ({"session": given.session, "tokens": tokens, "state_bytes": size},
            f"{given.session}: the server has {tokens:,} tokens")


def _list(client: Client, given: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    found = saved(client)
    return found, "\n".join(f"{each['session']}: {each['tokens']:,} tokens, {each['stored_bytes']:,} bytes, "
                            f"{each['model']}" for each in found)


def main() -> int:
    """Ends as kvq does: 0 done, 1 refused or failed, 2 usage, 3 miss."""
    given = _parser().parse_args()
    run: Any = {"save": _save, "restore": _restore, "list": _list}[given.verb]
    try:
        with connect(given.socket) as client:
            fields, text = run(client, given)
    except (Error, Refused, NotUnderstood, OSError) as error:
        print(f"kvq: {error}", file=sys.stderr)
        return 3 if isinstance(error, Miss) else 1
    if given.json or text:
        print(json.dumps(fields, indent=2) if given.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
