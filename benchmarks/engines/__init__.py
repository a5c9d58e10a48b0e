"""What `benchmarks/engine_cpu.py` measures, each engine in a process of its own.

A module `with_NAME.py` for each engine imports the libraries that its users load, and no other engine's. It has

* `LIBRARIES`: distributions whose versions are reported;
* `ORDERS`: `file` and perhaps `sorted`, the orders in which it gets texts of mixed length;
* `BATCH_SIZE`: texts that one call gets, or `None` for an engine that cuts its batches itself;
* `Engine(model, precision, prepared, threads)` with `run(ids)`: logits (N, C) float32 of N texts, each (n,) int32.

Where an engine runs something else than the model folder, such as an exported graph, a module `prepare_NAME.py` with
`LIBRARIES` and `prepare(model, precision, target)` writes it in another process, before any clock.
"""

PRECISIONS = {
    "transformers": ("float32", "bfloat16"),
    "compile": ("float32", "bfloat16"),
    "onnxruntime": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
    "openvino_streams": ("float32", "bfloat16", "int8"),
    "ctranslate2": ("float32", "int8"),
    "unmask": ("float32", "bfloat16", "int8"),
}
OURS = "unmask"
BOTH_ORDERS = ("file", "sorted")
# Engines that run what was prepared for another one.
FILES_OF = {"openvino_streams": "openvino"}
