"""The head of an exported task as an ONNX graph: features in, probabilities out."""

import json

import onnx
from onnx import TensorProto, helper, numpy_helper

from metalearn.types import Objective
from model_store.linear_head import linear_head
from model_store.task_file import TaskFile

OPERATORS = 17
"""The version of ONNX's operators."""

_ACTIVATIONS: dict[Objective, tuple[str, str]] = {
    "classification": ("Softmax", "probabilities"),
    "multi_label": ("Sigmoid", "probabilities"),
    "regression": ("Identity", "scores"),
}
"""The operator on the logits, and the name of its output."""


def head_graph(file: TaskFile) -> bytes:
    """The graph of an exported task's head.

    The input is ``features``, float32 of shape (texts, width), as the encoder of the task's checkpoint makes them. The
    outputs are ``logits`` and ``probabilities``, or ``scores`` in regression, float32 of shape (texts, classes). The
    metadata have ``labels``, a JSON list in the order of the classes, ``task``, ``version``, ``checkpoint`` and
    ``checkpoint_fingerprint``.

    Raises:
        NotExportable: The task's answers are no linear function of its checkpoint's features.
        TaskFileInvalid: The file's weights cannot be read.
    """
    head = linear_head(file)
    operator, output = _ACTIVATIONS[head.objective]
    classes, dim = head.weight.shape
    nodes = [
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], transB=1),
        helper.make_node(operator, ["logits"], [output]),  # a softmax is over the last axis, the classes
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["texts", dim])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["texts", classes]) for name in (output, "logits")],
        [numpy_helper.from_array(head.weight, "weight"), numpy_helper.from_array(head.bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPERATORS)], ir_version=8)
    model.producer_name = "handful"
    facts = {
        "labels": json.dumps(head.labels, ensure_ascii=False),
        "task": file.record.task,
        "version": str(file.record.version),
        "checkpoint": file.checkpoint.name or "",
        "checkpoint_fingerprint": file.checkpoint.fingerprint,
    }
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
