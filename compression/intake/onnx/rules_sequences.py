"""Recurrent layers and attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.reshape import reshape_to
from compression.intake.onnx.value import CannotLift, Value
from compression.intake.shapes import MOST_STEPS

_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
"""Where torch's gates (LSTM: i f g o, GRU: r z n) lie in ONNX's order (i o f c; z r h)."""


def _recurrent(call: Call) -> Sequence[Value]:
    """One layer, one way or both, with the usual activations, from a zero state: `nn.LSTM` or `nn.GRU`."""
    value, kind = call.value(), call.operator
    hidden, directions = int(call.get("hidden_size", 0)), 2 if call.get("direction") == "bidirectional" else 1
    _check_recurrent(call, hidden)
    weights = [call.constant(index, "weight") for index in (1, 2)]
    gates = len(_GATES[kind])
    bias = call.constant(3, "bias") if call.given(3) is not None else torch.zeros(directions, 2 * gates * hidden)
    if any(tensor.shape[:2] != (directions, gates * hidden) for tensor in weights) or bias.dim() != 2:
        raise CannotLift("its weights don't fit")
    cls = {"LSTM": nn.LSTM, "GRU": nn.GRU}[kind]
    leaf = cls(weights[0].shape[2], hidden, bidirectional=directions == 2, device="meta")
    for index, suffix in enumerate(("", "_reverse")[:directions]):
        own = {
            "weight_ih_l0": weights[0][index],
            "weight_hh_l0": weights[1][index],
            "bias_ih_l0": bias[index][: gates * hidden],
            "bias_hh_l0": bias[index][gates * hidden :],
        }
        for name, tensor in own.items():
            setattr(leaf, f"{name}{suffix}", nn.Parameter(_in_order(tensor, kind, hidden)))
    if call.get("layout", 0):
        value = call.trace.call(torch.transpose, value, 0, 1)
    return _results(call, leaf, value, hidden, directions)


def _check_recurrent(call: Call, hidden: int) -> None:
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}[call.operator]
    given = call.get("activations", usual)
    if call.value().rank != 3 or _steps(call) > MOST_STEPS:
        raise CannotLift(f"its input is not a sequence of up to {MOST_STEPS} steps")
    if hidden < 1 or call.get("direction", "forward") == "reverse":
        raise CannotLift("it runs backwards alone, or has no size")
    if given[: len(usual)] != usual or set(given) != set(usual) or "clip" in call.attributes:
        raise CannotLift("other activations, or a clip")
    if call.get("input_forget", 0) or (call.operator == "GRU" and not call.get("linear_before_reset", 0)):
        raise CannotLift("coupled gates, or a reset before the product (torch resets after it)")
    if call.given(4) is not None and not _all_steps(call, call.value(4)):
        raise CannotLift("sequences of different lengths")
    for index in (5, 6, 7):
        state = call.given(index)
        if state is not None and not (state.known and not any(bool(trial.any()) for trial in state.trials)):
            raise CannotLift("a first state that is not zero")


def _steps(call: Call) -> int:
    return call.value().shape[1 if call.get("layout", 0) else 0]


def _all_steps(call: Call, lengths: Value) -> bool:
    steps = _steps(call)
    return lengths.known and all(bool((trial == steps).all()) for trial in lengths.trials)


def _in_order(tensor: Tensor, kind: str, hidden: int) -> Tensor:
    blocks = tensor.reshape(len(_GATES[kind]), hidden, *tensor.shape[1:])
    return blocks[list(_GATES[kind])].reshape(tensor.shape).contiguous()


def _results(call: Call, leaf: nn.Module, value: Value, hidden: int, directions: int) -> Sequence[Value]:
    """Y as steps × directions × batch × hidden, and the last states as directions × batch × hidden."""
    trace, steps = call.trace, value.shapes
    node, metas = trace.module_many(leaf, value, call.path(1))
    every = _tensor(*trace.item(node, metas, 0))
    if directions == 1:
        outputs = trace.call(torch.unsqueeze, every, 1)
    else:
        parts = reshape_to(trace, every, [[shape[0], shape[1], directions, hidden] for shape in steps])
        outputs = trace.call(torch.transpose, parts, 1, 2)
    last = trace.item(node, metas, 1)
    states = [_tensor(*trace.item(*last, index)) for index in range(2)] if call.operator == "LSTM" else [_tensor(*last)]
    if call.get("layout", 0):
        outputs = trace.call(torch.permute, outputs, (2, 0, 1, 3))
        states = [trace.call(torch.transpose, state, 0, 1) for state in states]
    return [outputs, *states][: len(call.node.output)]


def _tensor(node: fx.Node, metas: list[Tensor]) -> Value:
    return Value(tuple(metas), node)


def _attention(call: Call) -> Value:
    """The operator of opset 23: with heads apart (four axes) or side by side (three)."""
    trace, (query, key, value) = call.trace, (call.value(index) for index in range(3))
    if sum(bool(name) for name in call.node.output) > 1 or any(call.given(index) is not None for index in (4, 5)):
        raise CannotLift("its cache or its scores are used as well")
    if call.get("softcap", 0.0) or call.get("qk_matmul_output_mode", 0):
        raise CannotLift("capped scores")
    merged = query.rank == 3
    if merged:
        heads = call.get("q_num_heads"), call.get("kv_num_heads"), call.get("kv_num_heads")
        query, key, value = (
            _apart(call, part, int(count or 0)) for part, count in zip((query, key, value), heads, strict=True)
        )
    if query.shape[1] != key.shape[1]:
        raise CannotLift("fewer heads of keys than of queries")
    mask = () if call.given(3) is None else (call.value(3),)
    keywords = {"is_causal": bool(call.get("is_causal", 0)), "scale": call.get("scale"), "enable_gqa": False}
    result = trace.call(F.scaled_dot_product_attention, query, key, value, *mask, **keywords)
    if not merged:
        return result
    moved = trace.call(torch.transpose, result, 1, 2)
    return reshape_to(trace, moved, [[b, n, h * d] for b, n, h, d in moved.shapes])


def _apart(call: Call, part: Value, heads: int) -> Value:
    if heads < 1 or part.shape[2] % heads:
        raise CannotLift("its heads don't fit its width")
    split = reshape_to(call.trace, part, [[b, n, heads, width // heads] for b, n, width in part.shapes])
    return call.trace.call(torch.transpose, split, 1, 2)


RULES: Mapping[str, Rule] = {"LSTM": _recurrent, "GRU": _recurrent, "Attention": _attention}
