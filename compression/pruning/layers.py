"""Channel numbers through modules: the layers that make and read them, and the norms that go along."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import fx, nn

from compression.pruning.channel_map import Average, Labels, Layer, Product, Read
from compression.pruning.numbers import Ids
from compression.pruning.recurrent import follow_recurrent

if TYPE_CHECKING:
    from compression.pruning.channels import Tracer, Value

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d

ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.LeakyReLU,
    nn.ELU, nn.Mish, nn.Softplus, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity,
)  # fmt: skip
SPATIAL = (
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d, nn.Upsample,
)  # fmt: skip


def follow_module(t: Tracer, node: fx.Node, module: nn.Module) -> Value:
    labels = t.labels(node.args[0])
    rank = len(t.shape(node))
    if isinstance(module, nn.Linear):
        return _layer(t, node, module, rank - 1)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d) and rank == module.weight.dim():
        return _layer(t, node, module, 1)
    if isinstance(module, nn.Embedding):
        return _embedding(t, node, module, labels)
    if isinstance(module, nn.LSTM | nn.GRU):
        return follow_recurrent(t, node, module)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.PReLU):
        return _norm(t, module, labels, 1)
    if isinstance(module, nn.LayerNorm):
        return _layer_norm(t, node, module, labels, rank)
    if isinstance(module, nn.GroupNorm):
        return _group_norm(t, node, module, labels)
    if isinstance(module, nn.Softmax | nn.LogSoftmax) and isinstance(module.dim, int):
        return t.keep_axis(node, labels, module.dim % rank)
    if isinstance(module, nn.PixelShuffle):
        return _pixel_shuffle(t, node, module, labels)
    if isinstance(module, ELEMENTWISE):
        return labels
    if isinstance(module, SPATIAL):
        return t.keep_axis(node, labels, *range(2, rank))
    return t.stop(node)


def _layer(t: Tracer, node: fx.Node, module: nn.Linear | Convolution, axis: int) -> Labels:
    name = t.names[id(module)]
    groups = 1 if isinstance(module, nn.Linear) else module.groups
    transposed = isinstance(module, nn.ConvTranspose2d)
    labels = t.labels(node.args[0])
    if not isinstance(module, nn.Linear):
        labels = t.keep_axis(node, labels, *(other for other in labels if other != 1))
    size, wanted = _widths(module)
    inputs = labels.get(axis)
    if inputs is None:
        inputs = t.held(wanted, "it isn't a layer's output alone")
    known = t.map.layers.get(name)
    outputs = t.numbers.new(size) if known is None else known.outputs
    if known is not None:  # a shared layer: every use must agree
        t.numbers.unite(known.inputs, inputs)
    layer = Layer(name, inputs, outputs, groups, transposed)
    _tie_groups(t, layer)
    if name in t.tied:
        t.freeze({0: inputs, 1: outputs}, f"{name} shares its weight with another layer")
    _declare(t, layer, module)
    if not layer.depthwise:
        t.map.reads.append(Read(node.name, (0,), axis - len(t.shape(node)), inputs))
    _count(t, node, module, layer, [ids for other, ids in labels.items() if other != axis])
    return {**{other: ids for other, ids in labels.items() if other != axis}, axis: outputs}


def _tie_groups(t: Tracer, layer: Layer) -> None:
    if layer.transposed and layer.groups > 1:
        t.freeze({0: layer.inputs, 1: layer.outputs}, f"{layer.name} is a transposed convolution with groups")
    elif layer.depthwise:
        t.numbers.unite(layer.inputs.repeat(len(layer.outputs) // layer.groups), layer.outputs)
    elif layer.groups > 1:  # each group keeps the same places, so that groups stay equal in size
        for ids in (layer.inputs, layer.outputs):
            by_group = ids.reshape(layer.groups, -1)
            for row in by_group[1:]:
                t.numbers.unite(by_group[0], row)


def _declare(t: Tracer, layer: Layer, module: nn.Module) -> None:
    """What changes in the module when channels go."""
    name, channels = layer.name, t.map
    channels.layers[name] = layer
    channels.producers[name] = layer.outputs
    places = {0: layer.outputs}
    if not layer.depthwise:
        places[1] = layer.inputs[: len(layer.inputs) // layer.groups]
    if layer.transposed:
        places = {} if layer.groups > 1 else {0: layer.inputs, 1: layer.outputs}
    channels.slices[f"{name}.weight"] = places
    if getattr(module, "bias", None) is not None:
        channels.slices[f"{name}.bias"] = {0: layer.outputs}
    kinds = ("in_features", "out_features") if isinstance(module, nn.Linear) else ("in_channels", "out_channels")
    channels.attributes |= {(name, kinds[0]): layer.inputs, (name, kinds[1]): layer.outputs}
    if layer.depthwise:
        channels.attributes[name, "groups"] = layer.inputs
    if not isinstance(module, nn.Linear):
        channels.convolutions.add(name)


def _count(t: Tracer, node: fx.Node, module: nn.Linear | Convolution, layer: Layer, others: list[Ids]) -> None:
    source: Any = node.args[0]
    pixels = math.prod(t.single_shape(source if layer.transposed else node))
    each = module.weight.numel() // (len(layer.inputs) if layer.transposed else len(layer.outputs))
    ends = (layer.outputs,) if layer.depthwise else (layer.outputs, layer.inputs)
    t.map.products.append(Product(pixels * each, (*ends, *others), node.name))


def _embedding(t: Tracer, node: fx.Node, module: nn.Embedding, labels: Labels) -> Labels:
    name = t.names[id(module)]
    outputs = t.map.producers.get(name)
    if outputs is None:
        outputs = t.numbers.new(module.embedding_dim)
    if name in t.tied:
        t.numbers.freeze(outputs, f"{name} shares its weight with another layer")
    t.map.producers[name] = outputs
    t.map.slices[f"{name}.weight"] = {1: outputs}
    t.map.attributes[name, "embedding_dim"] = outputs
    return {**labels, len(t.shape(node)) - 1: outputs}


def _norm(t: Tracer, module: nn.Module, labels: Labels, axis: int) -> Labels:
    """A module with one parameter, or statistic, a channel."""
    name, ids = t.names[id(module)], labels.get(axis)
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return labels
    if ids is None:
        return labels
    if name in t.tied:
        t.numbers.freeze(ids, f"{name} shares its parameters with another layer")
    if name in t.map.norms:
        t.numbers.unite(t.map.norms[name], ids)
    t.map.norms[name] = ids
    for part in ("weight", "bias", "running_mean", "running_var"):
        if getattr(module, part, None) is not None:
            t.map.slices[f"{name}.{part}"] = {0: ids}
    kind = {nn.PReLU: "num_parameters", nn.LayerNorm: "normalized_shape", nn.GroupNorm: "num_channels"}
    t.map.attributes[name, kind.get(type(module), "num_features")] = ids
    return labels


def _layer_norm(t: Tracer, node: fx.Node, module: nn.LayerNorm, labels: Labels, rank: int) -> Labels:
    if len(module.normalized_shape) > 1:
        return t.keep_axis(node, labels, *range(rank - len(module.normalized_shape), rank))
    if rank - 1 in labels:
        t.numbers.mark(labels[rank - 1], "width")
        t.map.averages[node.name] = Average(node.name, labels[rank - 1], None)
    return _norm(t, module, labels, rank - 1)


def _group_norm(t: Tracer, node: fx.Node, module: nn.GroupNorm, labels: Labels) -> Labels:
    """Whole groups go without a trace; channels out of every group change its statistics."""
    ids = labels.get(1)
    if ids is None:
        return labels
    groups, each = module.num_groups, module.num_channels // module.num_groups
    rows, columns = (None, ids) if groups == 1 else (ids, None)
    if groups > 1 and each > 1:
        rows, columns = t.numbers.split(ids, groups, each)
    if rows is None and groups > 1:
        return t.keep_axis(node, labels, 1)
    if columns is not None:
        t.numbers.mark(columns, "width")
    if rows is not None:
        t.map.attributes[t.names[id(module)], "num_groups"] = rows
    t.map.averages[node.name] = Average(node.name, ids, rows)
    return _norm(t, module, labels, 1)


def _pixel_shuffle(t: Tracer, node: fx.Node, module: nn.PixelShuffle, labels: Labels) -> Labels:
    labels = t.keep_axis(node, labels, *(axis for axis in labels if axis != 1))
    if 1 not in labels or t.shape(node)[1] == 1:
        return t.keep_axis(node, labels, 1)
    rows, columns = t.numbers.split(labels[1], t.shape(node)[1], module.upscale_factor**2)
    if columns is not None:
        t.numbers.freeze(columns, f"{node.name} makes pixels of it")
    return {} if rows is None else {1: rows}


def _widths(module: nn.Linear | Convolution) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    return module.out_channels, module.in_channels
