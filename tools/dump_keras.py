"""Writes what every layer of a Keras model gives, for `tessera verify MODEL --activations`.

In the program that has the model, or on the command line for a file of a whole model:

    from dump_keras import dump
    dump(model, image, "dump.npz")

    python dump_keras.py model.h5 input.npy dump.npz

The model is a functional or Sequential one (Keras 2, tf.keras or 3). Layers that are used more than
once keep their first output; nested models count as one layer.
"""
import json
import sys

import numpy


def dump(model, inputs, path):
    keras = _keras_of(model)
    inputs = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    arrays = {}
    for i, value in enumerate(inputs):
        arrays["input" if i == 0 else f"input.{i}"] = numpy.asarray(value)
    layers = []
    for layer in model.layers:
        output = getattr(layer, "output", None)
        output = output[0] if isinstance(output, (tuple, list)) else output
        if output is not None and type(layer).__name__ != "InputLayer":
            layers.append((layer.name, output))
    whole = keras.Model(model.inputs, [output for _, output in layers])
    results = whole.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    results = results if isinstance(results, (tuple, list)) else [results]
    for (name, _), result in zip(layers, results):
        arrays[name] = numpy.asarray(result)
    output = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    arrays["output"] = numpy.asarray(output[0] if isinstance(output, (tuple, list)) else output)
    about = json.dumps({"axes": "NHWC", "whole_layers": True, "order": list(arrays)}).encode()
    arrays["__tessera__"] = numpy.frombuffer(about, numpy.uint8)
    if str(path).endswith(".npz"):
        numpy.savez_compressed(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file({name: numpy.ascontiguousarray(array) for name, array in arrays.items()}, path)


def _keras_of(model):
    """The package that the model's class is of: keras, tf_keras or tensorflow.keras."""
    top = type(model).__module__.split(".")[0]
    if top == "tf_keras":
        import tf_keras

        return tf_keras
    import keras

    return keras


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        import tf_keras as loader
    except ImportError:
        import keras as loader
    dump(loader.models.load_model(sys.argv[1], compile=False), numpy.load(sys.argv[2]), sys.argv[3])
