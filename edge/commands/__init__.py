"""One file for each command of `edge`."""
