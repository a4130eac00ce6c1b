"""Every name of TensorRT's bindings that our code uses is there in the versions that the code is for.

The lists are those of JetPack 6 (10.3), JetPack 7.2 (10.16) and of 11.4; they lie beside the repository, not in it.
"""

import ast
import json
from pathlib import Path

import pytest

LISTS = Path(__file__).parents[3] / "shared" / "device"
VERSIONS = ("10.3", "10.16", "11.4")
FILES = [
    Path(__file__).parents[2] / "deploy" / f"{name}.py"
    for name in (
        "builder_tensorrt", "contexts", "dla", "engine_tensorrt", "progress", "slot", "tensorrt_api", "timing_cache",
    )
]  # fmt: skip
# What a variable of this name is in our files.
CLASSES = {
    "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig",
    "profile": "IOptimizationProfile", "tensor": "ITensor", "layer": "ILayer", "cache": "ITimingCache",
    "_runtime": "Runtime", "_engine": "ICudaEngine", "engine": "ICudaEngine", "_context": "IExecutionContext",
    "context": "IExecutionContext", "runtime": "IRuntimeConfig",
    "inspector": "EngineInspector", "error": "ParserError",
}  # fmt: skip
# Used where the version has them: weakly typed networks and TensorRT before 10 have all; TensorRT-RTX its GPUs.
BEFORE_11 = {
    "BuilderFlag.FP16", "BuilderFlag.INT8", "BuilderFlag.OBEY_PRECISION_CONSTRAINTS", "ILayer.precision",
    "ILayer.set_output_type", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "PreviewFeature.PROFILE_SHARING_0806",
}  # fmt: skip
RTX_ONLY = {
    "BuilderFlag.REQUIRE_USER_ALLOCATION", "ComputeCapability", "DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER", "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability", "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
}  # fmt: skip
# Used with TensorRT-RTX alone, and there in newer versions of the other, too.
WITH_RTX = {"ICudaEngine.create_runtime_config", "IRuntimeConfig.set_execution_context_allocation_strategy"}
OURS = {
    "error.message",
    "engine.close",
    "tensor.dtype",
    "tensor.shape",
    "tensor.name",
    "tensor.to_json",
}  # other things of that name


def used() -> dict[str, str]:
    """ "Class.member" or "Class" -> the file that uses it."""
    found = {}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            variable = (
                owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            )
            if variable == "flags" and node.attr.isupper():
                found[f"NetworkDefinitionCreationFlag.{node.attr}"] = file.name
            elif variable == "trt" and node.attr != "__version__":
                found[node.attr] = file.name
            elif isinstance(owner, ast.Attribute) and _is_trt(owner.value):
                found[f"{owner.attr}.{node.attr}"] = file.name
            elif variable in CLASSES and f"{variable}.{node.attr}" not in OURS:
                found[f"{CLASSES[variable]}.{node.attr}"] = file.name
    return {name: file for name, file in found.items() if not name.endswith("__members__")}


def _is_trt(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "trt") or (isinstance(node, ast.Attribute) and node.attr == "trt")


@pytest.fixture(scope="module")
def lists() -> dict[str, dict[str, list[str]]]:
    found = {version: LISTS / f"tensorrt_names_{version}.json" for version in VERSIONS}
    if missing := [str(path) for path in found.values() if not path.is_file()]:
        pytest.skip(
            f"{missing[0]} is not here: it holds the names of NVIDIA's bindings, and is no part of the repository"
        )
    return {version: json.loads(path.read_text()) for version, path in found.items()}


def has(names: dict[str, list[str]], used_name: str) -> bool:
    kind, _, member = used_name.partition(".")
    return kind in names and (not member or member in names[kind])


def test_names_are_found_in_our_files():
    names = used()
    assert {"Builder", "OnnxParser", "Runtime", "IBuilderConfig.set_flag", "BuilderFlag.INT8"} <= set(names)
    assert {"IExecutionContext.execute_async_v3", "ICudaEngine.get_tensor_profile_shape"} <= set(names)
    assert len(names) > 60


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_there_in_each_version_that_uses_it(lists, version):
    allowed = RTX_ONLY | WITH_RTX | (BEFORE_11 if version.startswith("11") else set())
    missing = {name: file for name, file in used().items() if not has(lists[version], name) and name not in allowed}
    assert missing == {}


def test_names_of_the_old_branch_are_gone_in_11_and_there_before(lists):
    """Otherwise the branch would not be needed, or would not work."""
    for name in BEFORE_11:
        assert [has(lists[version], name) for version in VERSIONS] == [True, True, False], name
    assert not [name for name in RTX_ONLY if any(has(names, name) for names in lists.values())]
    assert set(used()) >= BEFORE_11 | RTX_ONLY | WITH_RTX


def test_what_only_tensorrt_rtx_has_is_there():
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    names = {name: dir(getattr(rtx, name)) for name in dir(rtx) if not name.startswith("_")}
    assert not [name for name in RTX_ONLY | WITH_RTX if not has(names, name)]
