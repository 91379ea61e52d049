"""README's picture: what each level takes of 16 bits a value, what it keeps, and how fast it is fetched.

Bits and quality are README's own table of levels (a real model, `make quality`); speeds are the bench's.
The picture has a background of its own, so that it reads on any page.
"""

import pathlib
import re
import typing

import figures
from charts import text
from tables import level_name

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
ROW = re.compile(r"^\| `(\w+)` \|[^|]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) % \|$", re.MULTILINE)

WIDTH, ROW_HEIGHT, TOP, BAR = 860, 38, 96, 18
LEVEL_X, BITS_X, KEPT_X, SPEED_X = 110, 130, 480, 610
BITS_WIDTH, SPEED_WIDTH = 220, 190

STYLE = """
text { font: 14px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1c2126 }
.title { font-size: 17px; font-weight: 600 }
.label { font-weight: 600 }
.value, .head { font-size: 13px; fill: #59636e }
.back { fill: #ffffff; stroke: #d5dae0 }
.bar0 { fill: #0b62b8 } .bar1 { fill: #2c9a8f } .plain { fill: #aab2bb }
@media (prefers-color-scheme: dark) {
  text { fill: #e3e7eb } .value, .head { fill: #a0aab4 }
  .back { fill: #14181d; stroke: #39424c }
  .bar0 { fill: #5aa7f0 } .bar1 { fill: #55c4b8 } .plain { fill: #59636e }
}
"""


class Level(typing.NamedTuple):
    bits: float  # a value
    kld: float  # nats, the mean
    same: float  # percent of tokens that stay the likeliest


def levels():
    """README's levels by name."""
    return {name: Level(*map(float, row)) for name, *row in ROW.findall(README.read_text())}


def fetches(lines):
    """What is fetched over one connection: the raw socket's speed, and kvq's by level."""
    found = figures.select(lines, kind="throughput", contender="kvq", operation="fetch",
                           transport="unix", variant="settled", shape="8x128", connections=1)
    raw = figures.speed(figures.neighbour(lines, figures.select(found, level="fast8")[0]))
    return raw, {line["level"]: figures.speed(line) for line in found}


def bar(x, y, width, style):
    return (f'<rect x="{x}" y="{y - 14}" width="{max(1, width):.0f}" height="{BAR}" rx="3" '
            f'class="{style}"/>')


def row(y, name, bits, same, speed, top, plain=False):
    bits_width, speed_width = BITS_WIDTH * bits / 16, SPEED_WIDTH * speed / top
    return [text(LEVEL_X, y, name, "label", "end"),
            bar(BITS_X, y, bits_width, "plain" if plain else "bar0"),
            text(BITS_X + bits_width + 8, y, f"{bits:.1f} bits ({16 / bits:.1f} x)", "value"),
            text(KEPT_X + 60, y, same, "value", "middle"),
            bar(SPEED_X, y, speed_width, "plain" if plain else "bar1"),
            text(SPEED_X + speed_width + 8, y, f"{speed:.1f}", "value")]


def draw(machine, lines):
    raw, speeds = fetches(lines)
    table = levels()
    shown = [name for name in table if name in speeds]
    top = max(raw, *speeds.values())
    parts = [text(24, 34, "KV caches in memory, by level", "title"),
             text(BITS_X, 68, "bits a value", "head"),
             text(KEPT_X + 60, 68, "same top token", "head", "middle"),
             text(SPEED_X, 68, "fetch, GB/s of 16-bit data", "head")]
    y = TOP
    parts += row(y, "raw socket", 16, "100 %", raw, top, plain=True)
    for name in shown:
        y += ROW_HEIGHT
        level = table[name]
        parts += row(y, level_name(name), level.bits, f"{level.same:g} %", speeds[name], top)
    height = y + 58
    parts.append(text(24, height - 18, "Bits and tokens: SmolLM2-135M, make quality. Speed: make bench, "
                      f"one connection, unix socket, {machine['cores']} cores.", "value"))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-label="Bits a value, tokens kept and fetch speed by '
            f'level">\n<style>{STYLE}</style>\n<rect x=".5" y=".5" width="{WIDTH - 1}" '
            f'height="{height - 1}" rx="8" class="back"/>\n' + "\n".join(parts) + "\n</svg>\n")
