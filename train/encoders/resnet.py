"""ResNet-18 and ResNet-50 (He et al. 2015, arXiv 1512.03385) for images with any number of bands.

For images with much training data, or with weights that were trained elsewhere: `model.weights` names a local
safetensors file whose tensors are called and shaped as in torchvision's resnet18 / resnet50 (v1.5: the stride of a
bottleneck is in its 3 x 3 convolution). To make one from a torch file:

    safetensors.torch.save_file(torch.load("resnet18.pth", weights_only=True), "resnet18.safetensors")

`fc` is not read; the dense layer that every trunk ends with has no counterpart there and starts fresh. A first
convolution of as many bands as the images have is taken as it is: give the bands in the order of the weights (red,
green, blue). For another number of bands each band gets the mean over the stored ones, times stored / bands, so that
its output keeps its size (Carreira and Zisserman 2017, arXiv 1705.07750, inflate filters the same way).

`model.width` 128 has the published channels, 64 half of them. Images from 32 x 32 pixels on make sense: five halvings.

INT8: all of it.
"""

from pathlib import Path

from torch import Tensor, nn

from edge.errors import InputError
from edge.recipe import Model
from edge.sensors import Modality
from edge.train.encoders.blocks import Residual, convolution, image_end, numbered, scaled

NAMES: tuple[str, ...] = ("resnet18", "resnet50")
KINDS: tuple[str, ...] = ("image",)
NO_INT8: str | None = None

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
CHANNELS = (64, 128, 256, 512)
EXPANSION = {"resnet18": 1, "resnet50": 4}


def block(name: str, inputs: int, channels: int, stride: int) -> Residual:
    """Two 3 x 3 convolutions (resnet18) or a bottleneck (resnet50)."""
    outputs = channels * EXPANSION[name]
    if name == "resnet18":
        layers = numbered(convolution(inputs, channels, 3, stride=stride), 1)
        layers |= numbered(convolution(channels, outputs, 3, relu=False), 2)
    else:
        layers = numbered(convolution(inputs, channels, 1), 1)
        layers |= numbered(convolution(channels, channels, 3, stride=stride), 2)
        layers |= numbered(convolution(channels, outputs, 1, relu=False), 3)
    shortcut = None
    if stride > 1 or inputs != outputs:
        shortcut = nn.Sequential(convolution(inputs, outputs, 1, stride=stride, relu=False))
    return Residual(nn.Sequential(layers), shortcut, after=nn.ReLU())


def trunk(modality: Modality, model: Model) -> nn.Sequential:
    """Images (N, B, H, W), normalised -> features (N, hidden), non-negative."""
    name = model.encoder or NAMES[0]
    inputs = scaled(CHANNELS[0], model)
    layers = numbered(convolution(modality.shape[0], inputs, 7, stride=2), 1)
    layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    pixels = -(-max(modality.shape[1:]) // 4)  # the longer side of the map
    for number, (count, published) in enumerate(zip(BLOCKS[name], CHANNELS, strict=True), 1):
        channels, stage = scaled(published, model), nn.Sequential()
        # On a map of one pixel a stride changes nothing, but torch 2.13 gets its gradient wrong in bfloat16.
        stride = 2 if number > 1 and pixels > 1 else 1
        for index in range(count):
            stage.append(block(name, inputs, channels, 1 if index else stride))
            inputs = channels * EXPANSION[name]
        pixels = -(-pixels // stride)
        layers[f"layer{number}"] = stage
    result = nn.Sequential(layers | image_end(inputs, model))
    if model.weights is not None:
        load_weights(result, name, Path(model.weights))
    return result


def torchvision_name(ours: str) -> str:
    """layer1.0.body.norm1.bias -> layer1.0.bn1.bias, layer2.0.shortcut.conv.weight -> layer2.0.downsample.0.weight."""
    for mine, theirs in (
        ("shortcut.conv.", "downsample.0."),
        ("shortcut.norm.", "downsample.1."),
        ("body.", ""),
        ("norm", "bn"),
    ):
        ours = ours.replace(mine, theirs)
    return ours


def load_weights(trunk: nn.Sequential, name: str, path: Path) -> None:
    """Fill `trunk` from a safetensors file; InputError that names what is missing, not known or of another shape."""
    stored = _read(path)
    mine = {torchvision_name(key): key for key in trunk.state_dict() if not key.startswith("dense")}
    wanted = {theirs: trunk.state_dict()[key] for theirs, key in mine.items()}
    stored = {key: value for key, value in stored.items() if not key.startswith("fc.")}
    first, counts = "conv1.weight", "num_batches_tracked"
    if first in stored and stored[first].dim() == 4:
        stored[first] = adapt_bands(stored[first], wanted[first].shape[1])
    faults = [f"{key} is missing" for key in wanted if key not in stored and not key.endswith(counts)]
    faults += [f"{key} is not known" for key in stored if key not in wanted]
    faults += [
        f"{key} has shape {list(stored[key].shape)}, not {list(value.shape)}"
        for key, value in wanted.items()
        if key in stored and stored[key].shape != value.shape
    ]
    if faults:
        more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise InputError(
            f"the weights {path} do not fit {name}: {'; '.join(faults[:5])}{more}; names are those of torchvision's "
            f"{name}, channels those of model.width 128"
        )
    trunk.load_state_dict({mine[key]: value for key, value in stored.items()}, strict=False)


def adapt_bands(weight: Tensor, bands: int) -> Tensor:
    """A first convolution (out, stored, k, k) for `bands` bands; as it is if their number is the same."""
    stored = weight.shape[1]
    if stored == bands:
        return weight
    return (weight.mean(dim=1, keepdim=True) * (stored / bands)).repeat(1, bands, 1, 1)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"model.weights {path} is not a safetensors file that can be read: {error}") from None
