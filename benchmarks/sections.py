"""Tables that a command writes into a page, between `<!-- KIND NAME -->` and `<!-- /KIND -->`."""

import re
from pathlib import Path

from edge.files import write_text


def replace_section(page: Path, name: str, text: str) -> None:
    """Put `text` between the marks of `name` ("methods lfmc grouped"); at the end of `page` if it has no such marks."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name.split()[0]} -->"
    part = f"{begin}\n{text}\n{end}"
    old = page.read_text(encoding="utf-8")
    place = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    new = place.sub(lambda _: part, old) if place.search(old) else f"{old.rstrip()}\n\n{part}\n"
    write_text(page, new)
