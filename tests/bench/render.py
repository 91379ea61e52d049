"""A report's tables as Markdown and as one HTML page that needs nothing else."""

import html
import pathlib
import re
import string

import charts

TEMPLATE = pathlib.Path(__file__).with_name("page.html")
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
    return all(NUMBER.match(row[index]) for row in table.rows if row[index])


def markdown(title, warnings, tables):
    parts = [f"# {title}", ""]
    for warning in warnings:
        parts += [f"> **{warning}**", ""]
    return "\n".join(parts + [markdown_table(table) for table in tables])


def with_code(text):
    """Words between backticks are code, as in Markdown."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def html_cell(cell):
    style = {"PASS": ' class="pass"', "MISS": ' class="miss"'}.get(cell, "")
    return f"<td{style}>{with_code(cell)}</td>"


def html_table(table):
    words = any(len(cell) > 40 for row in table.rows for cell in row[1:]) or len(table.columns) == 2
    parts = [f"<h2>{with_code(table.title)}</h2>"]
    if table.note:
        parts.append(f"<p>{with_code(table.note)}</p>")
    if table.chart:
        parts.append(charts.bar_chart(table.chart))
    parts.append(f'<div class="wide"><table{" class=words" if words else ""}><thead><tr>')
    parts += [f"<th>{with_code(column)}</th>" for column in table.columns]
    parts.append("</tr></thead><tbody>")
    parts += ["<tr>" + "".join(map(html_cell, row)) + "</tr>" for row in table.rows]
    parts.append("</tbody></table></div>")
    return "\n".join(parts)


def page(title, warnings, tables):
    body = [f'<p class="warning">{with_code(warning)}</p>' for warning in warnings]
    body += [html_table(table) for table in tables]
    template = string.Template(TEMPLATE.read_text())
    return template.substitute(title=html.escape(title), body="\n".join(body))
