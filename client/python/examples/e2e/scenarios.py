"""What is asked of the model."""

import dataclasses
import pathlib

import torch

ESSAY = pathlib.Path(__file__).parents[1] / "essay.txt"
PLACE = "\u2063text\u2063"  # where a long text goes in what the chat template makes
SHORT = {
    "product-explainer": "Explain why KV cache compression matters in long-context AI systems. "
                         "Return exactly 5 sentences, no bullets, no intro.",
    "developer-note": "Explain KV cache compression to an engineer who cares about latency, memory, "
                      "and reliability. Return exactly 5 bullet points, no intro.",
}
LONG = "long"
LONG_QUESTION = "What are the texts above about? Write an essay of your own on one of them."
NAMES = [*SHORT, LONG]


@dataclasses.dataclass
class Scenario:
    name: str
    asked: str
    ids: torch.Tensor  # [1, tokens]


def scenario(name, opened, context_tokens, new_tokens):
    if name == LONG:
        room = (opened.context_tokens or context_tokens + new_tokens) - new_tokens
        return long_scenario(opened.tokenizer, min(context_tokens, room))
    ids = encoded(opened.tokenizer, in_chat(opened.tokenizer, SHORT[name]))
    return Scenario(name, SHORT[name], tensor(ids))


def long_scenario(tokenizer, tokens):
    """So many tokens in all: distinct text, and a question about it."""
    asked = f"{PLACE}\n\n{LONG_QUESTION}"
    before, after = (encoded(tokenizer, part) for part in in_chat(tokenizer, asked).split(PLACE))
    text = encoded(tokenizer, long_text())
    room = tokens - len(before) - len(after)
    if not 0 < room <= len(text):
        raise SystemExit(f"--context is from {len(before) + len(after) + 1} to "
                         f"{len(before) + len(after) + len(text)} tokens, not {tokens}")
    shown = f"(the first {room:,} tokens of an essay and of Python's language reference)"
    return Scenario(LONG, f"{shown}\n\n{LONG_QUESTION}", tensor(before + text[:room] + after))


def long_text():
    """An essay, and Python's language reference as its help() has it."""
    from pydoc_data.topics import topics

    return "\n\n".join([ESSAY.read_text(), *(topics[name] for name in sorted(topics))])


def in_chat(tokenizer, asked):
    """As the model's own template wants it; as it is where there is none."""
    if not tokenizer.chat_template:
        return asked
    turns = [{"role": "user", "content": asked}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def encoded(tokenizer, text):
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def tensor(ids):
    return torch.tensor([ids])
