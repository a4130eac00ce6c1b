"""`edge doctor`."""

import json
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show what this machine is and has, and how to install the rest.

    The exit code is 4 where the system is too old for edge, and 5 where no engine can run.

    \b
    Example:
      edge doctor
    """
    from edge.benchmarks.meters import find_meters
    from edge.deploy.doctor import examine

    found = find_meters()
    for meter in found.meters:
        meter.close()
    facts = examine() | {"power": {"sources": [meter.source for meter in found.meters], "notes": found.notes}}
    click.echo(json.dumps(facts, indent=2) if as_json else as_text(facts))
    context.exit(facts["exit_code"])


def as_text(facts: dict[str, Any]) -> str:
    """The report for people: what is there, then what is missing or could be better, each with its line."""
    lines = [
        f"edge     {facts['edge']}, Python {facts['python']}",
        f"cpu      {facts['cpu']}: {' '.join(facts['flags']) or 'no flag that we know'}",
        "packages " + ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version),
    ]
    width = max(len(check["name"]) for check in facts["checks"])
    for check in facts["checks"]:
        if check["name"] not in ("python", "onnxruntime") or check["ok"] is False:
            state = {True: "ok", False: "no", None: "-"}[check["ok"]]
            lines.append(f"{state:>2}  {check['name']:{width}}  {check['value'] or 'none'}")
    if "power" in facts:
        lines.append(f"power    {' + '.join(facts['power']['sources']) or 'cannot be read'}")
        lines += [f"         {note}" for note in facts["power"]["notes"]]
    better = [check for check in facts["checks"] if check["ok"] is False and check["name"] not in facts["packages"]]
    lines += [f"better   {_advice(check)}" for check in better]
    lines += [f"missing  {entry['package']} ({entry['for']}): {entry['install']}" for entry in facts["missing"]]
    return "\n".join(lines if facts["missing"] or better else [*lines, "nothing is missing"])


def _advice(check: dict[str, Any]) -> str:
    why = f" ({check['why']})" if check["why"] else ""
    return f"{check['name']}{why}" + (f": {check['fix']}" if check["fix"] else "")
