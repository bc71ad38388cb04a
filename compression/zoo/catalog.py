"""The architectures that Niwaki knows by name: which arguments each takes, and how it is built.

The API lists them, so nothing here imports torch before something is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compression.errors import SpecError

if TYPE_CHECKING:
    from torch import nn

    from compression.network import Network


class Arguments(BaseModel):
    """What every architecture takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    classes: int = Field(10, ge=1, le=100_000, description="length of the output")


class LeNet300Arguments(Arguments):
    features: int = Field(784, ge=1, le=1_000_000, description="length of the input")

    def shape(self) -> tuple[int, ...]:
        return (self.features,)


class LeNet5Arguments(Arguments):
    in_channels: int = Field(1, ge=1, le=64, description="channels of the 28 x 28 input")

    def shape(self) -> tuple[int, ...]:
        return (self.in_channels, 28, 28)


class ImageArguments(Arguments):
    """A network for images of any size; the size is what figures (MACs, latency) are given for."""

    in_channels: int = Field(3, ge=1, le=64, description="channels of the input")
    height: int = Field(32, ge=8, le=1024, description="of the input, in pixels")
    width: int = Field(32, ge=8, le=1024, description="of the input, in pixels")

    def shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.height, self.width)


class ResNetArguments(ImageArguments):
    channels: int = Field(
        16, ge=1, le=512, description="of the first stage; the others have twice and four times as many"
    )


class VGGArguments(ImageArguments):
    channels: int = Field(
        64, ge=1, le=512, description="of the first stage; the others have twice and four times as many"
    )


class MobileNetArguments(ImageArguments):
    multiplier: float = Field(1.0, ge=0.1, le=4.0, description="factor on the channels of every layer")
    small_images: bool = Field(True, description="first strides 1 instead of 2, for images of about 32 x 32")


class ViTArguments(ImageArguments):
    """The defaults are ViT-Tiny's, with patches for images of 32 x 32."""

    patch: int = Field(4, ge=1, le=64, description="side of a patch, in pixels; divides height and width")
    embedding: int = Field(192, ge=1, le=2048, description="length of a token; a multiple of heads")
    depth: int = Field(12, ge=1, le=48, description="blocks")
    heads: int = Field(3, ge=1, le=64, description="of each block's attention")
    hidden: int = Field(768, ge=1, le=8192, description="neurons of each block's FFN")

    @model_validator(mode="after")
    def _divides(self) -> ViTArguments:
        if self.height % self.patch or self.width % self.patch:
            raise ValueError("patch must divide height and width")
        if self.embedding % self.heads:
            raise ValueError("embedding must be a multiple of heads")
        return self


@dataclass(frozen=True)
class Architecture:
    """`build(arguments)` makes the module, with random weights."""

    summary: str
    arguments: type[LeNet300Arguments | LeNet5Arguments | ImageArguments]
    build: Callable[[Any], nn.Module]


def _lenet300(a: LeNet300Arguments) -> nn.Module:
    from compression.zoo.lenet import LeNet300

    return LeNet300(a.features, a.classes)


def _lenet5(a: LeNet5Arguments) -> nn.Module:
    from compression.zoo.lenet import LeNet5

    return LeNet5(a.in_channels, a.classes)


def _resnet(blocks: int) -> Callable[[ResNetArguments], nn.Module]:
    def build_resnet(a: ResNetArguments) -> nn.Module:
        from compression.zoo.resnet import SmallResNet

        return SmallResNet(blocks, a.in_channels, a.classes, a.channels)

    return build_resnet


def _vgg(a: VGGArguments) -> nn.Module:
    from compression.zoo.vgg import SmallVGG

    return SmallVGG(a.in_channels, a.classes, a.channels)


def _mobilenet1(a: MobileNetArguments) -> nn.Module:
    from compression.zoo.mobilenet import MobileNetV1

    return MobileNetV1(a.in_channels, a.classes, a.multiplier, small_images=a.small_images)


def _mobilenet2(a: MobileNetArguments) -> nn.Module:
    from compression.zoo.mobilenet import MobileNetV2

    return MobileNetV2(a.in_channels, a.classes, a.multiplier, small_images=a.small_images)


def _vit(a: ViTArguments) -> nn.Module:
    from compression.zoo.vit import VisionTransformer

    patches = (a.height // a.patch) * (a.width // a.patch)
    return VisionTransformer(a.in_channels, a.patch, patches, a.embedding, a.depth, a.heads, a.hidden, a.classes)


ARCHITECTURES: Mapping[str, Architecture] = {
    "lenet300": Architecture("LeNet-300-100, a perceptron with two hidden layers", LeNet300Arguments, _lenet300),
    "lenet5": Architecture("LeNet-5 in Caffe's form", LeNet5Arguments, _lenet5),
    "resnet20": Architecture("ResNet-20 for small images", ResNetArguments, _resnet(3)),
    "resnet56": Architecture("ResNet-56 for small images", ResNetArguments, _resnet(9)),
    "vgg-small": Architecture("VGG for small images: seven convolutions with batch norm", VGGArguments, _vgg),
    "mobilenet-v1": Architecture("MobileNet v1 with a width multiplier", MobileNetArguments, _mobilenet1),
    "mobilenet-v2": Architecture("MobileNet v2 with a width multiplier", MobileNetArguments, _mobilenet2),
    "vit-tiny": Architecture("Vision transformer of the tiny size, with timm's names", ViTArguments, _vit),
}


def parse(name: str, arguments: object) -> LeNet300Arguments | LeNet5Arguments | ImageArguments:
    """The validated arguments of the architecture `name`. SpecError: no such name, or an argument is wrong."""
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SpecError(f"no architecture is called {name[:50]!r}; known: {known}", "/architecture")
    try:
        return ARCHITECTURES[name].arguments.model_validate(arguments)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        pointer = "".join(f"/{part}" for part in first["loc"])
        raise SpecError(first["msg"], f"/arguments{pointer}") from error


def build(name: str, arguments: object) -> nn.Module:
    """The architecture's module with random weights, in training mode."""
    return ARCHITECTURES[name].build(parse(name, arguments))


def zoo_network(name: str, arguments: object, seed: int) -> Network:
    """The architecture as a `Network`, with weights drawn from `seed`. Its modules are the vocabulary's already, so
    symbolic tracing yields the same graph that lifting an export of it does."""
    import torch
    from torch import fx

    from compression.network import Input, Network, Signature

    parsed = parse(name, arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ARCHITECTURES[name].build(parsed)
    source = {"format": "zoo", "architecture": name, "arguments": parsed.model_dump(), "seed": seed}
    signature = Signature((Input("x", parsed.shape()),))
    return Network(fx.symbolic_trace(module.eval()), signature, provenance=(source,))
