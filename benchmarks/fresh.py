"""A fresh process that does one thing: what it needs is not mixed with what the measuring process holds already."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import edge


def fresh_process(module: str, *arguments: str) -> Any:
    """What `python -m module arguments` prints, parsed as JSON; None if it fails."""
    child = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        # `-m` looks for modules in the current folder first, which may be a bundle from somebody else.
        cwd=Path(edge.__file__).parent.parent,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    return json.loads(child.stdout) if child.returncode == 0 else None
