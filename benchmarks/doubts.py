"""What gives reason to doubt the figures of a report: said first, before any figure."""

from collections.abc import Mapping, Sequence
from typing import Any

# Cores busy with something else, above which latencies are said to be disturbed.
OTHER_LOAD = 0.3
# p90 / p50 of a quiet machine stays below 1.2.
UNSTABLE = 1.5
# Between the two halves of one measurement, and between begin and end of a sustained run: what a steady clock keeps.
DRIFT = 1.1
Row = Mapping[str, Any]


def doubts(
    machine: Mapping[str, Any],
    results: Sequence[Row],
    scenarios: Sequence[Row] = (),
    sustained: Sequence[Row] = (),
) -> list[str]:
    """Sentences for people, the worst first."""
    results, scenarios, sustained = (_told_apart(rows) for rows in (results, scenarios, sustained))
    return [
        *_doubts_about_machine(machine, [*results, *scenarios]),
        *_doubts_about_heat(results, sustained),
        *_doubts_about_latency(results),
        *_doubts_about_scenarios(scenarios),
        *_doubts_about_accuracy(results),
    ]


def _doubts_about_machine(machine: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    found = []
    load = max((row.get("other_load") or 0.0 for row in rows), default=0.0)
    if load > OTHER_LOAD:
        found.append(f"Something else kept up to {load:.1f} cores busy while latency was measured.")
    governor = machine.get("governor")
    if governor not in (None, "performance"):
        found.append(
            f"The processor's clock follows the governor {governor!r}; latency is steadier with 'performance'."
        )
    return found


def _doubts_about_heat(results: Sequence[Row], sustained: Sequence[Row]) -> list[str]:
    found = []
    for row in [*results, *sustained]:
        power = row.get("power") or {}
        if row.get("throttled") or power.get("throttled"):
            found.append(f"The processor was throttled while {_name(row)} ran.")
        if power.get("clock_drop"):
            found.append(f"The clock fell while {_name(row)} ran.")
    notes = [power["notes"] for row in results if (power := row.get("power")) and power["source"] is None]
    found += [f"Energy was not measured: {note}." for note in dict.fromkeys(note for one in notes for note in one)]
    slower = [row for row in sustained if (row["slowdown"] or 0.0) > DRIFT]
    return found + [
        f"{_name(row)} became slower in {row['duration_s'] / 60:.1f} minutes under load: "
        f"p50 at the end is {row['slowdown']:.2f} x that of the begin."
        for row in slower
    ]


def _doubts_about_latency(results: Sequence[Row]) -> list[str]:
    found = []
    for row in results:
        latency = row["latency_ms"]
        if latency["p50"] and latency["p90"] and latency["p90"] > UNSTABLE * latency["p50"]:
            found.append(
                f"The latency of {_name(row)} is unsteady: p90 is {latency['p90'] / latency['p50']:.1f} x p50."
            )
        drift = latency.get("drift")
        if drift and not 1 / DRIFT <= drift <= DRIFT:
            found.append(
                f"The latency of {_name(row)} drifted: the median of the second half is {drift:.2f} x that of the "
                "first; the clock may be unstable."
            )
    smallest = min((row["batch"] for row in results), default=0)
    short = [row for row in results if row["batch"] == smallest and row["latency_ms"]["p99"] is None]
    if short:
        least = min(row["latency_ms"]["n"] for row in short)
        found.append(f"{least} samples at batch {smallest} are too few for p99; measure longer.")
    return found


def _doubts_about_scenarios(scenarios: Sequence[Row]) -> list[str]:
    found = []
    for row in scenarios:
        name = f"{row['method']} {row['precision'].upper()} in the scenario {row['scenario']}"
        if row["scenario"] == "server" and row["rate_per_s"] is None:
            found.append(f"No rate was found that {name} serves within {row['bound_ms']:g} ms.")
        elif row["percentile"] is not None and row["estimate_ms"] is None:
            found.append(f"{row['queries']} queries of {name} are too few for {row['percentile']}; measure longer.")
    return found


def _doubts_about_accuracy(results: Sequence[Row]) -> list[str]:
    if any(row["metric"] is None for row in results):
        return ["Accuracy was not measured: no targets were given."]
    if any(row["metric_ci95"] is None for row in results):
        return ["There is no interval for the accuracy: all samples are of one group."]
    return []


def _name(row: Row) -> str:
    return f"{row['method']} {row['precision'].upper()} at batch {row['batch']}"


def _told_apart(rows: Sequence[Row]) -> Sequence[Row]:
    """Where rows are of several modalities or engines, these stand beside the method's name."""
    if len({row.get("modality") for row in rows}) > 1:
        rows = [{**row, "method": f"{row['modality']} {row['method']}"} for row in rows]
    if len({row.get("engine") for row in rows}) > 1:
        rows = [{**row, "method": f"{row['engine']} {row['method']}"} for row in rows]
    return rows
