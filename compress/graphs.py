"""The graphs of one student, for a bundle: FP32, and INT8 in each target's placement, with what was checked on them."""

import copy
from dataclasses import dataclass

import onnx
import torch

from edge.compress.compression import Compressed
from edge.compress.export import PredictionOnly, export
from edge.compress.fold import DeployedStudent, FoldedSingle, FoldedStudent, cost
from edge.compress.placement import place
from edge.deploy.sparsity import declare, present
from edge.train.model import Branch, SingleBranch
from edge.train.training import Trained


@dataclass(frozen=True)
class Folding:
    """What exact folding saved; `difference` is the largest between the outputs for normal random inputs."""

    before: dict[str, int]
    after: dict[str, int]
    difference: float

    def line(self) -> str:
        """For people."""
        pairs = (f"{self.before[name]:,} -> {self.after[name]:,} {name}" for name in self.before)
        return f"folding: {', '.join(pairs)}; outputs differ by at most {self.difference:.0e}"


def fp32_graph(trained: Trained, modality: str) -> onnx.ModelProto:
    """The folded float student of `modality`."""
    return _export(trained, modality, _fold(trained, modality))


def unfolded_graph(trained: Trained, modality: str) -> onnx.ModelProto:
    """The student of `modality` as it was trained, nothing folded: to show what folding saves."""
    return _export(trained, modality, PredictionOnly(copy.deepcopy(trained.model.students[modality])))


def tuned_graph(trained: Trained, compressed: Compressed, modality: str) -> onnx.ModelProto:
    """The fine-tuned student of `modality` in float, before it is quantized."""
    return _export(trained, modality, DeployedStudent(copy.deepcopy(compressed.students[modality])))


def int8_graphs(trained: Trained, compressed: Compressed, modality: str) -> dict[str, onnx.ModelProto]:
    """The fine-tuned student with the Q/DQ pairs of each target, from one set of trained ranges."""
    tuned = tuned_graph(trained, compressed, modality)
    ranges, excluded = compressed.ranges[modality], compressed.students[modality].excluded
    graphs = {f"int8.{target}": place(tuned, ranges, target, excluded) for target in ("tensorrt", "cpu")}
    for graph in graphs.values():
        declare(graph, present(graph, compressed.students[modality].sparse))
    return graphs


def folding(trained: Trained, modality: str) -> Folding:
    """Parameters, multiply-accumulates and ONNX nodes before and after, measured on the models themselves."""
    branch, folded = trained.model.students[modality], _fold(trained, modality)
    x = torch.randn(64, *trained.modalities[modality].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = float((branch(x).prediction - folded(x)).abs().max())
    before = cost(branch, x[:1]).to_json() | {"nodes": len(unfolded_graph(trained, modality).graph.node)}
    after = cost(folded, x[:1]).to_json() | {"nodes": len(fp32_graph(trained, modality).graph.node)}
    return Folding(before, after, difference)


def _fold(trained: Trained, modality: str) -> torch.nn.Module:
    branch = trained.model.students[modality]
    if isinstance(branch, SingleBranch):
        return FoldedSingle(branch)
    assert isinstance(branch, Branch)  # noqa: S101 - there are two kinds
    return DeployedStudent(FoldedStudent(branch))


def _export(trained: Trained, modality: str, student: torch.nn.Module) -> onnx.ModelProto:
    return export(
        student, trained.modalities[modality], trained.task, trained.scaling[modality], trained.target_scaling
    )
