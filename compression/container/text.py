"""The description's bytes: deflated (RFC 1951) with a preset dictionary of what descriptions are made of.

The dictionary is part of the format: version 1 of `.nwk` has this one for ever.
"""

from __future__ import annotations

import zlib

from compression.container.sections import malformed

MOST_BYTES = 64 << 20
_DICTIONARY = (
    '"aliases":{"parameters":["cls_token","position"],"buffers":["ellipsis":true"slice":[null,null,null]"dtype":"float32"'
    '"kind":"ConvTranspose2d","arguments":{"output_padding":"Upsample","arguments":{"size":null,"scale_factor":2.0,'
    '"mode":"nearest","align_corners":null"kind":"PReLU","arguments":{"num_parameters":"kind":"LSTM","arguments":{'
    '"input_size":"hidden_size":"bidirectional":false}"kind":"GRU""kind":"Embedding","arguments":{"num_embeddings":'
    '"embedding_dim":"padding_idx":null}"kind":"GroupNorm","arguments":{"num_groups":"num_channels":"eps":1e-05,'
    '"affine":true}"kind":"Softmax","arguments":{"dim":-1}"kind":"Hardsigmoid","arguments":{}"kind":"Sigmoid",'
    '"arguments":{}"kind":"Tanh","arguments":{}"kind":"SiLU","arguments":{}"kind":"Hardtanh","arguments":{"min_val":'
    '"max_val":"kind":"LeakyReLU","arguments":{"negative_slope":0.01}"kind":"Dropout2d""kind":"AvgPool2d",'
    '"arguments":{"kernel_size":2,"stride":2,"padding":0,"ceil_mode":false,"count_include_pad":true,'
    '"divisor_override":null}"op":"get_attr","target":"aten.select.int","aten.slice.Tensor","aten.expand.default",'
    '"args":["target":"scaled_dot_product_attention","kwargs":{"is_causal":false,"scale":"enable_gqa":false}'
    '"target":"permute","args":[{"node":{"tuple":[0,2,1,3]}"target":"transpose","target":"matmul","target":"chunk",'
    '"target":"split","target":"getitem","target":"unbind","target":"cat","args":[[{"node":"target":"mul","args":['
    '"target":"reshape","args":[{"node":{"tuple":[-1,"target":"size","args":[{"node":"target":"mean","args":[{"node":'
    '{"tuple":[2,3]}],"kwargs":{"keepdim":true}"kind":"GELU","arguments":{"approximate":"none"}"kind":"LayerNorm",'
    '"arguments":{"normalized_shape":{"tuple":["eps":1e-06,"elementwise_affine":true,"bias":true}"kind":"Hardswish",'
    '"arguments":{}"kind":"ReLU6","arguments":{}"kind":"Dropout","arguments":{"p":0.5}"kind":"Identity","arguments":{}'
    '"kind":"Flatten"{"name":"flatten","op":"call_function","target":"flatten","args":[{"node":"},1],"kwargs":{}},'
    '"kind":"AdaptiveAvgPool2d","arguments":{"output_size":1}{"name":"add","op":"call_function","target":"add","args":'
    '[{"node":"},{"node":"}],"kwargs":{}},"kind":"Conv2d","arguments":{"in_channels":64,"out_channels":64,'
    '"kernel_size":{"tuple":[1,1]},"stride":{"tuple":[2,2]},"padding":{"tuple":[0,0]},"dilation":{"tuple":[1,1]},'
    '"groups":1,"bias":false,"padding_mode":"zeros"}},"bn":{"kind":"BatchNorm2d","arguments":{"num_features":64,'
    '"eps":1e-05,"momentum":0.1,"affine":true}},"running_mean","plain","float32",[64]],".running_var","plain",'
    '"float32",[64]],".num_batches_tracked","plain","int64",[]],"codebook","float32","mask","float32",'
    '"kind":"Conv2d","arguments":{"in_channels":32,"out_channels":32,"kernel_size":{"tuple":[3,3]},"stride":'
    '{"tuple":[1,1]},"padding":{"tuple":[1,1]},"dilation":{"tuple":[1,1]},"groups":1,"bias":true,"padding_mode":'
    '"zeros"}},"relu2":{"kind":"ReLU","arguments":{}},"pool2":{"kind":"MaxPool2d","arguments":{"kernel_size":2,'
    '"stride":2,"padding":0,"dilation":1,"ceil_mode":false}},"c2":{"kind":"Conv2d","arguments":{"in_channels":'
    '1,"out_channels":20,"kernel_size":{"tuple":[5,5]},"stride":{"tuple":[1,1]},"padding":{"tuple":[0,0]},"dilation":'
    '{"tuple":[1,1]},"groups":1,"bias":true,"padding_mode":"zeros"}},"pool1":{"kind":"MaxPool2d","arguments":'
    '{"kernel_size":2,"stride":2,"padding":0,"dilation":1,"ceil_mode":false}},"f2":{"kind":"Linear","arguments":'
    '{"in_features":500,"out_features":10,"bias":true}},"relu3":{"kind":"ReLU","arguments":{}},"fc":{"kind":"Linear",'
    '"arguments":{"in_features":784,"out_features":300,"bias":true}}},"parameters":[],"buffers":[],"aliases":{}},'
    '{"name":"conv1","op":"call_module","target":"conv1","args":[{"node":"x"}],"kwargs":{}},{"name":"relu1","op":'
    '"call_module","target":"relu1","args":[{"node":"pool2"}],"kwargs":{}},{"name":"f1","op":"call_module","target":'
    '"f1","args":[{"node":"flatten"}],"kwargs":{}},{"name":"output","op":"output","target":"output","args":[{"node":"'
    '"}],"kwargs":{}}],"modules":{"{"network":{"format":1,"graph":{"nodes":[{"name":"x","op":"placeholder","target":"x",'
    '"args":[],"kwargs":{}},{"name":"c1","op":"call_module","target":"c1","args":[{"node":"x"}],"kwargs":{}},'
    '"inputs":[{"name":"x","shape":[1,28,28],"dtype":"float32"}],"outputs":["output"],"encodings":{"c1.weight":"grid",'
    '"c1.bias":"grid"},"variants":{"full":[0]},"provenance":[]},"tensors":[["c1.weight","grid","float32",[20,1,5,5],-1,1,'
    '[]],["c1.bias","grid","float32",[20],-127,127,[]],["f1.weight","grid","float32",[500,800],-1,1,[]],["f1.bias",'
)  # fmt: skip


def pack(text: str) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=_DICTIONARY.encode())
    return packer.compress(text.encode()) + packer.flush()


def unpack(data: bytes) -> str:
    """IntakeError: damaged, or a text of more than 64 MiB."""
    unpacker = zlib.decompressobj(-15, zdict=_DICTIONARY.encode())
    try:
        text = unpacker.decompress(data, MOST_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            raise malformed("its text is longer than 64 MiB, or cut short", "description")
        return text.decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise malformed("its text can't be unpacked", "description") from error
