"""The tables and pictures of README.md, from the reports in benchmarks/results.

    python -m edge.benchmarks.readme README.md

replaces what stands between `<!-- report:NAME -->` and `<!-- /report -->` by the table of benchmarks/results/NAME.json,
and draws benchmarks/results/NAME.svg. A report comes from `edge build ... --json` or from a bundle's report.json.
"""

import json
import re
import sys
from pathlib import Path

from edge.benchmarks.pareto import standalone_svg
from edge.benchmarks.report import Report, read_report, table
from edge.files import write_text

MARK = re.compile(r"<!-- report:([\w.-]+) -->\n.*?<!-- /report -->", re.DOTALL)


def update(readme: Path) -> list[str]:
    """Rewrite the marked parts of `readme` and the pictures beside their reports; return the names of the reports."""
    results = readme.parent / "benchmarks" / "results"
    reports: dict[str, Report] = {}

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        reports[name] = read_report(results / f"{name}.json")
        return f"<!-- report:{name} -->\n{markdown(reports[name])}\n<!-- /report -->"

    text = MARK.sub(replace, readme.read_text(encoding="utf-8"))
    for name, report in reports.items():
        write_text(results / f"{name}.svg", standalone_svg(report))
    write_text(readme, text)
    return list(reports)


def markdown(report: Report) -> str:
    """The report's table as it stands in a terminal, and where it was measured."""
    machine, rows = report["machine"], report["results"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    threads = ", ".join(str(count) for count in sorted({row["threads"] for row in rows}))
    gates = [gate for gate in report["gates"] if not gate["passed"]]
    failed = ", ".join(gate["name"] for gate in gates)
    passed = f"failed: {failed}" if failed else f"all {len(report['gates'])} gates passed"
    passed = f"; {passed}" if report["gates"] else ""
    return (
        f"    $ {report['command']}\n"
        + "".join(f"    {line}\n" for line in table(report).splitlines())
        + f"\nTest part: {report['protocol']}. {machine['cpu']}, {threads} thread, {versions}{passed}."
    )


if __name__ == "__main__":
    print(json.dumps({"reports": update(Path(sys.argv[1] if len(sys.argv) > 1 else "README.md"))}))
