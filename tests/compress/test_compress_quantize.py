import copy

import pytest
import torch
from torch import Tensor, nn

from edge.compress.fold import FoldedStudent
from edge.compress.quantize import (
    LayerRange,
    float_layers,
    layer_quantizers,
    layer_ranges,
    quantize,
    quantizers,
    uint8_behind_relu,
)

SERIES_LAYERS = [f"{trunk}.{layer}" for trunk in ("specific", "shared") for layer in ("conv1", "conv2", "dense")]
VECTOR_LAYERS = [f"{trunk}.{layer}" for trunk in ("specific", "shared") for layer in ("dense1", "dense2")]


def rounded(x: Tensor, limit: float) -> Tensor:
    """int8 in steps of limit / 127, as both the engines and NNCF mean it."""
    step = limit / 127
    return (x / step).round().clamp(-128, 127) * step


def by_hand(student: FoldedStudent, ranges: dict[str, LayerRange], x: Tensor) -> Tensor:
    """The prediction when the inputs and weights of the layers in `ranges` are rounded, without NNCF."""
    student = copy.deepcopy(student)
    for name, limits in ranges.items():
        layer = student.get_submodule(name)
        layer.weight = nn.Parameter(rounded(layer.weight.detach(), limits.weight_limit))
        layer.register_forward_pre_hook(lambda _, given, limit=limits.input_limit: rounded(given[0], limit))
    with torch.no_grad():
        prediction: Tensor = student(x)[0]
    return prediction


def assert_close_but_for_ties(found: Tensor, expected: Tensor) -> None:
    """A value on the edge between two steps may fall to either side, which moves few predictions, and those little."""
    difference = (found - expected).abs() / expected.std()
    assert difference.median() < 1e-5
    assert difference.max() < 0.05


@pytest.fixture
def ranges(two, live) -> dict[str, LayerRange]:
    return layer_ranges(live, two.samples.inputs["optical"][:1])


def test_ranges_are_found_for_exactly_the_weighted_layers_of_trunks_and_to_shared(two, ranges) -> None:
    assert set(ranges) == {*SERIES_LAYERS, "to_shared.project"}
    assert ranges == two.compressed.ranges["optical"]


def test_each_kind_of_encoder_is_quantized(three) -> None:
    assert set(three.compressed.ranges["soil"]) == {*VECTOR_LAYERS, "to_shared.project"}
    assert set(three.compressed.ranges["sar"]) == {*SERIES_LAYERS, "to_shared.project"}


def test_with_layer_norm_the_trunks_alone_are_quantized(layer_norm) -> None:
    assert set(layer_norm.compressed.ranges["optical"]) == set(SERIES_LAYERS)


def test_inputs_behind_a_relu_are_known_as_non_negative(ranges) -> None:
    assert {name for name, limits in ranges.items() if not limits.non_negative} == {"specific.conv1", "shared.conv1"}


def test_both_encoders_read_one_input_quantizer(two, live) -> None:
    layers = layer_quantizers(live, two.samples.inputs["optical"][:1])
    assert layers["specific.conv1"].activation is layers["shared.conv1"].activation
    assert layers["specific.conv2"].activation is not layers["shared.conv2"].activation


def test_every_quantizer_is_signed_and_has_one_range(live) -> None:
    found = quantizers(live)
    assert found
    assert all(module.signed and module.scale.numel() == 1 for module in found.values())


def test_before_fine_tuning_a_weight_range_ends_at_the_largest_weight(two) -> None:
    student = FoldedStudent(two.trained.model.students["optical"])
    x = two.samples.inputs["optical"]
    for name, limits in layer_ranges(quantize(student, [x[:64]]), x[:1]).items():
        assert limits.weight_limit == pytest.approx(
            float(student.get_submodule(name).weight.detach().abs().max()), rel=1e-6
        ), name
        assert limits.weight_scale == limits.weight_limit / 127


