"""Every family: shapes, the promise that compression builds on, and what the recipe may say."""

import copy
import dataclasses
import math
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edge.errors import InputError
from edge.recipe import Model
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.encoders import FAMILIES, build_trunk, choose_family, known_encoders, no_int8, weights_digest
from edge.train.encoders.blocks import Dropout
from edge.train.encoders.ltae import HEADS, position_sines
from edge.train.encoders.mobilenet import HALVINGS, TABLE, halvings
from edge.train.encoders.patch import MAP, WINDOW
from edge.train.encoders.resnet import adapt_bands, torchvision_name
from edge.train.model import Branch

SMALL = Model(width=16, hidden=24, embedding=8)


def modality(kind: str, *shape: int) -> Modality:
    dims = {"vector": ("band",), "series": ("time", "band"), "image": ("band", "y", "x")}[kind]
    return Modality(kind, tuple(Band(f"b{i}") for i in range(shape[dims.index("band")])), dims, shape)


SHAPES = {
    "series": [modality("series", 4, 2), modality("series", 12, 5)],
    "vector": [modality("vector", 3)],
    "image": [modality("image", 1, 9, 9), modality("image", 5, 40, 20)],
}
CASES = [
    pytest.param(name, shape, id=f"{name}-{'x'.join(map(str, shape.shape))}")
    for family in FAMILIES
    for name in family.NAMES
    for kind in family.KINDS
    for shape in SHAPES[kind]
]


def with_encoder(name: str | None, model: Model = SMALL) -> Model:
    return dataclasses.replace(model, encoder=name)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_trunk_is_a_sequential_that_ends_in_non_negative_features(name, shape):
    trunk = build_trunk(shape, with_encoder(name))
    assert isinstance(trunk, nn.Sequential)
    features = trunk(torch.randn(6, *shape.shape))
    assert features.shape == (6, 24)
    assert (features >= 0).all()
    assert (features > 0).any()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("steps", [1, 2, 4, 9])
def test_the_tempcnn_computes_what_its_layers_do_one_by_one(steps, kernel, training):
    torch.manual_seed(steps)
    ours = build_trunk(modality("series", steps, 3), dataclasses.replace(SMALL, kernel=kernel, dropout=0.0)).double()
    theirs = nn.Sequential(OrderedDict(copy.deepcopy(ours).named_children()))
    x = torch.randn(6, steps, 3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for trunk in (ours, theirs):
        output = trunk.train(training)(x)
        weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
        gradients.append([output, *torch.autograd.grad((output * weights).sum(), [x, *trunk.parameters()])])
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())  # the running statistics of batch norm, too


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_parameter_of_a_trunk_learns(name, shape):
    torch.manual_seed(0)
    trunk = build_trunk(shape, with_encoder(name))
    trunk(torch.randn(8, *shape.shape)).square().sum().backward()
    still = [key for key, value in trunk.named_parameters() if value.grad is None or not value.grad.isfinite().all()]
    assert not still


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_sample_is_encoded_without_a_look_at_its_neighbours(name, shape):
    torch.manual_seed(0)
    trunk = build_trunk(shape, with_encoder(name)).eval()
    x = torch.randn(5, *shape.shape)
    with torch.no_grad():
        torch.testing.assert_close(trunk(x[:1]), trunk(x)[:1], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(trunk(x)[0], trunk(x)[1])


@pytest.mark.parametrize("name", ["tempcnn", "ltae", "gru", "transformer"])
def test_the_order_of_the_steps_counts(name):
    torch.manual_seed(0)
    shape = modality("series", 6, 3)
    trunk = build_trunk(shape, with_encoder(name)).eval()
    x = torch.randn(4, 6, 3)
    with torch.no_grad():
        assert (trunk(x) - trunk(x.flip(1))).abs().max() > 1e-4


def test_the_default_is_the_first_family_of_the_kind():
    found = {kind: choose_family(shapes[-1], SMALL)[0] for kind, shapes in SHAPES.items()}
    assert found == {"series": "tempcnn", "vector": "mlp", "image": "mobilenet"}


@pytest.mark.parametrize(
    ("size", "expected"), [((9, 9), "patch"), ((3, WINDOW), "patch"), ((WINDOW + 1, 3), "mobilenet")]
)
def test_the_default_of_small_images_is_the_patch_encoder(size, expected):
    assert choose_family(modality("image", 2, *size), SMALL)[0] == expected
    assert choose_family(modality("image", 2, *size), with_encoder("resnet18"))[0] == "resnet18"


def test_one_encoder_may_be_named_for_each_kind():
    asked = with_encoder("ltae, resnet18,mlp")
    found = {kind: choose_family(shapes[0], asked)[0] for kind, shapes in SHAPES.items()}
    assert found == {"series": "ltae", "vector": "mlp", "image": "resnet18"}


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ("resnet34", "image", "'resnet34' is not known; known: .*for image mobilenet, resnet18, resnet50, patch"),
        ("ltae", "image", "names no encoder for modality 'image'.*name one of mobilenet, resnet18, resnet50, patch"),
        ("ltae,gru", "series", r"more than one encoder \(ltae, gru\)"),
    ],
)
def test_a_name_that_does_not_fit_is_refused_with_those_that_do(asked, kind, message):
    with pytest.raises(InputError, match=message):
        build_trunk(SHAPES[kind][0], with_encoder(asked))


