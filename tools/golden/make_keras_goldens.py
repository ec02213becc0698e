#!/usr/bin/env python3
"""Golden files of Keras' image models: tests/golden/import/keras_*.

    pip install tensorflow-cpu tf-keras keras h5py safetensors
    python3 tools/golden/make_keras_goldens.py

The U-Nets of zhixuhao/unet and HenriquesLab/ZeroCostDL4Mic, rewritten from their definitions with
few channels, and a network of every other layer, each saved by tf-keras (2.x) and by Keras 3 in
their formats. All files of a network hold the same weights; <name>.safetensors has an input and what
Keras makes of it.
"""

import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from pathlib import Path

import numpy as np
import tensorflow as tf  # noqa: F401
import keras as keras3
import tf_keras as keras2
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "import"


def zhixuhao(k, base=2):
    """model.py of zhixuhao/unet: a 2x2 convolution with ReLU behind each up-sampling."""
    L = k.layers
    conv = lambda c, n=3: L.Conv2D(c, n, activation="relu", padding="same")
    image = x = L.Input((64, 64, 1))
    skips = []
    for i in range(4):
        x = conv(base << i)(conv(base << i)(x))
        skips.append(L.Dropout(0.5)(x) if i == 3 else x)
        x = L.MaxPooling2D(pool_size=(2, 2))(skips[-1])
    x = L.Dropout(0.5)(conv(base << 4)(conv(base << 4)(x)))
    for i in reversed(range(4)):
        up = conv(base << i, 2)(L.UpSampling2D(size=(2, 2))(x))
        x = L.concatenate([skips[i], up], axis=3)
        x = conv(base << i)(conv(base << i)(x))
    x = conv(2)(x)
    return k.Model(image, L.Conv2D(1, 1, activation="sigmoid")(x))


def zerocost(k, base=4, steps=2):
    """unet() of ZeroCostDL4Mic's U-Net 2D: no activation in the last level and the up-convolutions."""
    L = k.layers
    image = x = L.Input((None, None, 1))
    skips = []
    for i in range(steps):
        for _ in range(2):
            x = L.Conv2D(base << i, 3, activation="relu", padding="same")(x)
        skips.append(x)
        x = L.MaxPooling2D(pool_size=(2, 2))(x)
    for _ in range(2):
        x = L.Conv2D(base << steps, 3, padding="same")(x)
    for i in reversed(range(steps)):
        up = L.Conv2D(base << i, 2, padding="same")(L.UpSampling2D(size=(2, 2))(x))
        x = L.concatenate([skips[i], up], axis=3)
        for _ in range(2):
            x = L.Conv2D(base << i, 3, activation="relu", padding="same")(x)
    return k.Model(image, L.Conv2D(1, 1, activation="sigmoid")(x))


def layers(k):
    """Every other layer that the reader knows, nested models among them."""
    L = k.layers
    stem = k.Sequential([L.Input((None, None, 6)), L.Conv2D(6, 3, strides=2, padding="same", use_bias=False),
                         L.BatchNormalization(epsilon=0.01, scale=False)], name="stem")
    inner_in = L.Input((None, None, 6))
    inner = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(inner_in)
    inner = L.PReLU(shared_axes=[1, 2])(inner)
    inner = L.SeparableConv2D(6, 3, padding="same", activation="elu")(inner)
    nested = k.Model(inner_in, L.Add()([inner, inner_in]), name="nested")

    image = L.Input((None, None, 3))
    x = L.Rescaling(1 / 127.5, offset=-1)(image)
    normal = L.Normalization(axis=-1, mean=[0.1, 0.2, 0.3], variance=[1.5, 0.5, 2.0])(x)
    start = L.Conv2D(6, (3, 5), padding="same", dilation_rate=(2, 1))(normal)
    start = L.LeakyReLU(0.2)(start)
    x = stem(start)
    x = L.ELU(alpha=0.7)(x)
    x = nested(x)
    gate = L.Dense(6, activation="hard_sigmoid")(L.Dense(4, activation="swish")(L.Reshape((1, 1, 6))(
        L.GlobalAveragePooling2D()(x))))
    x = L.Multiply()([x, gate])
    x = L.SpatialDropout2D(0.3)(x)
    x = L.ZeroPadding2D(((1, 0), (2, 1)))(x)
    x = L.Cropping2D(((1, 0), (1, 2)))(x)
    half = L.Maximum()([L.MaxPooling2D(3, strides=1, padding="same")(x), L.AveragePooling2D(3, strides=1, padding="same")(x)])
    up = L.Conv2DTranspose(6, 3, strides=2, padding="same")(half)
    up = L.Activation("tanh")(up)
    other = L.Conv2DTranspose(6, 4, strides=2, padding="same", use_bias=False)(half)
    third = L.UpSampling2D(2, interpolation="bilinear")(half)
    fourth = L.Conv2DTranspose(6, 2, strides=2, padding="valid")(half)
    x = L.Concatenate()([L.Add()([up, other]), L.Subtract()([third, fourth]), start, L.Average()([up, third])])
    x = L.Conv2D(5, 3, strides=3, padding="same", groups=1)(x)
    x = L.UpSampling2D((3, 3))(x)
    x = L.ReLU(max_value=6.0)(L.BatchNormalization()(x))
    return k.Model(image, L.Softmax()(L.Conv2D(3, 1)(x)))


