"""sensitivity.json as a table for a terminal."""

from typing import Any

from edge.benchmarks.report import columns

ALONE, LEFT = ("alone: loss [95 %]", "points"), ("left in float: loss [95 %]", "points")
HEAD = ["student", "layer", *ALONE, *LEFT, "latency", "proposal"]


def table(document: dict[str, Any]) -> str:
    """What each layer does alone in INT8, the worst first, and what leaving it in float takes back and costs."""
    lines, said = [HEAD], []
    for modality, student in document["students"].items():
        proposal = document["proposal"]["students"][modality]
        for layer in student["layers"]:
            cells = [modality, " + ".join(layer["names"])]
            for part in (layer["alone"], layer["left"]):
                cells += [_loss(part), f"{100 * part['metric']:+.2f}"]
            cells += [
                f"x {layer['latency']:.2f}",
                "float" if set(layer["names"]) <= set(proposal["layers"]) else "int8",
            ]
            lines.append(cells)
        said.append(_summary(modality, student, proposal, document["proposal"]["budget"]))
    return "\n".join([columns(lines, left=2), "", *said])


def _loss(part: dict[str, Any]) -> str:
    ends = part["loss_ci95"]
    return f"{part['loss']:+.5f}" + (f" [{ends[0]:+.5f}, {ends[1]:+.5f}]" if ends else "")


def _summary(modality: str, student: dict[str, Any], proposal: dict[str, Any], budget: float) -> str:
    before, after = student["float"], student["int8"]
    text = (
        f"{modality}: INT8 raises the loss from {before['loss']:.5f} to {after['loss']:.5f}, {student['metric']} "
        f"changes by {100 * (after['metric'] - before['metric']):+.2f} points on {student['samples']} validation "
        "samples; "
    )
    if not proposal["layers"]:
        return text + f"no layer whose damage is beyond doubt fits a latency of x {budget:g}: all stay in INT8"
    return text + (
        f"in float {', '.join(proposal['layers'])}: loss {_loss(proposal)}, metric {100 * proposal['metric']:+.2f} "
        f"points, latency x {proposal['latency']:.2f} (budget x {budget:g})"
    )