def test_the_gru_alone_says_that_it_cannot_be_int8():
    reasons = {
        name: no_int8(SHAPES[family.KINDS[0]][0], with_encoder(name)) for family in FAMILIES for name in family.NAMES
    }
    assert {name for name, reason in reasons.items() if reason} == {"gru"}
    assert "'gru' of 'series' cannot be INT8: TensorRT" in reasons["gru"]
    assert all(name in known_encoders() for name in reasons)


@pytest.mark.parametrize("name", ["ltae", "transformer"])
def test_a_width_that_the_heads_cannot_share_is_refused(name):
    with pytest.raises(InputError, match=r"model\.width is 18"):
        build_trunk(SHAPES["series"][0], with_encoder(name, Model(width=18)))


# L-TAE


def test_positions_are_the_sines_of_the_transformer():
    sines = position_sines(5, 8)
    for step in range(5):
        for pair in range(4):
            angle = step / 1000 ** (2 * pair / 8)
            assert sines[step, 2 * pair] == pytest.approx(math.sin(angle), abs=1e-6)
            assert sines[step, 2 * pair + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_a_head_averages_its_own_share_of_the_channels_by_its_own_attention():
    torch.manual_seed(0)
    attention = build_trunk(modality("series", 7, 3), with_encoder("ltae", Model(width=32))).attention
    x = torch.randn(2 * 7, 32)
    keys = attention.key(x).reshape(2, 7, HEADS, 8)
    expected = torch.empty(2, 32)
    for sample in range(2):
        for head in range(HEADS):
            weights = (keys[sample, :, head] @ attention.attend.query[head, :, 0] / 8**0.5).softmax(0)  # (T,)
            share = slice(2 * head, 2 * head + 2)
            expected[sample, share] = weights @ x.reshape(2, 7, 32)[sample, :, share]
    torch.testing.assert_close(attention(x), expected)


# Transformer


def test_a_block_is_torchs_pre_norm_encoder_layer():
    torch.manual_seed(0)
    trunk = build_trunk(modality("series", 5, 3), with_encoder("transformer")).eval()
    reference = nn.TransformerEncoderLayer(16, 4, 32, dropout=0, batch_first=True, norm_first=True).eval()
    attention, dense = trunk.block1.attention.body, trunk.block1.dense.body
    reference.load_state_dict(
        {
            "self_attn.in_proj_weight": attention.mix.weight, "self_attn.in_proj_bias": attention.mix.bias,
            "self_attn.out_proj.weight": attention.out.weight, "self_attn.out_proj.bias": attention.out.bias,
            "norm1.weight": attention.norm.weight, "norm1.bias": attention.norm.bias,
            "norm2.weight": dense.norm.weight, "norm2.bias": dense.norm.bias,
            "linear1.weight": dense.widen.weight, "linear1.bias": dense.widen.bias,
            "linear2.weight": dense.narrow.weight, "linear2.bias": dense.narrow.bias,
        }
    )  # fmt: skip
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        torch.testing.assert_close(trunk.block1(x.reshape(15, 16)).reshape(3, 5, 16), reference(x))


# Images


@pytest.mark.parametrize(
    ("size", "expected"), [((256, 256), 5), ((128, 200), 5), ((64, 64), 4), ((32, 32), 3), ((9, 9), 1), ((3, 50), 0)]
)
def test_mobilenet_halves_small_images_less_often(size, expected):
    assert halvings(*size) == expected
    trunk = build_trunk(modality("image", 2, *size), with_encoder("mobilenet"))
    strides = [part.stride[0] for part in trunk.modules() if isinstance(part, nn.Conv2d)]
    assert strides.count(2) == expected
    assert 1 + sum(stride == 2 for *_, stride in TABLE) == HALVINGS


@pytest.mark.parametrize(
    ("size", "expected"),
    [((7, 7), (7, 7)), ((MAP, 3), (MAP, 3)), ((13, 13), (7, 7)), ((32, 20), (11, 7)), ((WINDOW, WINDOW), (MAP, MAP))],
)
def test_the_patch_encoder_reads_larger_windows_in_blocks_that_cover_them(size, expected):
    trunk = build_trunk(modality("image", 3, *size), with_encoder("patch"))
    assert trunk.spectrum(torch.randn(2, 3, *size)).shape[2:] == expected
    x = torch.zeros(1, 3, *size, requires_grad=True)
    trunk.spectrum.conv(x).sum().backward()
    assert (x.grad != 0).all()


def test_mobilenet_has_depthwise_convolutions_and_nothing_that_int8_engines_do_in_float():
    trunk = build_trunk(modality("image", 3, 64, 64), with_encoder("mobilenet", Model()))
    depthwise = [part for part in trunk.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    assert len(depthwise) == len(TABLE)
    assert all(part.groups == part.in_channels == part.out_channels for part in depthwise)
    assert not any(isinstance(part, nn.Hardswish | nn.ReLU6 | nn.Sigmoid) for part in trunk.modules())


@pytest.mark.parametrize(("side", "stride"), [(9, 1), (16, 1), (17, 2), (32, 2)])
def test_a_resnet_has_no_stride_on_a_map_of_one_pixel(side, stride):
    torch.manual_seed(0)
    trunk = build_trunk(modality("image", 1, side, side), dataclasses.replace(SMALL, encoder="resnet18")).eval()
    images, maps, (body, shortcut) = torch.randn(8, 1, side, side), [], (trunk.layer4[0].body, trunk.layer4[0].shortcut)
    body.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0].detach()))
    output = trunk(images)
    assert maps[0].shape[2:] == (stride, stride)
    assert body.conv1.stride == (stride, stride)
    gradients = []
    for bf16 in (False, True):
        body.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            convolved = body.conv1(maps[0])
        convolved.float().pow(2).mean().backward()
        gradients.append(body.conv1.weight.grad.flatten().clone())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99
    if stride == 1:  # it would change nothing
        body.conv1.stride = shortcut.conv.stride = (2, 2)
        torch.testing.assert_close(trunk(images), output)


