#!/usr/bin/env python3
"""Holds exported models against ONNX Runtime and PyTorch: export_test.py path/to/tessera_tests

The C++ tests write models, inputs and our answers; each answer is to be within 1e-5 of its peers'.
Where Python lacks onnxruntime or torch, it exits with 77, which ctest reports as skipped."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

TOLERANCE = 1e-5  # of the largest value, or of 1
SKIPPED = 77


def difference(answer, expected):
    """Largest difference; masks may differ where probabilities are as good as equal."""
    import numpy as np

    if answer.ndim == 4 and answer.shape != expected.shape:
        answer = answer.transpose(0, 2, 3, 1)
    assert answer.shape == expected.shape, (answer.shape, expected.shape)
    if expected.dtype == np.uint8:
        return float((answer != expected).mean()) * TOLERANCE * 100  # 1 of 100 pixels
    assert np.isfinite(answer).all()
    return float(abs(answer.astype(np.float64) - expected).max() / max(1, abs(expected).max()))


def inputs_of(folder, name):
    import numpy as np

    inputs = {}
    for path in sorted(folder.glob(f"{name}.*.in.npy")):
        value = np.load(path)
        if value.dtype == np.int32:
            value = value.astype(np.int64)
        else:
            value = np.ascontiguousarray(value.transpose(0, 3, 1, 2))
        inputs[path.name[len(name) + 1:-len(".in.npy")]] = value
    return inputs


def onnx_answers(folder, name, inputs):
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(folder / f"{name}.onnx"), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options,
                                           providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def torch_answers(folder, name, inputs):
    import torch

    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.Network()
    network.load_state_dict(torch.load(folder / f"{name}.pth", weights_only=True))
    network.eval()
    order = [key for key in ("image", "ids", "word_counts", "sentence_counts") if key in inputs]
    with torch.no_grad():
        answers = network(*(torch.from_numpy(inputs[key]) for key in order))
    return {key: value.numpy() for key, value in answers.items()}


def main():
    try:
        import numpy as np
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        print(f"skipped: {error}")
        return SKIPPED
    failures, checked = [], 0
    with tempfile.TemporaryDirectory() as given:
        folder = pathlib.Path(os.environ.get("TESSERA_EXPORT_FOLDER", given))
        subprocess.run([sys.argv[1], "--gtest_filter=*Exported*", "--gtest_brief=1"], check=True,
                       env={**os.environ, "TESSERA_EXPORT_FOLDER": str(folder)})
        names = sorted(path.stem for path in folder.glob("*.onnx"))
        for name in names:
            inputs = inputs_of(folder, name)
            for peer, run in (("ONNX Runtime", onnx_answers), ("PyTorch", torch_answers)):
                try:
                    answers = run(folder, name, inputs)
                except Exception as error:  # whatever a peer does not take is a failure of ours
                    failures.append(f"{name}, {peer}: {error}")
                    continue
                for path in sorted(folder.glob(f"{name}.*.out.npy")):
                    output = path.name[len(name) + 1:-len(".out.npy")]
                    apart = difference(answers[output], np.load(path))
                    checked += 1
                    if not apart <= TOLERANCE:
                        failures.append(f"{name}, {peer}: {output} differs by {apart:.3g}")
    print(f"{len(names)} models, {checked} answers")
    print("\n".join(failures))
    if not names:
        print("no models were written")
    return 1 if failures or not names else 0


if __name__ == "__main__":
    sys.exit(main())
