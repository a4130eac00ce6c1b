"""Tables that a command writes into a page, between `<!-- KIND NAME -->` and `<!-- /KIND -->`."""

import re
from collections.abc import Iterable
from pathlib import Path

from edge.errors import InputError
from edge.files import write_text


def results_page(folder: Path) -> Path:
    """RESULTS.md in the folder of --results; InputError if there is none."""
    page = folder / "RESULTS.md"
    if not page.is_file():
        raise InputError(f"{page} is missing; run this in the repository, or give --results")
    return page


def markdown_table(lines: Iterable[Iterable[str]], left: int) -> str:
    """Lines of cells, the first one the head, as Markdown: `left` columns to the left, figures to the right."""
    head, *rest = [list(line) for line in lines]
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rest))


def replace_section(page: Path, name: str, text: str) -> None:
    """Put `text` between the marks of `name` ("methods lfmc grouped"); at the end of `page` if it has no such marks."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name.split()[0]} -->"
    part = f"{begin}\n{text}\n{end}"
    old = page.read_text(encoding="utf-8")
    place = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    new = place.sub(lambda _: part, old) if place.search(old) else f"{old.rstrip()}\n\n{part}\n"
    write_text(page, new)
