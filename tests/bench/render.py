"""A report's tables as Markdown and as one HTML page that needs nothing else."""

import html
import pathlib
import re
import string

import charts

TEMPLATE = pathlib.Path(__file__).with_name("page.html")
LONG = 60  # a cell of more letters is broken into lines
NUMBER = re.compile(r"^[-\d.,]+( (%|B))?$")


def markdown_row(cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def markdown_table(table):
    aligned = ["---:" if is_number_column(table, i) else "---" for i in range(len(table.columns))]
    parts = [f"## {table.title}", ""]
    if table.note:
        parts += [table.note, ""]
    parts += [markdown_row(table.columns), markdown_row(aligned), *map(markdown_row, table.rows), ""]
    return "\n".join(parts)


def is_number_column(table, index):
    cells = [row[index] for row in table.rows if row[index]]
    return bool(cells) and all(NUMBER.match(cell) for cell in cells)


def markdown(title, warnings, tables):
    parts = [f"# {title}", ""]
    for warning in warnings:
        parts += [f"> **{warning}**", ""]
    return "\n".join(parts + [markdown_table(table) for table in tables])


def with_code(text):
    """Words between backticks are code, as in Markdown."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def html_cell(cell, number):
    style = {"PASS": "pass", "MISS": "miss"}.get(cell, "number" if number else
                                            "long" if len(cell) > LONG else "")
    return f'<td{f" class={style}" if style else ""}>{with_code(cell)}</td>'


def html_row(cells, numbers):
    return "<tr>" + "".join(map(html_cell, cells, numbers)) + "</tr>"


def html_table(table):
    numbers = [is_number_column(table, i) for i in range(len(table.columns))]
    parts = [f"<h2>{with_code(table.title)}</h2>"]
    if table.note:
        parts.append(f"<p>{with_code(table.note)}</p>")
    if table.chart:
        parts.append(charts.bar_chart(table.chart))
    parts.append('<div class="wide"><table><thead><tr>')
    parts += [f'<th{" class=number" if number else ""}>{with_code(column)}</th>'
              for column, number in zip(table.columns, numbers)]
    parts.append("</tr></thead><tbody>")
    parts += [html_row(row, numbers) for row in table.rows]
    parts.append("</tbody></table></div>")
    return "\n".join(parts)


def page(title, warnings, tables):
    body = [f'<p class="warning">{with_code(warning)}</p>' for warning in warnings]
    body += [html_table(table) for table in tables]
    template = string.Template(TEMPLATE.read_text())
    return template.substitute(title=html.escape(title), body="\n".join(body))
