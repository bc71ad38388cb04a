"""Small ONNX files made by hand, and what ONNX Runtime says of them."""

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from compression.intake.model import read_model


def tensor(name, value, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)


def weights(seed=0):
    """`draw(name, *shape)`: a seeded float tensor."""
    random = np.random.default_rng(seed)
    return lambda name, *shape: tensor(name, random.standard_normal(shape) * 0.5)


def model(nodes, stored=(), shape=("n", 4), opset=17, outputs=("y",), dtype=TensorProto.FLOAT, inputs=None):
    """A model of one input `x` (or of `inputs`) and float outputs of any shape."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        inputs or [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializer=list(stored),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write(made, path):
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def reference(path, inputs):
    """ONNX Runtime's outputs for tensors in the order of the file's inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    return [torch.from_numpy(value) for value in found]


def lifted(made, path, architecture=None):
    """The network of a file, compared with ONNX Runtime on inputs that the reader doesn't use itself."""
    network = read_model(write(made, path), architecture)
    assert hasattr(network, "module"), network.stopped_by
    static = network.provenance[0].get("static_batch")
    for batch in (1, 4) if static is None else (static,):
        inputs = network.example(batch, seed=100 + batch)
        with torch.no_grad():
            found = network.module(*inputs)
        found = found if isinstance(found, tuple) else (found,)
        for value, wanted in zip(found, reference(path, inputs), strict=True):
            assert value.shape == wanted.shape
            assert float((value - wanted).abs().max()) <= 1e-5 * max(float(wanted.abs().max()), 1e-6)
    return network


def kinds(network):
    """The classes of the modules and the names of the functions that the graph calls, in order."""
    found = []
    for node in network.module.graph.nodes:
        if node.op == "call_module":
            found.append(type(network.module.get_submodule(node.target)).__name__)
        elif node.op == "call_function":
            target = getattr(node.target, "overloadpacket", node.target)
            found.append(target.__name__)
    return found


def loaded(path):
    return onnx.load(str(path), load_external_data=False)
