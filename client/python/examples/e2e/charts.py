"""Charts as SVG. Colours are the page's CSS variables, so that they follow its scheme."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 480, 300  # so that letters of 11 can be read on a phone
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 46, 40
BAR_HEIGHT = 18
LETTER_WIDTH, LETTER_HEIGHT = 6.2, 11


def text(x, y, content, anchor="start", style="label"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
            f"{escape(content)}</text>")


def svg(height, title, parts):
    opened = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    return f"{opened}{''.join(parts)}</svg>"


def legend(labels):
    parts, x = [], LEFT
    for colour, label in enumerate(labels):
        parts.append(f'<rect x="{x}" y="6" width="12" height="12" rx="2" class="fill{colour}"/>')
        parts.append(text(x + 17, 16, label))
        x += 28 + LETTER_WIDTH * len(label)
    return parts


def across(value, low, high):
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def up(value, low, high):
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def horizontal_line(y, label):
    return (f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            + text(LEFT - 8, y + 4, label, "end", "value"))


def axes_titles(horizontal, vertical):
    return [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, horizontal, "middle", "value"),
            text(8, TOP - 12, vertical, "start", "value")]


def rate_against_loss(series):
    """series: names of points (name, bits/value, mean KLD); the last axis is logarithmic."""
    points = [point for points in series.values() for point in points if point[2] > 0]
    low = math.floor(min(math.log10(kld) for *_, kld in points))
    high = max(low + 1, math.ceil(max(math.log10(kld) for *_, kld in points)))
    widest = math.ceil(max(bits for _, bits, _ in points)) + 1
    parts = legend(series)
    parts += [horizontal_line(up(power, low, high), f"{10.0 ** power:g}")
              for power in range(low, high + 1)]
    parts += [text(across(bits, 0, widest), HEIGHT - BOTTOM + 18, str(bits), "middle", "value")
              for bits in range(0, widest + 1, 2)]
    places = []
    for colour, members in enumerate(series.values()):
        for name, bits, kld in members:
            if kld > 0:
                x, y = across(bits, 0, widest), up(math.log10(kld), low, high)
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="fill{colour}">'
                             f"<title>{escape(name)}: {bits:.2f} bits, {kld:.5f}</title></circle>")
                places.append((x, y, name))
    parts += names_of(places)
    parts += axes_titles("bits a value, every byte", "mean KLD, nats")
    return svg(HEIGHT, "Rate against loss", parts)


def names_of(places):
    """A name beside each point (x, y, name), where no other name and no point is."""
    taken = [(x - 4, x + 4, y) for x, y, _ in places]
    parts = []
    for x, y, name in places:
        width = LETTER_WIDTH * len(name)
        spots = [(start, y + LETTER_HEIGHT * step)
                 for step in (0, -1, 1, -2, 2, -3, 3) for start in (x + 7, x - 7 - width)]
        start, line = next((spot for spot in spots if is_free(*spot, width, taken)), spots[0])
        taken.append((start, start + width, line))
        parts.append(text(start, line + 4, name, "start", "value"))
    return parts


def is_free(start, y, width, taken):
    inside = LEFT <= start and start + width <= WIDTH and TOP < y < HEIGHT - BOTTOM
    return inside and all(start > right or start + width < left or abs(y - line) >= LETTER_HEIGHT
                          for left, right, line in taken)


def bars(groups, unit):
    """groups: name -> {label: value}."""
    labels = list(next(iter(groups.values())))
    top = max(value for group in groups.values() for value in group.values())
    left, y, parts = 110, 30, legend(labels)
    for name, group in groups.items():
        parts.append(text(left - 8, y + BAR_HEIGHT * len(group) / 2 + 4, name, "end"))
        for colour, (label, value) in enumerate(group.items()):
            width = max(1, value / top * (WIDTH - left - 50))
            parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT - 2}" '
                         f'rx="2" class="fill{colour}"><title>{escape(label)}</title></rect>')
            parts.append(text(left + width + 6, y + 13, f"{value:.2f}", "start", "value"))
            y += BAR_HEIGHT
        y += 14
    return svg(y + 16, unit, [*parts, text(left, y + 8, unit, "start", "value")])


def lines(series, horizontal, vertical):
    """series: name -> [[x, y], ...]."""
    points = [point for points in series.values() for point in points]
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    last = max(last, first + 1)
    top = max(y for _, y in points)
    parts = legend(series)
    for step in range(5):
        parts.append(horizontal_line(up(step / 4 * top, 0, top), f"{step / 4 * top:.2f}"))
        x = first + (last - first) * step / 4
        parts.append(text(across(x, first, last), HEIGHT - BOTTOM + 18, f"{x:,.0f}", "middle",
                          "value"))
    for colour, members in enumerate(series.values()):
        path = " ".join(f"{across(x, first, last):.1f},{up(y, 0, top):.1f}" for x, y in members)
        parts.append(f'<polyline points="{path}" class="line{colour}"/>')
    return svg(HEIGHT, vertical, parts + axes_titles(horizontal, vertical))