# Sizes of torchvision 0.20: sum(p.numel() for p in resnet18().parameters()) without fc.
@pytest.mark.parametrize(("name", "count", "last"), [("resnet18", 11_176_512, 512), ("resnet50", 23_508_032, 2048)])
def test_a_resnet_has_the_published_parameters(name, count, last):
    trunk = build_trunk(modality("image", 3, 64, 64), with_encoder(name, Model()))
    assert sum(value.numel() for key, value in trunk.named_parameters() if not key.startswith("dense")) == count
    assert trunk.dense.in_features == last


def torchvision_weights(name: str, bands: int = 3, width: int = 16) -> dict[str, torch.Tensor]:
    """What torchvision's state dict would hold for a narrower resnet."""
    torch.manual_seed(1)
    trunk = build_trunk(modality("image", bands, 32, 32), Model(width=width, hidden=24, encoder=name))
    stored = {torchvision_name(key): torch.randn_like(value.float()) for key, value in trunk.state_dict().items()}
    stored = {key: value for key, value in stored.items() if not key.startswith("dense")}
    stored |= {key: torch.tensor(7) for key in stored if key.endswith("num_batches_tracked")}
    return stored | {"fc.weight": torch.zeros(1000, 9), "fc.bias": torch.zeros(1000)}


def resnet(path, name: str = "resnet18", bands: int = 3) -> nn.Sequential:
    return build_trunk(modality("image", bands, 32, 32), Model(width=16, hidden=24, encoder=name, weights=str(path)))


def test_the_names_are_those_of_torchvision():
    names = torchvision_weights("resnet18")
    assert {
        "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "layer1.0.conv1.weight",
        "layer1.1.bn2.bias", "layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var",
    } <= set(names)  # fmt: skip
    assert len(names) == 122  # of torchvision's resnet18
    assert {"layer1.0.conv3.weight", "layer1.0.downsample.0.weight"} <= set(torchvision_weights("resnet50"))
    assert len(torchvision_weights("resnet50")) == 320


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_weights_are_loaded_by_their_names(tmp_path, name):
    stored = torchvision_weights(name)
    save_file(stored, tmp_path / "weights.safetensors")
    loaded = {
        torchvision_name(key): value
        for key, value in resnet(tmp_path / "weights.safetensors", name).state_dict().items()
    }
    for key, value in stored.items():
        if not key.startswith("fc"):
            assert torch.equal(loaded[key].float(), value.float()), key


