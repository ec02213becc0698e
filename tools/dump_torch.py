"""Writes what every module of a PyTorch network gives, for `tessera verify MODEL --activations`.

In the program that has the network:

    from dump_torch import dump
    dump(model, image, "dump.npz")        # or dump.safetensors; several inputs: a tuple

The file holds the inputs, the output of each named module that is one tensor (of tuples, as of a
GRU, the first), and the network's own output. Modules that run more than once keep their first run.
"""
import json

import numpy
import torch


def _first_tensor(value):
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return None  # padded steps are missing: its elements are in another order
    if isinstance(value, (tuple, list)) and value:
        return _first_tensor(value[0])
    return None


def _array(tensor):
    tensor = tensor.detach().to("cpu")
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy().copy()


def save(path, arrays, axes):
    """`arrays` in the order in which they were computed."""
    about = json.dumps({"axes": axes, "order": list(arrays)}).encode()
    arrays = dict(arrays, __tessera__=numpy.frombuffer(about, numpy.uint8))
    if str(path).endswith(".npz"):
        numpy.savez_compressed(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file({name: numpy.ascontiguousarray(array) for name, array in arrays.items()}, path)


@torch.no_grad()
def dump(model, inputs, path):
    inputs = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    arrays = {}
    for i, value in enumerate(inputs):
        arrays["input" if i == 0 else f"input.{i}"] = _array(value)

    def keep(name):
        # Copied at once: an in-place ReLU behind would overwrite it.
        def hook(module, given, result):
            tensor = _first_tensor(result)
            if tensor is not None and name not in arrays:
                arrays[name] = _array(tensor)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules() if name]
    was_training = model.training
    model.eval()
    try:
        output = _first_tensor(model(*inputs))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    if output is not None:
        arrays["output"] = _array(output)
    save(path, arrays, "NCHW")