def test_before_fine_tuning_an_input_range_ends_at_the_largest_calibration_value(two) -> None:
    student = FoldedStudent(two.trained.model.students["optical"])
    x = two.samples.inputs["optical"][:100]
    seen: dict[str, float] = {}
    for name in (*SERIES_LAYERS, "to_shared.project"):
        student.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: seen.__setitem__(name, float(given[0].abs().max()))
        )
    with torch.no_grad():
        student(x)
    plain = FoldedStudent(two.trained.model.students["optical"])
    for name, limits in layer_ranges(quantize(plain, [x]), x[:1]).items():
        assert limits.input_limit == pytest.approx(seen[name], rel=1e-5), name


def test_the_model_computes_with_rounded_inputs_and_weights(two, live, ranges) -> None:
    x = two.samples.inputs["optical"]
    with torch.no_grad():
        found = live(x)[0]
    expected = by_hand(two.compressed.students["optical"], ranges, x)
    assert_close_but_for_ties(found, expected)
    float_student = two.compressed.students["optical"](x)[0]
    assert (found - float_student).abs().max() > 10 * (found - expected).abs().median()  # rounding is seen at all


@pytest.mark.parametrize("names", [{"specific.conv1", "shared.conv1"}, {"specific.dense", "to_shared.project"}])
def test_layers_can_be_left_in_float(two, live, ranges, names) -> None:
    x = two.samples.inputs["optical"]
    with torch.no_grad():
        before = live(x)[0]
        with float_layers(live, x[:1], names):
            found = live(x)[0]
        after = live(x)[0]
    kept = {name: limits for name, limits in ranges.items() if name not in names}
    assert_close_but_for_ties(found, by_hand(two.compressed.students["optical"], kept, x))
    assert torch.equal(before, after)
    assert not torch.equal(before, found)


def test_with_all_layers_in_float_nothing_is_rounded(two, live, ranges) -> None:
    x = two.samples.inputs["optical"]
    with torch.no_grad(), float_layers(live, x[:1], set(ranges)):
        torch.testing.assert_close(live(x)[0], two.compressed.students["optical"](x)[0], rtol=0, atol=1e-5)


def test_layers_are_quantized_again_when_the_block_fails(two, live, ranges) -> None:
    x = two.samples.inputs["optical"]
    with torch.no_grad():
        before = live(x)[0]
        with pytest.raises(ZeroDivisionError), float_layers(live, x[:1], set(ranges)):
            raise ZeroDivisionError
        assert torch.equal(live(x)[0], before)


def test_an_input_outside_the_range_saturates(two, live, ranges) -> None:
    limit = ranges["specific.conv1"].input_limit
    x = torch.sign(two.samples.inputs["optical"][:20]) * 1.5 * limit
    x[x == 0] = 1.5 * limit
    low = -128 / 127 * limit
    with torch.no_grad():
        outside, far_outside, at_the_end = (live(value)[0] for value in (x, 1000 * x, x.clamp(low, limit)))
    assert torch.equal(outside, far_outside)
    torch.testing.assert_close(outside, at_the_end)


def test_quantizing_leaves_the_student_as_it_was(two) -> None:
    student = FoldedStudent(two.trained.model.students["optical"])
    before = {name: value.clone() for name, value in student.state_dict().items()}
    quantized = quantize(student, [two.samples.inputs["optical"][:64]])
    with torch.no_grad():
        for parameter in quantized.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert set(before) == set(student.state_dict())


def test_a_layer_without_a_quantizer_above_it_is_an_error(two, live) -> None:
    from edge.compress.quantize import _walk_up

    with pytest.raises(ValueError, match="no quantizer above 'specific/relu1/relu/0'"):
        _walk_up({}, "specific/relu1/relu/0")


def test_uint8_has_twice_the_steps_behind_a_relu_and_only_there(two, live, ranges) -> None:
    x = two.samples.inputs["optical"]
    seen: dict[str, Tensor] = {}
    for name in ("specific.conv1", "specific.conv2"):
        live.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: seen.__setitem__(name, given[0].unique())
        )
    with torch.no_grad():
        before = live(x)[0]
        with uint8_behind_relu(live, x[:1]):
            live(x)
        steps = {name: ranges[name].input_limit / (255 if ranges[name].non_negative else 127) for name in seen}
        for name, values in seen.items():
            multiples = values / steps[name]
            assert (multiples - multiples.round()).abs().max() < 1e-3, name
        assert len(seen["specific.conv2"]) > 128
        assert torch.equal(live(x)[0], before)
