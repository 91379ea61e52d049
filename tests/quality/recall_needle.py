"""A sentence somewhere in a long context, and a question about it at the end."""

from recall_attention import Budget, Context, Recalling
from recall_texts import QUESTION

BUDGET = 0.1


class Watching(Recalling):
    """Notes what the last token of the question, which is to say the number, sees in each layer."""

    def __init__(self, method, budget):
        super().__init__(method, budget)
        self.of_question = {}

    def seen(self, layer, queries, exponents):
        seen = super().seen(layer, queries, exponents)
        if queries.shape[1] > 1:  # a question is read at once, its answer token by token
            self.of_question[layer] = seen[-1]
        return seen


def number_at(depth):
    return str(48271 + int(depth * 1000) * 37 % 50000)


def measure(judge, library, options, methods_of, note):
    """A row for each depth and method. methods_of(context, following): what is asked."""
    question, tokens = judge.encode(QUESTION), options.needle_context
    for depth in options.depth:
        number = number_at(depth)
        ids, needle = library.haystack(tokens, depth, number)
        context = Context(judge, ids, len(question) + options.answer)
        digits = [i for i in needle if judge.model.tokenizer.decode([ids[i]]).isdigit()]
        note(f"needle at {depth:.0%}: full attention")
        full = said(judge, context.answer(question, options.answer), number)
        for method in methods_of(context, question):
            note(f"needle at {depth:.0%}: {method.name}")
            watching = Watching(method, Budget(tokens, BUDGET))
            answer = context.answer(question, options.answer, watching)
            layers = sum(bool(seen[digits].any()) for seen in watching.of_question.values())
            yield {"depth": depth, "method": method.name, "layers": layers,
                   "of_layers": len(watching.of_question), "recalled": layers > 0,
                   "said": said(judge, answer, number), "said_by_full_attention": full}


def said(judge, answer, number):
    return number in judge.model.tokenizer.decode(answer)
