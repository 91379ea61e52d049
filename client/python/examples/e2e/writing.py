"""The report as Markdown, JSON, plain text, and one HTML page that needs nothing else."""

import html
import json
import pathlib
import string
import textwrap

from . import charts
from .known_methods import KNOWN_METHODS
from .tables import tables

TITLE = "KVQuant end-to-end benchmark"
NAME = "kvquant-e2e-benchmark"
TEMPLATE = pathlib.Path(__file__).with_name("page.html")
TEXT_WIDTH = 100


def write(report, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for ending, content in (("json", json.dumps(report, indent=1) + "\n"), ("md", markdown(report)),
                            ("txt", transcript(report)), ("html", page(report))):
        (folder / f"{NAME}.{ending}").write_text(content)


def settings(report):
    """Lines that say what was measured, and on what."""
    environment, model = report["environment"], report["model"]
    return [f"$ {report['command']}",
            f"{report['date']}, {environment['cpu']}, {environment['threads']} threads",
            ", ".join(f"{name} {version}" for name, version in environment["versions"].items()),
            f"{model['name']}: {model['parameters']:,} parameters, {model['dtype']}, "
            f"{model['layers']} layers",
            "; ".join(f"level {level} from an age of {age} tokens on"
                      for age, level in report["levels"].items())
            + f"; rounds of both caches in turn: {report['rounds']}"]


def texts(report):
    """Headings and texts in full."""
    for scenario in report["scenarios"]:
        yield f"{scenario['name']}: asked", scenario["asked"]
        for kind in ("baseline", "compressed"):
            yield f"{scenario['name']}: {kind}", scenario[kind]["text"]


def markdown(report):
    parts = [f"# {TITLE}", "", fenced("\n".join(settings(report)))]
    for table in tables(report):
        parts += [f"## {table.title}", ""] + ([table.note, ""] if table.note else [])
        aligned = ["---", *["---:"] * (len(table.columns) - 1)]
        parts += [*map(markdown_row, (table.columns, aligned, *table.rows)), ""]
    for heading, text in texts(report):
        parts += [f"## {heading}", "", fenced(text)]
    return "\n".join(parts)


def markdown_row(cells):
    return "| " + " | ".join(cells) + " |"


def fenced(text):
    """With a fence that the text does not have."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}\n"


def transcript(report):
    parts = [*settings(report), ""]
    for table in tables(report):
        parts += [table.title, *textwrap.wrap(table.note, TEXT_WIDTH), *text_rows(table), ""]
    for heading, text in texts(report):
        parts += [f"---- {heading} ----", text, ""]
    return "\n".join(parts)


def text_rows(table):
    lines = [table.columns, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]
        yield "  " + "  ".join(cells).rstrip()


def page(report):
    first, *others = map(table_part, tables(report))
    given = html.escape("\n".join(settings(report)))
    body = [f"<pre>{given}</pre>", first, *chart_parts(report), *others]
    for heading, text in texts(report):
        body.append(f"<h2>{html.escape(heading)}</h2>\n<pre>{html.escape(text)}</pre>")
    template = string.Template(TEMPLATE.read_text())
    return template.substitute(title=TITLE, body="\n".join(body))


def table_part(table):
    def row(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return (f"<h2>{html.escape(table.title)}</h2>\n<p>{html.escape(table.note)}</p>\n"
            f'<div class="wide"><table><thead>{row(table.columns, "th")}</thead><tbody>'
            + "\n".join(row(cells, "td") for cells in table.rows) + "</tbody></table></div>")


def chart_parts(report):
    scenarios = report["scenarios"]
    speeds = {s["name"]: {kind: s[kind]["tokens_per_second"] for kind in ("baseline", "compressed")}
              for s in scenarios}
    parts = ["<h2>Rate against loss</h2>", charts.rate_against_loss(rates(scenarios)),
             "<h2>Tokens a second</h2>", charts.bars(speeds, "tokens a second after the first")]
    for scenario in scenarios:
        parts += [f"<h2>Bytes over time: {html.escape(scenario['name'])}</h2>",
                  charts.lines(growth(scenario), "tokens in the cache", "MiB")]
    return parts


def rates(scenarios):
    found = {"known methods": KNOWN_METHODS}
    for title, state in (("kvquantd.hf, in use", "in_use"), ("kvquantd.hf, at rest", "at_rest")):
        found[title] = [(s["name"], s["compressed"][state]["bits_per_value"],
                         s["compressed"][state]["kld_mean"])
                        for s in scenarios if "kld_mean" in s["compressed"][state]]
    return found


def growth(scenario):
    """In MiB; the last point of the compressed cache is at rest."""
    cache, grown = scenario["cache"], scenario["compressed"]["bytes_by_tokens"]

    def plain(size_bytes):
        return [[tokens, tokens * size_bytes / cache["tokens"] / 2**20] for tokens, _ in grown]

    return {"16 bits": plain(cache["bytes_at_16_bits"]),
            "compressed, at rest at the end": [[tokens, size / 2**20] for tokens, size in grown]}
