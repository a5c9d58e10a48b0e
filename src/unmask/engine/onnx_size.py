"""Which networks fit into one ONNX file; imports nothing of ONNX, so that it can be asked at every start."""

from unmask.model.config import EncoderConfig

MAX_BYTES = 2_000_000_000  # protobuf ends at 2^31 - 1, and the nodes take some of it


def fits(config: EncoderConfig, precision: str) -> bool:
    """Whether the matrices of a network fit into one ONNX file, in a precision of its products."""
    width, wide = config.hidden_size, config.intermediate_size
    products = config.num_hidden_layers * (4 * width * width + 2 * width * wide)
    tables = (config.vocab_size + config.num_positions) * width
    return 4 * tables + (1 if precision == "int8" else 4) * products <= MAX_BYTES
