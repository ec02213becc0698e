"""What both golden generators share: a safetensors writer, seeded values, and the layers that
PyTorch does not have in the form needed, as explicit loops in float64."""

import json
import struct

import numpy as np
import torch

DTYPES = {np.dtype(np.float32): "F32", np.dtype(np.int32): "I32", np.dtype(np.uint8): "U8"}


def save(path, tensors, metadata):
    """Writes {name: tensor}: floats as f32, integers as i32, uint8 as it is. Widest first."""
    arrays = {}
    for name, tensor in tensors.items():
        array = np.asarray(tensor.numpy() if torch.is_tensor(tensor) else tensor, order="C")
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        elif array.dtype.itemsize > 1:
            array = array.astype(np.int32)
        arrays[name] = array
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header, offset = {"__metadata__": metadata}, 0
    for name in order:
        array = arrays[name]
        header[name] = {"dtype": DTYPES[array.dtype], "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(arrays[name].tobytes())
    print(f"{path}: {8 + len(text) + offset} bytes")


def exact(values):
    """Float64 values that f32 holds exactly, so that file and computation start equal."""
    return values.float().double()


class Values:
    """Seeded values, exact in f32."""

    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)

    def normal(self, *shape, scale=1.0, mean=0.0):
        return exact(torch.from_numpy(mean + scale * self.generator.standard_normal(shape)))

    def uniform(self, low, high, *shape):
        return exact(torch.from_numpy(self.generator.uniform(low, high, shape)))

    def ids(self, count, *shape):
        return torch.from_numpy(self.generator.integers(0, count, shape))


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def hard_sigmoid(x):
    """Keras 2's, which is not torch.nn.functional.hardsigmoid."""
    return torch.clamp(0.2 * x + 0.5, 0, 1)


RNN_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def rnn_weights(values, cell, features, units, scale=0.3):
    rows = (4 if cell == "lstm" else 3) * units
    weights = {}
    for suffix in ("", "_reverse"):
        for name, shape in zip(RNN_PARAMETERS, ((rows, features), (rows, units), (rows,), (rows,))):
            weights[name + suffix] = values.normal(*shape, scale=scale)
    return weights


def one_direction(x, weights, cell, gate, reset_after):
    """x (t, features) -> (t, units), one step after the other."""
    w, u, b_ih, b_hh = weights
    units = u.shape[1]
    h = torch.zeros(units, dtype=x.dtype)
    c = torch.zeros(units, dtype=x.dtype)
    steps = []
    for x_t in x:
        a = w @ x_t + b_ih
        if cell == "lstm":
            i, f, g, o = (a + u @ h + b_hh).split(units)
            c = gate(f) * c + gate(i) * torch.tanh(g)
            h = gate(o) * torch.tanh(c)
        else:
            recurrent = u @ h + b_hh
            r = gate(a[:units] + recurrent[:units])
            z = gate(a[units:2 * units] + recurrent[units:2 * units])
            if reset_after:
                n = torch.tanh(a[2 * units:] + r * recurrent[2 * units:])
            else:
                n = torch.tanh(a[2 * units:] + u[2 * units:] @ (r * h) + b_hh[2 * units:])
            h = (1 - z) * n + z * h
        steps.append(h)
    return torch.stack(steps) if steps else torch.zeros(0, units, dtype=x.dtype)


def bi_rnn(x, lengths, weights, cell, gate="sigmoid", reset_after=True):
    """x (..., t, features), lengths (...) or None -> (..., t, 2 units); held against torch.nn where
    that has the same layer."""
    gate_function = hard_sigmoid if gate == "hard_sigmoid" else torch.sigmoid
    units, t = weights["weight_hh"].shape[1], x.shape[-2]
    rows = x.reshape(-1, t, x.shape[-1])
    counts = [t] * len(rows) if lengths is None else lengths.reshape(-1).tolist()
    forward = [weights[name] for name in RNN_PARAMETERS]
    backward = [weights[name + "_reverse"] for name in RNN_PARAMETERS]
    y = torch.zeros(len(rows), t, 2 * units, dtype=x.dtype)
    for row, (sequence, count) in enumerate(zip(rows, counts)):
        sequence = sequence[:count]
        y[row, :count, :units] = one_direction(sequence, forward, cell, gate_function, reset_after)
        y[row, :count, units:] = one_direction(sequence.flip(0), backward, cell, gate_function,
                                               reset_after).flip(0)
    if gate == "sigmoid" and (cell == "lstm" or reset_after):
        expected = torch_rnn(rows, counts, weights, cell, units)
        assert torch.allclose(y, expected, rtol=1e-12, atol=1e-12), (y - expected).abs().max()
    return y.reshape(*x.shape[:-1], 2 * units)


def torch_rnn(rows, counts, weights, cell, units):
    kind = torch.nn.LSTM if cell == "lstm" else torch.nn.GRU
    rnn = kind(rows.shape[-1], units, bidirectional=True, batch_first=True).double()
    with torch.no_grad():
        for name in RNN_PARAMETERS:
            for suffix in ("", "_reverse"):
                getattr(rnn, f"{name}_l0{suffix}").copy_(weights[name + suffix])
        y = torch.zeros(*rows.shape[:-1], 2 * units, dtype=rows.dtype)
        filled = [row for row, count in enumerate(counts) if count > 0]  # torch packs no empty ones
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            rows[filled], torch.tensor([counts[row] for row in filled]), batch_first=True,
            enforce_sorted=False)
        y[filled] = torch.nn.utils.rnn.pad_packed_sequence(
            rnn(packed)[0], batch_first=True, total_length=rows.shape[1])[0]
    return y


def attention(x, lengths, weights, eps):
    """The formula as printed: x (..., t, d) -> s (..., d), a (..., t)."""
    e = torch.tanh(x @ weights["weight"].T + weights["bias"]) @ weights["context"]
    a = torch.exp(e)
    if lengths is not None:
        a = a * (torch.arange(x.shape[-2]) < lengths[..., None])
    total = a.sum(-1, keepdim=True) + eps
    a = torch.where(total > 0, a / total, torch.zeros_like(a))
    return (a[..., None] * x).sum(-2), a
