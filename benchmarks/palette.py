"""Colours of the report and its pictures, as CSS variables: light, dark, and what a printer gets.

Series colours keep a contrast of 3:1 to the surface in both modes; form and label say the same as colour, so nothing
depends on colour alone.
"""

SERIES = 6

LIGHT = """--page:#f6f6f3; --surface:#ffffff; --ink:#16191d; --muted:#5b636d; --line:#dfe1e0; --soft:#f0f1ee;
--good:#1c7c4a; --bad:#b3261e; --warn:#8a5a00; --warn-soft:#fff4dc; --bad-soft:#fdecea; --good-soft:#e6f4ec;
--s0:#1f6fb4; --s1:#c2571a; --s2:#16806a; --s3:#9a4fb0; --s4:#8d6b00; --s5:#c0407a;"""
DARK = """--page:#101315; --surface:#181c1f; --ink:#e9ebec; --muted:#9aa3ab; --line:#2d3337; --soft:#1f2427;
--good:#5cc38b; --bad:#f28b82; --warn:#f0c060; --warn-soft:#2e2612; --bad-soft:#331b19; --good-soft:#14291d;
--s0:#6cb2ee; --s1:#f09a5c; --s2:#4fc3a6; --s3:#cf93e2; --s4:#d9b648; --s5:#f084b0;"""


def variables(scope: str) -> str:
    """The CSS that sets the variables for `scope`, following the reader's system."""
    return (
        f"{scope}{{color-scheme:light dark;{LIGHT}}}\n"
        f"@media (prefers-color-scheme:dark){{{scope}{{{DARK}}}}}\n"
        f"@media print{{{scope}{{{LIGHT}}}}}\n"
    )


def series(index: int) -> str:
    """The colour of the `index`-th method."""
    return f"var(--s{index % SERIES})"
