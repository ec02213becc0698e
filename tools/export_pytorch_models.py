#!/usr/bin/env python3
"""Converts PyTorch state dicts (as safetensors) of a U-Net and a HAN to Tessera's model files.

    python3 tools/export_pytorch_models.py unet  WEIGHTS.safetensors                OUT.safetensors
    python3 tools/export_pytorch_models.py han   WEIGHTS.safetensors VOCABULARY.txt OUT.safetensors

The names it expects are those of two training scripts in PyTorch (see RENAME_*). Weights are stored
as bf16, biases and norms as f32. Needs numpy alone.
"""
import json
import re
import struct
import sys

import numpy as np

RENAME_UNET = [
    (r"enc\.(\d)\.0\.", r"down\1/conv1/"),
    (r"enc\.(\d)\.2\.", r"down\1/conv2/"),
    (r"down4/", "bottom/"),
    (r"up\.(\d)\.", r"up\1/upsample/"),
    (r"dec\.(\d)\.0\.", r"up\1/conv1/"),
    (r"dec\.(\d)\.2\.", r"up\1/conv2/"),
    (r"out\.", "head/conv/"),
]
RENAME_HAN = [
    (r"embedding\.", "embedding/"),
    (r"(word|sentence)_gru\.(weight|bias)_(ih|hh)_l0", r"\1/rnn/\2_\3"),
    (r"(word|sentence)_attention\.W\.", r"\1/attention/"),
    (r"(word|sentence)_attention\.u", r"\1/attention/context"),
    (r"output\.", "output/"),
]
# As the HAN's training script cut its texts: re.split(r"(?<=[.!?])\s+"), then str.split().
TEXT_RULES = {
    "html_breaks": "space",
    "white_space": "splits",
    "unknown_words": "index",
    "splitter": {
        "terminators": ".!?", "wide_terminators": "", "closers": "", "abbreviations": [],
        "number_abbreviations": [], "closing_abbreviations": [], "sentence_starters": [],
        "initials": False, "list_numbers": False, "lower_case_continues": False, "newlines": "space",
    },
}
DTYPES = {"F32": np.float32, "I32": np.int32, "U8": np.uint8}


def read(path):
    with open(path, "rb") as file:
        content = file.read()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(content[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def to_bf16(array):
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write(path, tensors, config):
    """tensors: name -> (safetensors dtype, array). Widest elements first, so that all lie aligned."""
    header, offset, blobs = {"__metadata__": {"tessera": json.dumps(config)}}, 0, []
    for name, (dtype, array) in sorted(tensors.items(), key=lambda item: (-item[1][1].itemsize, item[0])):
        blob = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def renamed(tensors, rules):
    result = {}
    for name, array in tensors.items():
        for pattern, replacement in rules:
            name = re.sub("^" + pattern, replacement, name)
        # Vectors stay f32: they are small, and rounding them moves every pixel.
        result[name] = ("F32", array) if array.ndim == 1 else ("BF16", to_bf16(array))
    return result


def unet(weights, out):
    tensors = read(weights)
    base = tensors["enc.0.0.weight"].shape[0]
    config = {
        "format": 1,
        "architecture": "unet",
        "unet": {"depth": 4, "base": base, "channels": 1, "classes": 2, "padding": "valid", "norm": "none",
                 "up": "transposed2", "concat": "skip_up", "head": "conv1", "output": "softmax"},
        "preprocessing": {"channels": 1, "scale": "unit"},
        "classes": [{"name": "membrane", "colour": [213, 94, 0]}, {"name": "cell", "colour": [0, 114, 178]}],
        "provenance": {
            "trained_on": "ISBI 2012 EM segmentation challenge, images 0-23 of 30",
            "trained_with": "PyTorch, 600 steps, grey / 255, mirrored borders",
            "figures": "pixel accuracy 0.903, membrane IoU 0.640 on images 24-29 (the f32 weights)",
            "stored_as": "bf16 weights, f32 biases",
        },
    }
    write(out, renamed(tensors, RENAME_UNET), config)


def han(weights, vocabulary, out):
    tensors = read(weights)
    words, features = tensors["embedding.weight"].shape
    with open(vocabulary, "rb") as file:
        blob = np.frombuffer(file.read(), np.uint8)
    config = {
        "format": 1,
        "architecture": "han",
        "han": {"words": words, "features": features, "cell": "gru",
                "units": tensors["word_gru.weight_hh_l0"].shape[1], "reset_after": True, "dense": 0,
                "attention": tensors["word_attention.u"].shape[0], "masked": True, "eps": 0,
                "classes": 2, "max_sentences": 20, "max_words": 40},
        "text": TEXT_RULES,
        "classes": [{"name": "negative", "colour": [213, 94, 0]}, {"name": "positive", "colour": [0, 158, 115]}],
        "provenance": {
            "trained_on": "IMDB reviews (Maas et al. 2011), the 25,000 of the training split; GloVe 6B 100d, frozen",
            "trained_with": "PyTorch, 3 epochs",
            "figures": "accuracy 0.880 on 2,500 test reviews (the f32 weights)",
            "stored_as": "bf16 weights, f32 biases",
        },
    }
    write(out, renamed(tensors, RENAME_HAN) | {"vocabulary": ("U8", blob)}, config)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "unet":
        unet(*sys.argv[2:])
    elif len(sys.argv) == 5 and sys.argv[1] == "han":
        han(*sys.argv[2:])
    else:
        sys.exit(__doc__)
