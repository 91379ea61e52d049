"""A plot of bits a value against mean KLD, a panel for each context, as SVG."""

import math
from xml.sax.saxutils import escape

from samples import AT_REST, IN_ENGINE

PANEL_WIDTH, PANEL_HEIGHT = 640, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 130, 40, 50
COLOURS = {AT_REST: "#1763b6", IN_ENGINE: "#c2571a"}
STYLE = f"""text {{ font: 12px sans-serif; fill: #333 }}
.title {{ font-weight: bold }} .tick {{ fill: #777 }} .grid {{ stroke: #e4e4e4 }}
.at-rest {{ fill: {COLOURS[AT_REST]} }} .in-engine {{ fill: {COLOURS[IN_ENGINE]} }}"""
LABEL_HEIGHT, LETTER_WIDTH = 11, 6.5


def text(x, y, content, style="", anchor="start"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
            f"{escape(content)}</text>")


class Axes:
    """Where a point of bits and KLD lies in a panel: bits linear, KLD logarithmic."""

    def __init__(self, rows):
        bits, kld = ([row[name] for row in rows] for name in ("bits_per_value", "kld_mean"))
        self.bits_max = math.ceil(max(bits))
        self.low, self.high = math.floor(math.log10(min(kld))), math.ceil(math.log10(max(kld)))
        self.high = max(self.high, self.low + 1)

    def x(self, bits):
        return LEFT + bits / self.bits_max * (PANEL_WIDTH - LEFT - RIGHT)

    def y(self, log_kld):
        share = (log_kld - self.low) / (self.high - self.low)
        return PANEL_HEIGHT - BOTTOM - share * (PANEL_HEIGHT - TOP - BOTTOM)

    def place(self, row):
        return self.x(row["bits_per_value"]), self.y(math.log10(row["kld_mean"]))

    def grid(self):
        right, bottom = self.x(self.bits_max), self.y(self.low)
        for bits in range(self.bits_max + 1):
            x = self.x(bits)
            yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom:.1f}" class="grid"/>'
            yield text(x, bottom + 16, str(bits), "tick", "middle")
        for power in range(self.low, self.high + 1):
            y = self.y(power)
            yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}" class="grid"/>'
            yield text(LEFT - 6, y + 4, f"{10.0 ** power:g}", "tick", "end")
        yield text((LEFT + right) / 2, bottom + 36, "bits a value, everything counted", "", "middle")
        yield text(LEFT, TOP - 8, "mean KLD, nats")


def labels(points):
    """A label right of each point, as near as it lies on no other and on no point."""
    taken = [(x - 4, x + 4, y) for x, y, _ in points]
    for x, y, row in sorted(points, key=lambda point: point[1]):
        left, right = x + 7, x + 7 + LETTER_WIDTH * len(row["method"])
        middle = min((y + offset for offset in range(-PANEL_HEIGHT, PANEL_HEIGHT)
                      if not any(abs(y + offset - other) < LABEL_HEIGHT and left < end and begin < right
                                 for begin, end, other in taken)), key=lambda at: abs(at - y))
        taken.append((left, right, middle))
        yield text(left, middle + 4, row["method"], "at-rest" if row["kind"] == AT_REST else "in-engine")


def panel(rows, levels):
    """Of one context. `levels`: names of the rows that a line joins. A row that lost nothing has no
    place on a logarithmic axis."""
    drawn = [row for row in rows if row["kind"] in COLOURS and row["kld_mean"] > 0]
    parts = [text(LEFT, 18, f"{rows[0]['context_tokens']:,} tokens of context", "title")]
    if not drawn:
        return parts
    axes = Axes(drawn)
    parts += axes.grid()
    joined = [axes.place(row) for row in drawn if row["method"] in levels]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in sorted(joined))
    parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[AT_REST]}"/>')
    points = [(*axes.place(row), row) for row in drawn]
    for x, y, row in points:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[row["kind"]]}"><title>'
                     f"{escape(row['method'])}: {row['bits_per_value']:.2f} bits, KLD "
                     f"{row['kld_mean']:.6f}</title></circle>")
    return parts + list(labels(points))


def legend():
    for i, (kind, colour) in enumerate(COLOURS.items()):
        x = PANEL_WIDTH - RIGHT - 210 + 100 * i
        yield f'<circle cx="{x}" cy="14" r="4" fill="{colour}"/>'
        yield text(x + 8, 18, kind)


def plot(figures, levels):
    contexts = sorted({row["context_tokens"] for row in figures})
    height = PANEL_HEIGHT * len(contexts)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PANEL_WIDTH} {height}" '
             f'role="img"><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>']
    for i, context in enumerate(contexts):
        rows = [row for row in figures if row["context_tokens"] == context]
        parts += [f'<g transform="translate(0 {i * PANEL_HEIGHT})">', *panel(rows, levels),
                  *legend(), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"
