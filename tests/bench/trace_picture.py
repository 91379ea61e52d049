"""The picture that opens README: what of prefill a pool saves, left by its size, right against what the
hits lose; a line a method. It has a background of its own, so that it reads on any page."""

import math

from charts import text
from trace_tables import NAMES, figures_of, size_of

WIDTH, HEIGHT = 860, 500
TOP, BOTTOM = 110, 372
POOL_LEFT, POOL_RIGHT = 76, 420
LOSS_LEFT, LOSS_RIGHT = 460, 836
LOSS_EXACT = 486  # where nothing is lost; the logarithmic axis begins right of it
LOSS_LOG_LEFT, LOSS_LOG_RIGHT = 536, 816
DECADES = range(-5, 0)
STYLES = {"raw": "plain", "fast8": "bar2", "3": "bar1", "ageing": "bar0"}

STYLE = """
text { font: 14px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1c2126 }
.title { font-size: 17px; font-weight: 600 }
.value, .head { font-size: 13px; fill: #59636e }
.back { fill: #ffffff; stroke: #d5dae0 }
.grid { stroke: #e6e9ed } .limit { stroke: #59636e; stroke-dasharray: 5 4 }
polyline { stroke-width: 2.5 }
.bar0 { fill: #0b62b8; stroke: #0b62b8 } .bar1 { fill: #21857b; stroke: #21857b }
.bar2 { fill: #b5671d; stroke: #b5671d } .plain { fill: #6b7580; stroke: #6b7580 }
text.bar0, text.bar1, text.bar2, text.plain { stroke: none; font-weight: 600 }
polyline.bar0, polyline.bar1, polyline.bar2, polyline.plain { fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e3e7eb } .value, .head { fill: #a0aab4 }
  .back { fill: #14181d; stroke: #39424c }
  .grid { stroke: #272e36 } .limit { stroke: #a0aab4 }
  .bar0 { fill: #5aa7f0; stroke: #5aa7f0 } .bar1 { fill: #55c4b8; stroke: #55c4b8 }
  .bar2 { fill: #e6a05c; stroke: #e6a05c } .plain { fill: #98a2ad; stroke: #98a2ad }
}
"""


def across(y, style):
    """A line through both panels."""
    return "".join(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="{style}"/>'
                   for left, right in ((POOL_LEFT, POOL_RIGHT), (LOSS_LEFT, LOSS_RIGHT)))


class Plot:
    """Both panels: the share that is saved, from the bottom up, is the same in both."""

    def __init__(self, data):
        self.rows = figures_of(data)
        self.possible = data["trace"]["possible_tokens"] / data["lines"][0]["asked_tokens"]
        self.top = math.ceil(self.possible * 10) / 10
        self.overcommitments = sorted({row["overcommitment"] for row in self.rows})

    def y(self, share):
        return BOTTOM - share / self.top * (BOTTOM - TOP)

    def pool_x(self, row):
        index, count = self.overcommitments.index(row["overcommitment"]), len(self.overcommitments)
        return POOL_LEFT + 24 + index / max(1, count - 1) * (POOL_RIGHT - POOL_LEFT - 48)

    def loss_x(self, row):
        return loss_x(row["mean_kld"])

    def axes(self):
        for tenth in range(round(self.top * 10) + 1):
            y = self.y(tenth / 10)
            yield across(y, "grid")
            yield text(POOL_LEFT - 10, y + 5, f"{tenth * 10} %", "value", "end")
        for row in self.rows:
            if row["method"] == self.rows[0]["method"]:
                yield text(self.pool_x(row), BOTTOM + 20, f"{row['overcommitment']}x", "value", "middle")
                yield text(self.pool_x(row), BOTTOM + 38, size_of(row["real_pool_gib"]), "value", "middle")
        for decade in DECADES:
            yield text(loss_x(10**decade), BOTTOM + 20, f"{10.0**decade:.{-decade}f}", "value", "middle")
        yield text(LOSS_EXACT, BOTTOM + 20, "0", "value", "middle")

    def limit(self):
        """Nobody can save more."""
        y = self.y(self.possible)
        yield across(y, "limit")
        yield text(POOL_LEFT, y - 8, f"all that was stored before: {100 * self.possible:.0f} %", "value")

    def line(self, method, place_x):
        rows = [row for row in self.rows if row["method"] == method]
        points = [(place_x(row), self.y(row["saved_share"]), title_of(row)) for row in rows]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        yield f'<polyline points="{joined}" class="{STYLES[method]}"/>'
        for x, y, title in points:
            yield (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="{STYLES[method]}">'
                   f"<title>{title}</title></circle>")

    def legend(self):
        x = POOL_LEFT
        for method in self.methods():
            yield f'<circle cx="{x + 5}" cy="61" r="5" class="{STYLES[method]}"/>'
            yield text(x + 16, 66, NAMES[method], STYLES[method])
            x += 46 + 8 * len(NAMES[method])

    def methods(self):
        return [method for method in NAMES if any(row["method"] == method for row in self.rows)]


def loss_x(kld):
    """0 has a place of its own: it has none on a logarithmic axis."""
    if kld == 0:
        return LOSS_EXACT
    share = (math.log10(kld) - DECADES[0]) / (DECADES[-1] - DECADES[0])
    return LOSS_LOG_LEFT + share * (LOSS_LOG_RIGHT - LOSS_LOG_LEFT)


def title_of(row):
    return (f"{NAMES[row['method']]}, {row['overcommitment']}x: {100 * row['saved_share']:.1f} % saved, "
            f"KLD {row['mean_kld']:.5f}")


def captions(trace):
    yield text(POOL_LEFT, BOTTOM + 60, "memory: all that they ever store in 16 bits, over the pool", "head")
    yield text(LOSS_RIGHT, BOTTOM + 60, "what the hits lose: mean KLD, nats", "head", "end")
    yield text(24, HEIGHT - 38, f"make bench-trace: {trace['requests']:,} real chat requests (Mooncake's "
               "trace), a small geometry for 32 layers of 8 heads of 128.", "value")
    yield text(24, HEIGHT - 18, "KLD by level: SmolLM2-135M, make quality. No model ran here, and time "
               "is not in the picture.", "value")


def draw(data):
    plot = Plot(data)
    parts = [text(24, 34, "Prefill tokens saved, by the memory that there is and by what it costs", "title"),
             *plot.legend(), *plot.axes(), *plot.limit()]
    for method in plot.methods():
        parts += [*plot.line(method, plot.pool_x), *plot.line(method, plot.loss_x)]
    parts += captions(data["trace"])
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img" aria-label="Prefill tokens saved by size of the pool, and by '
            f'loss">\n<style>{STYLE}</style>\n<rect x=".5" y=".5" width="{WIDTH - 1}" '
            f'height="{HEIGHT - 1}" rx="8" class="back"/>\n' + "\n".join(parts) + "\n</svg>\n")
