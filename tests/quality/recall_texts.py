"""What is read where a model recalls: several documents one after the other, and a needle in them."""

import dataclasses

from texts import default_texts

DOCUMENTS = 4
NEEDLE = "\nThe secret number of the lighthouse keeper is {number}. Remember it.\n"
QUESTION = ("\nQuestion: What is the secret number of the lighthouse keeper?"
            "\nAnswer: The secret number of the lighthouse keeper is")
NEEDLE_MIXTURE = 3  # the first of the documents around it


@dataclasses.dataclass
class Reading:
    """A context, and the tokens that follow it: one document of it goes on."""

    name: str
    context: list
    following: list


class Library:
    """The texts of bench.py as one model's tokens."""

    def __init__(self, judge):
        self.judge, self.texts, self.encoded = judge, default_texts(), {}

    def ids(self, text):
        if text.name not in self.encoded:
            self.encoded[text.name] = self.judge.encode(text.content)
        return self.encoded[text.name]

    def documents(self, first):
        return [self.texts[(first + i) % len(self.texts)] for i in range(DOCUMENTS)]

    def context(self, first, tokens):
        """The beginnings of some documents, the first of them `first`: [(text, ids)]."""
        each = tokens // DOCUMENTS
        counts = [each] * (DOCUMENTS - 1) + [tokens - each * (DOCUMENTS - 1)]
        parts = [(text, self.ids(text)[:count]) for text, count in zip(self.documents(first), counts)]
        if sum(len(ids) for _, ids in parts) < tokens:
            raise SystemExit(f"the texts are too short for {tokens:,} tokens of context")
        return parts

    def readings(self, first, tokens, scored):
        """Two of one context: its second document goes on, or its newest."""
        parts = self.context(first, tokens)
        ids = sum((part for _, part in parts), [])
        for place, where in ((1, "second"), (DOCUMENTS - 1, "newest")):
            text, part = parts[place]
            following = self.ids(text)[len(part):len(part) + scored + 1]
            yield Reading(f"{text.name} ({where} of {DOCUMENTS})", ids, following)

    def haystack(self, tokens, depth, number):
        """A context with a needle at a depth of 0 to 1: its ids, and where among them the needle's are."""
        needle = self.judge.encode(NEEDLE.format(number=number))
        hay = sum((part for _, part in self.context(NEEDLE_MIXTURE, tokens - len(needle))), [])
        first = int(depth * len(hay))
        return hay[:first] + needle + hay[first:], range(first, first + len(needle))
