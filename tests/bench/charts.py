"""Bar charts as SVG. Colours are the page's CSS variables (page.html), so that they follow its scheme."""

from xml.sax.saxutils import escape

WIDTH = 760
LABEL_WIDTH = 96
VALUE_WIDTH = 60
BAR_HEIGHT = 14
BAR_GAP = 2
GROUP_GAP = 12
LEGEND_HEIGHT = 30


def text(x, y, content, style, anchor="start"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
            f"{escape(content)}</text>")


def bar(y, width, colour, title):
    return (f'<rect x="{LABEL_WIDTH}" y="{y:.1f}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2" '
            f'class="bar{colour}"><title>{escape(title)}</title></rect>')


def legend(labels, what):
    parts = [text(LABEL_WIDTH, 14, f"{what}:", "label")]
    x = LABEL_WIDTH + 8 * len(what) + 14
    for colour, label in enumerate(labels):
        parts.append(f'<rect x="{x}" y="4" width="12" height="12" rx="2" class="bar{colour}"/>')
        parts.append(text(x + 17, 14, label, "label"))
        x += 34 + 8 * len(label)
    return parts


def bar_chart(chart):
    """chart: unit, `bars` (what tells the bars of a group apart), groups of labelled bars."""
    labels = list(dict.fromkeys(b["label"] for group in chart["groups"] for b in group["bars"]))
    top = max(b["value"] for group in chart["groups"] for b in group["bars"])
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / top
    parts, y = legend(labels, chart["bars"]), LEGEND_HEIGHT
    for group in chart["groups"]:
        height = len(group["bars"]) * (BAR_HEIGHT + BAR_GAP)
        parts.append(text(LABEL_WIDTH - 8, y + height / 2 + 4, group["label"], "label", "end"))
        for b in group["bars"]:
            width = max(1, b["value"] * scale)
            title = f"{group['label']}, {b['label']} {chart['bars']}: {b['value']:.2f} {chart['unit']}"
            parts.append(bar(y, width, labels.index(b["label"]), title))
            parts.append(text(LABEL_WIDTH + width + 5, y + 11, f"{b['value']:.2f}", "value"))
            y += BAR_HEIGHT + BAR_GAP
        y += GROUP_GAP
    return (f'<svg viewBox="0 0 {WIDTH} {y}" role="img" aria-label="{escape(chart["unit"])}">'
            + "".join(parts) + "</svg>")
