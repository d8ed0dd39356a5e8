"""Networks in ONNX that come with this package, run by ONNX Runtime in one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.errors import MissingPackage, not_prepared


def open_network(file: Path, purpose: str) -> Any:
    """An ONNX Runtime session of the network in `file`.

    purpose: what it is for, as in "finding faces".

    Raises:
        MissingPackage: ONNX Runtime is not there, or the file is not what it was.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise not_prepared(error.name, purpose) from None
    options = onnxruntime.SessionOptions()
    # The processes are the parallelism.
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            file, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        reason = str(error).splitlines()[0]
        raise MissingPackage(
            f"the network for {purpose} cannot be read ({reason}): install this package again"
        ) from None
