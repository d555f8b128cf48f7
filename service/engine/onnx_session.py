"""The options of ONNX Runtime's sessions."""

import onnxruntime  # type: ignore[import-untyped]
import torch


def session_options(*, spins_between: bool = False) -> onnxruntime.SessionOptions:
    """The options of a session with as many threads as torch has.

    Args:
        spins_between: Whether idle threads keep their cores busy for long, as is ONNX Runtime's default: faster where
            nothing else wants to run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    if not spins_between:
        # Sleeping threads are woken for every product, and threads that never sleep take the event loop's cores.
        # So they stay awake for the time in which a client sends its next request
        options.add_session_config_entry("session.intra_op.spin_duration_us", "2000")
    options.log_severity_level = 3
    return options
