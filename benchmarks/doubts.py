"""What gives reason to doubt the figures of a report: said first, before any figure."""

from collections.abc import Mapping, Sequence
from typing import Any

# Cores busy with something else, above which latencies are said to be disturbed.
OTHER_LOAD = 0.3
# p90 / p50 of a quiet machine stays below 1.2.
UNSTABLE = 1.5


def doubts(machine: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences for people, the worst first."""
    return [
        *_doubts_about_machine(machine, results),
        *_doubts_about_latency(results),
        *_doubts_about_accuracy(results),
    ]


def _doubts_about_machine(machine: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    load = max((row.get("other_load") or 0.0 for row in results), default=0.0)
    if load > OTHER_LOAD:
        found.append(f"Something else kept up to {load:.1f} cores busy while latency was measured.")
    governor = machine.get("governor")
    if governor not in (None, "performance"):
        found.append(
            f"The processor's clock follows the governor {governor!r}; latency is steadier with 'performance'."
        )
    return found


def _doubts_about_latency(results: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for row in results:
        name = f"{row['method']} {row['precision'].upper()} at batch {row['batch']}"
        latency = row["latency_ms"]
        if latency["p50"] and latency["p90"] and latency["p90"] > UNSTABLE * latency["p50"]:
            found.append(f"The latency of {name} is unsteady: p90 is {latency['p90'] / latency['p50']:.1f} x p50.")
    smallest = min((row["batch"] for row in results), default=0)
    short = [row for row in results if row["batch"] == smallest and row["latency_ms"]["p99"] is None]
    if short:
        least = min(row["latency_ms"]["n"] for row in short)
        found.append(f"{least} samples at batch {smallest} are too few for p99; measure longer.")
    return found


def _doubts_about_accuracy(results: Sequence[Mapping[str, Any]]) -> list[str]:
    if any(row["metric"] is None for row in results):
        return ["Accuracy was not measured: no targets were given."]
    if any(row["metric_ci95"] is None for row in results):
        return ["There is no interval for the accuracy: all samples are of one group."]
    return []
