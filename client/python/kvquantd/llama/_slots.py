"""The slots of a llama-server: saved to the daemon and restored from it, by the server's own endpoints."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import struct
import urllib.error
import urllib.request
from typing import Any, Iterator, Optional

import numpy as np

from .._client import Client
from .._geometry import Level
from ._model import digest_of_files, digest_of_settings, files_of, model_name
from ._state import NotUnderstood, parse
from ._store import Kept, Store, read

MODELS = "llama-server/"  # what the names of its models begin with
HEAD = "llama-server tokens"  # what a slot's file has before the state; attached
FILE_MAGIC = 0x67677371
PACKED, PACKED_VERSION = -1, 1
DEADLINE_SECONDS = 600


class Refused(Exception):
    """What a server or a file says, and what to do."""


class Slot:
    """url: of the slot, http://HOST:PORT/slots/ID. folder: the server's --slot-save-path."""

    def __init__(self, url: str, folder: str) -> None:
        parts = re.fullmatch(r"(https?://[^/]+(?:/.*?)??)(?:/slots/(\d+))?/?", url)
        if not parts:
            raise Refused(f"no URL of a server or slot: {url}")
        self._server, self._number = parts[1], parts[2] or "0"
        self._folder = pathlib.Path(folder)

    def model(self, given: Optional[str]) -> str:
        """given: names the weights; None: the contents of the server's file do."""
        name = given or model_name(self._file_of_model())
        adapters = [each for each in self._ask("lora-adapters") if each.get("scale")]
        if adapters:
            digests = [(digest_of_files(files_of(each["path"])), each["scale"]) for each in adapters]
            name += f"+{digest_of_settings(digests)}"
        return MODELS + name

    def _file_of_model(self) -> str:
        path = str(self._ask("props").get("model_path", ""))
        if not os.path.isfile(path):
            raise Refused(f"the server's model {path!r} is no file here; name it with --model")
        return path

    def _ask(self, path: str, **data: str) -> Any:
        body = json.dumps(data).encode() if data else None
        request = urllib.request.Request(
            f"{self._server}/{path}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(f"the server refuses /{path}: {_message_of(error)}") from None
        except (OSError, ValueError) as error:
            raise Refused(f"no answer from {self._server}/{path}: {error}") from None

    @contextlib.contextmanager
    def _file(self) -> Iterator[pathlib.Path]:
        """One that the server may write or read, until the block ends."""
        path = self._folder / f"kvq-{os.urandom(12).hex()}.bin"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def save(self) -> tuple[bytes, bytes]:
        """The head and the state."""
        with self._file() as path:
            self._ask(f"slots/{self._number}?action=save", filename=path.name)
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                raise Refused(f"the server saved nothing in {self._folder}; is that its "
                              "--slot-save-path?") from None
        end = _end_of_head(data)
        return data[:end], data[end:]

    def restore(self, head: bytes, state: Any) -> int:
        """Returns how many tokens the server says that it has restored."""
        with self._file() as path:
            with open(path, "xb") as file:
                file.write(head)
                file.write(state)
            answer = self._ask(f"slots/{self._number}?action=restore", filename=path.name)
        return int(answer.get("n_restored", 0))


def _message_of(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error)


def _end_of_head(data: bytes) -> int:
    magic, _, words = struct.unpack_from("=III", data) if len(data) >= 12 else (0, 0, 0)
    if magic != FILE_MAGIC or len(data) - 12 < 4 * words:
        raise Refused("what the server saved is no file of a slot that is known here")
    return 12 + 4 * int(words)


def ids_of(head: bytes) -> Any:
    """The token ids of a slot's file, in either of two ways to write them."""
    words = np.frombuffer(head, np.int32, offset=12)
    if words.size >= 3 and words[0] == PACKED and words[1] == PACKED_VERSION:
        words = words[3 : 3 + max(words[2], 0)]
    if words.size == 0 or words.min() < 0:
        raise Refused("the slot has no tokens, or holds images or audio: nothing is saved")
    return words


def save(client: Client, slot: Slot, name: str, model: Optional[str], level: Level) -> Kept:
    head, state = slot.save()
    ids = ids_of(head)
    with contextlib.suppress(NotUnderstood):
        ids = ids[: parse(state).tokens]
    store = Store(f"{slot.model(model)}/level={level}", level)
    kept = store.put(client, ids, b"", state, name)
    client.open(name).attach(HEAD, head)
    return kept


def restore(client: Client, slot: Slot, name: str, model: Optional[str]) -> tuple[int, int]:
    """Returns how many tokens, and bytes, the server has taken."""
    session = client.open(name)
    expected = slot.model(model)
    if not session.model.startswith(f"{expected}/"):
        raise Refused(f"{name} is of the model {session.model}, not {expected}")
    head = session.attachment(HEAD)
    state = read(session, session.tokens) if head.tokens == session.tokens else None
    if state is None:
        raise Refused(f"{name} has been cut or appended to since it was saved")
    restored = slot.restore(bytes(head), state)
    if restored != len(ids_of(head)):
        raise Refused(f"the server restored {restored} of {len(ids_of(head))} tokens: its version's "
                      "restore does not work")
    return restored, len(head) + len(state)


def saved(client: Client) -> list[dict[str, Any]]:
    return [each for each in client.sessions() if each["model"].startswith(MODELS)]


