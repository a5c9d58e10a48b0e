"""The model converted by OpenVINO's own front end; int8 is static, calibrated by NNCF with SmoothQuant."""

from pathlib import Path

import nncf
import numpy as np
import openvino
import torch
import transformers
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

from .workloads import MIXED, NAMES, Workload, padded, texts_of

LIBRARIES = ("openvino", "nncf", "torch", "transformers")
CALIBRATION = Workload(128, MIXED)


def prepare(model: Path, precision: str, target: Path) -> None:
    """Write the graph as `model.xml`; bfloat16 is a matter of how it is run."""
    network = transformers.RobertaForSequenceClassification.from_pretrained(model).eval()
    example = padded([np.arange(5, 25), np.arange(5, 15)])
    inputs = {name: torch.from_numpy(one) for name, one in zip(NAMES, example, strict=True)}
    graph = openvino.convert_model(network, example_input=inputs)
    if precision == "int8":
        # other texts of the kind that is measured
        texts = texts_of(CALIBRATION, network.config.vocab_size, seed=1)
        rows = [dict(zip(NAMES, padded([text]), strict=True)) for text in texts]
        smooth = AdvancedSmoothQuantParameters(matmul=0.5)
        graph = nncf.quantize(
            graph, nncf.Dataset(rows), subset_size=len(rows), model_type=nncf.ModelType.TRANSFORMER,
            advanced_parameters=AdvancedQuantizationParameters(smooth_quant_alphas=smooth),
        )  # fmt: skip
    openvino.save_model(graph, target / "model.xml", compress_to_fp16=False)
