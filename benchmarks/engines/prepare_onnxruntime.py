"""A graph exported by torch, fused by onnxruntime's optimiser for transformers, and perhaps quantised (dynamic int8).

int8 has signed weights with a scale for each channel, and unsigned activations with a scale for each tensor.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer

from .workloads import NAMES, padded

LIBRARIES = ("onnxruntime", "onnx", "torch", "transformers")


def prepare(model: Path, precision: str, target: Path) -> None:
    """Write the graph as `PRECISION.onnx`.

    Raises:
        RuntimeError: the optimiser left attention, GELU or normalisation of a layer in pieces.
    """
    # the optimiser knows the attention of this form, and not what the newer exporter makes of it
    network = transformers.RobertaForSequenceClassification.from_pretrained(model, attn_implementation="eager").eval()
    axes = {name: {0: "texts", 1: "tokens"} for name in NAMES} | {"logits": {0: "texts"}}
    example = padded([np.arange(5, 25), np.arange(5, 15)])
    exported, fused = target / "exported.onnx", target / "float32.onnx"
    torch.onnx.export(
        network, tuple(torch.from_numpy(one) for one in example), str(exported),
        input_names=list(NAMES), output_names=["logits"], dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    shape = network.config
    graph = optimizer.optimize_model(
        str(exported), model_type="bert", opt_level=0,
        num_heads=shape.num_attention_heads, hidden_size=shape.hidden_size,
    )  # fmt: skip
    found = graph.get_fused_operator_statistics()
    wanted = {"Attention": 1, "BiasGelu": 1, "SkipLayerNormalization": 2}
    if any(found[name] != count * shape.num_hidden_layers for name, count in wanted.items()):
        raise RuntimeError(f"the optimiser did not fuse all of the graph: {found}")
    exported.unlink()
    graph.save_model_to_file(str(fused))
    if precision == "int8":
        quantize_dynamic(
            fused, target / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # fmt: skip
        fused.unlink()