def test_a_first_convolution_for_other_bands_gives_the_same_for_a_grey_image(tmp_path):
    stored = torchvision_weights("resnet18")
    save_file(stored, tmp_path / "weights.safetensors")
    grey = torch.randn(2, 1, 32, 32)
    of_three = resnet(tmp_path / "weights.safetensors").conv1(grey.repeat(1, 3, 1, 1))
    for bands in (1, 2, 6):
        of_some = resnet(tmp_path / "weights.safetensors", bands=bands).conv1(grey.repeat(1, bands, 1, 1))
        torch.testing.assert_close(of_some, of_three, rtol=1e-4, atol=1e-4)
    assert adapt_bands(stored["conv1.weight"], 3) is stored["conv1.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("layer3.1.bn2.bias"), "layer3.1.bn2.bias is missing"),
        (lambda w: w.update({"layer9.weight": torch.zeros(1)}), "layer9.weight is not known"),
        (lambda w: w.update({"bn1.bias": torch.zeros(5)}), r"bn1.bias has shape \[5\], not \[8\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, message):
    stored = torchvision_weights("resnet18")
    change(stored)
    save_file(stored, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=message):
        resnet(tmp_path / "weights.safetensors")


def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(InputError, match="not a safetensors file"):
        resnet(tmp_path / "weights.pth")
    with pytest.raises(InputError, match="cannot be read"):
        weights_digest(Model(weights=str(tmp_path / "missing")))


def test_weights_are_named_by_their_content(tmp_path):
    assert weights_digest(Model()) is None
    (tmp_path / "a").write_bytes(b"1")
    before = weights_digest(Model(weights=str(tmp_path / "a")))
    (tmp_path / "a").write_bytes(b"2")
    assert weights_digest(Model(weights=str(tmp_path / "a"))) != before


@pytest.mark.parametrize("asked", [None, "ltae,mobilenet"])
def test_weights_that_no_encoder_would_read_are_refused(asked):
    with pytest.raises(InputError, match=r"model.weights is some.safetensors, .* use one of resnet18, resnet50"):
        build_trunk(SHAPES["image"][0], Model(weights="some.safetensors", encoder=asked))


def test_weights_are_for_the_images_of_a_run_and_its_series_do_without(tmp_path):
    save_file(torchvision_weights("resnet18"), tmp_path / "weights.safetensors")
    model = Model(width=16, hidden=24, encoder="ltae,resnet18", weights=str(tmp_path / "weights.safetensors"))
    build_trunk(SHAPES["series"][0], model)
    build_trunk(modality("image", 3, 32, 32), model)


@pytest.mark.parametrize("kind", ["series", "image"])
def test_both_encoders_of_a_student_are_of_the_named_family(kind):
    name = {"series": "ltae", "image": "patch"}[kind]
    student = Branch(SHAPES[kind][0], Task("regression"), with_encoder(name))
    wanted = set(build_trunk(SHAPES[kind][0], with_encoder(name)).state_dict())
    assert set(student.specific.trunk.state_dict()) == set(student.shared.trunk.state_dict()) == wanted


@pytest.mark.parametrize("p", [0.1, 0.4, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(1001, 999, requires_grad=True)  # not a multiple of 8
    dropped = Dropout(p)(x)
    kept = dropped != 0
    n = x.numel()
    assert kept.float().mean().item() == pytest.approx(1 - round(256 * p) / 256, abs=5 * math.sqrt(p * (1 - p) / n))
    assert dropped.mean().item() == pytest.approx(1, abs=5 * math.sqrt(p / (1 - p) / n))
    assert len(dropped.unique()) == 2
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped.detach())  # of ones: the mask, scaled


def test_dropout_masks_are_independent_from_value_to_value_and_from_call_to_call():
    torch.manual_seed(0)
    layer, x = Dropout(0.5), torch.ones(64, 8000)
    first, second = layer(x) / 2, layer(x) / 2
    for other in (second, first.roll(1, 1), first.roll(8, 1), first.roll(1, 0)):
        assert torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1].abs() < 5 / math.sqrt(x.numel())
    torch.manual_seed(0)
    assert torch.equal(layer(x) / 2, first)


def test_dropout_leaves_values_alone_where_nothing_is_to_be_dropped():
    x = torch.randn(5, 7)
    assert torch.equal(Dropout(0.4).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(5, 7))
