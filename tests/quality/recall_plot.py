"""A plot of budget against mean KLD, a line for each method and a panel for each context, as SVG."""

import math
from xml.sax.saxutils import escape

from scatter import LABEL_HEIGHT, text

PANEL_WIDTH, PANEL_HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 290, 40, 50
COLOURS = ["#888888", "#b8860b", "#7b4ab5", "#1763b6", "#3aa0d8", "#2e8b57", "#c2571a", "#b03060"]
STYLE = """text { font: 12px sans-serif; fill: #333 } .title { font-weight: bold }
.tick { fill: #777 } .grid { stroke: #e4e4e4 }"""
KLD_MIN = 1e-6


class Axes:
    """Budgets and KLD, both logarithmic."""

    def __init__(self, rows):
        kld = [max(row["kld_mean"], KLD_MIN) for row in rows]
        self.budgets = sorted({row["budget"] for row in rows})
        self.low, self.high = math.floor(math.log10(min(kld))), math.ceil(math.log10(max(kld)))
        self.high = max(self.high, self.low + 1)

    def x(self, budget):
        first, last = (math.log(self.budgets[i]) for i in (0, -1))
        share = (math.log(budget) - first) / (last - first) if last > first else 0
        return LEFT + share * (PANEL_WIDTH - LEFT - RIGHT)

    def y(self, kld):
        share = (math.log10(max(kld, KLD_MIN)) - self.low) / (self.high - self.low)
        return PANEL_HEIGHT - BOTTOM - share * (PANEL_HEIGHT - TOP - BOTTOM)

    def grid(self):
        right, bottom = PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM
        for budget in self.budgets:
            x = self.x(budget)
            yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" class="grid"/>'
            yield text(x, bottom + 16, f"{budget:.0%}", "tick", "middle")
        for power in range(self.low, self.high + 1):
            y = self.y(10.0 ** power)
            yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>'
            yield text(LEFT - 6, y + 4, f"{10.0 ** power:g}", "tick", "end")
        yield text((LEFT + right) / 2, bottom + 36, "tokens seen, of the context", "", "middle")
        yield text(LEFT, TOP - 8, "mean KLD, nats")


def line(axes, rows, colour):
    points = [(axes.x(row["budget"]), axes.y(row["kld_mean"]), row) for row in rows]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for x, y, row in points:
        yield (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>'
               f"{escape(row['method'])}: {row['budget']:.0%}, KLD {row['kld_mean']:.6f}</title></circle>")


def labels(ends):
    """The methods' names beside the ends of their lines, none over another."""
    lowest = -math.inf
    for y, name, colour in sorted(ends):
        lowest = max(y, lowest + LABEL_HEIGHT + 2)
        yield (f'<text x="{PANEL_WIDTH - RIGHT + 10}" y="{lowest + 4:.1f}" style="fill: {colour}">'
               f"{escape(name)}</text>")


def panel(rows, methods):
    axes, ends = Axes(rows), []
    parts = [text(LEFT, 18, f"{rows[0]['context_tokens']:,} tokens of context", "title"), *axes.grid()]
    for i, method in enumerate(methods):
        own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["budget"])
        if own:
            colour = COLOURS[i % len(COLOURS)]
            parts += line(axes, own, colour)
            ends.append((axes.y(own[-1]["kld_mean"]), method, colour))
    return parts + list(labels(ends))


def plot(figures):
    contexts = sorted({row["context_tokens"] for row in figures})
    methods = list(dict.fromkeys(row["method"] for row in figures))
    height = PANEL_HEIGHT * len(contexts)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PANEL_WIDTH} {height}" '
             f'role="img"><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>']
    for i, context in enumerate(contexts):
        rows = [row for row in figures if row["context_tokens"] == context]
        parts += [f'<g transform="translate(0 {i * PANEL_HEIGHT})">', *panel(rows, methods), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"