def encoder(k):
    """An encoder of several results, as TensorFlow's tutorial of segmentation has it."""
    L = k.layers
    image = L.Input((None, None, 3))
    first = L.Conv2D(4, 3, padding="same", activation="relu")(image)
    second = L.GroupNormalization(2)(L.Conv2D(6, 3, strides=2, padding="same")(first))
    third = L.LayerNormalization(scale=False)(L.Conv2D(8, 3, strides=2, padding="same")(second))
    down = k.Model(image, [first, second, third], name="down")
    image = L.Input((None, None, 3))
    first, second, third = down(L.RandomFlip("horizontal")(image))
    x = L.Concatenate()([L.Conv2DTranspose(6, 3, strides=2, padding="same")(third), second])
    x = L.Concatenate()([L.UpSampling2D()(x), first])
    return k.Model(image, L.Conv2D(3, 3, padding="same", activation="softmax")(x))


def resized(k):
    """Resizing to sizes in numbers, and several answers, of which one is code."""
    L = k.layers
    conv = lambda c: L.Conv2D(c, 3, activation="relu", padding="same")
    image = L.Input((48, 64, 3))
    first = conv(4)(L.Resizing(24, 96)(image))
    second = conv(6)(L.MaxPooling2D()(first))
    x = L.Concatenate()([L.Resizing(24, 96, interpolation="nearest")(second), first])
    x = L.Resizing(48, 64)(conv(4)(x))
    main = L.Conv2D(3, 1, activation="softmax", name="main")(x)
    edges = L.Conv2D(1, 1, activation="sigmoid", name="edges")(x)
    return k.Model(image, [main, edges, L.Lambda(lambda t: t * 2, name="code")(main)])


def random_weights(model, rng):
    weights = []
    for w in model.weights:
        shape, name = tuple(w.shape), getattr(w, "path", w.name)
        if "variance" in name:
            value = rng.uniform(0.5, 2, shape)
        elif "count" in name:
            value = np.zeros(shape)
        elif len(shape) < 2:
            value = rng.normal(0, 0.3, shape)
        else:
            value = rng.normal(0, 1.5 / np.sqrt(np.prod(shape[:-1])), shape)
        weights.append(value.astype(np.float32))
    return weights


def main():
    OUT.mkdir(exist_ok=True)
    for name, build, shape, formats2, formats3 in [
        ("keras_zhixuhao", zhixuhao, (64, 64, 1), ["hdf5"], []),
        ("keras_zerocost", zerocost, (40, 52, 1), ["h5", "keras"], ["h5", "keras"]),
        ("keras_layers", layers, (36, 48, 3), ["h5", "keras"], ["h5", "keras"]),
        ("keras_encoder", encoder, (12, 16, 3), ["h5", "keras"], ["h5", "keras"]),
        ("keras_resized", resized, (48, 64, 3), ["h5"], ["keras"]),
    ]:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        rng = np.random.default_rng(1)
        image = rng.uniform(0, 255 if build is layers else 1, (1, *shape)).astype(np.float32)
        answers, more = [], {}
        weights = None
        for k, suffix, formats in [(keras2, "tf", formats2), (keras3, "k3", formats3)]:
            model = build(k)
            if build in (layers, encoder):  # the two count the layers' variables in another order
                rng = np.random.default_rng(2)
                weights = random_weights(model, rng)
            elif weights is None:
                weights = random_weights(model, rng)
            model.set_weights(weights)
            answer = model(image, training=False)
            if build is resized:
                answer, more["edges_" + suffix] = answer[0], np.asarray(answer[1])
            answers.append(np.asarray(answer))
            for ending in formats:
                model.save(str(OUT / f"{name}_{suffix}.{ending}"), **({"include_optimizer": False} if k is keras2 and ending != "keras" else {}))
        print(name, [np.abs(a - answers[0]).max() for a in answers], answers[0].min(), answers[0].max())
        save_file({"input": image, **more, **{f"output_{s}": a for s, a in zip(["tf", "k3"], answers)}}, str(OUT / f"{name}.safetensors"))


if __name__ == "__main__":
    main()
