"""A page that opens without a network, on a phone, in the dark and on paper, and the parts that pages are made of.

Every text is escaped, because names of classes and methods come from files of others; there is no script, and nothing
is loaded from anywhere.
"""

from collections.abc import Iterable, Sequence
from html import escape

from edge.benchmarks import palette
from edge.benchmarks.stylesheet import PAGE


def page(title: str, parts: Iterable[str], style: str, footer: str) -> str:
    """The whole document; `parts` are HTML, empty ones are left out; `style` is CSS beyond the page's own."""
    css = palette.variables(":root") + PAGE + style
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        # The page promises to load nothing; the browser holds it to that, whatever a name manages to smuggle in.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<footer>{escape(footer)}</footer>\n</main>\n</body>\n</html>\n"
    )


def warnings(warnings: Sequence[str]) -> str:
    """What to mind, before everything else; "" for none."""
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<section class="warnings" role="note"><h2>Read this first</h2><ul>{items}</ul></section>'


def section(title: str, content: str) -> str:
    """A card; `content` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def facts(facts: dict[str, str], kind: str = "short") -> str:
    """Names and values; `wide` for values that are sentences."""
    items = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items())
    return f'<dl class="{kind}">{items}</dl>'


def figure(picture: str | None, otherwise: str) -> str:
    """A picture, or the sentence that says why there is none."""
    return f"<figure>{picture}</figure>" if picture else f"<p>{escape(otherwise)}</p>"


def table(head: Iterable[str], lines: Iterable[Sequence[str]], kind: str = "figures") -> str:
    """Scrolls by itself where it is too wide; `texts`: the first three columns are names, else the first alone."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'
    )
