#!/usr/bin/env python3
"""Makes tests/golden/operators/<operator>.safetensors: inputs, weights and expected outputs of
every operator, computed with PyTorch in float64 and rounded to f32 once.

    apt-get install --no-install-recommends python3-torch python3-numpy
    /usr/bin/python3 tools/golden/make_operator_goldens.py [operator ...]

A file holds several cases. Metadata "cases" is a JSON list of {"name", "attributes"}; the tensors
of a case are "<case>/input<i>", "<case>/weight/<parameter>" and "<case>/output<i>". Images are
(n, h, w, c), weights are as PyTorch has them."""

import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

from oracle import Values, attention, bi_rnn, exact, hard_sigmoid, nchw, nhwc, rnn_weights, save

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "operators"


class File:
    """Collects the cases of one operator."""

    def __init__(self, operator):
        self.operator, self.cases, self.tensors = operator, [], {}

    def add(self, name, attributes, inputs, weights, outputs):
        self.cases.append({"name": name, "attributes": attributes})
        for i, tensor in enumerate(inputs):
            self.tensors[f"{name}/input{i}"] = tensor
        for parameter, tensor in weights.items():
            self.tensors[f"{name}/weight/{parameter}"] = tensor
        for i, tensor in enumerate(outputs):
            self.tensors[f"{name}/output{i}"] = tensor

    def save(self):
        save(FOLDER / f"{self.operator}.safetensors", self.tensors,
             {"cases": json.dumps(self.cases)})


def norm_weights(values, channels):
    return {"weight": values.normal(channels, mean=1, scale=0.3),
            "bias": values.normal(channels, scale=0.3),
            "running_mean": values.normal(channels, scale=0.3),
            "running_var": values.uniform(0.3, 2, channels)}


def batch_norm(x, weights, eps):
    return F.batch_norm(x, weights["running_mean"], weights["running_var"], weights["weight"],
                        weights["bias"], False, 0, eps)


def crop_concat(skip, up, attributes):
    """Of NCHW maps."""
    dy, dx = skip.shape[2] - up.shape[2], skip.shape[3] - up.shape[3]
    if attributes["align"] == "crop_skip":
        y, x = dy // 2, dx // 2
        skip = skip[:, :, y:y + up.shape[2], x:x + up.shape[3]]
    else:
        up = F.pad(up, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))
    return torch.cat((skip, up) if attributes["skip_first"] else (up, skip), 1)


def make_crop_concat():
    file, values = File("crop_concat"), Values(1)
    for align, skip_size, up_size in (("crop_skip", (7, 10), (4, 4)), ("crop_skip", (5, 5), (5, 4)),
                                      ("pad_up", (7, 9), (6, 6)), ("pad_up", (5, 4), (5, 4))):
        for skip_first in (True, False):
            attributes = {"align": align, "skip_first": skip_first}
            skip, up = values.normal(2, *skip_size, 3), values.normal(2, *up_size, 5)
            y = nhwc(crop_concat(nchw(skip), nchw(up), attributes))
            order = "skip_up" if skip_first else "up_skip"
            file.add(f"{align}_{skip_size[0]}x{skip_size[1]}_{order}", attributes, [skip, up], {},
                     [y])
    file.save()


def make_conv():
    file, values = File("conv"), Values(2)

    def add(name, size, c_in, c_out, kernel=3, padding="valid", bias=True, relu=False, norm="none",
            norm_eps=1e-5, concat=None, pool=False, n=1, up_size=None, c_up=0):
        inputs = [values.normal(n, *size, c_in)]
        x = nchw(inputs[0])
        if concat:
            inputs.append(values.normal(n, *up_size, c_up))
            x = crop_concat(x, nchw(inputs[1]), concat)
        c = c_in + c_up
        weights = {"weight": values.normal(c_out, c, kernel, kernel, scale=(c * kernel**2)**-0.5)}
        if bias:
            weights["bias"] = values.normal(c_out)
        y = F.conv2d(x, weights["weight"], weights.get("bias"),
                     padding=kernel // 2 if padding == "same" else 0)
        batch = norm_weights(values, c_out) if norm != "none" else {}
        weights.update({f"norm/{key}": tensor for key, tensor in batch.items()})
        if norm == "before_relu":
            y = batch_norm(y, batch, norm_eps)
        if relu:
            y = F.relu(y)
        if norm == "after_relu":
            y = batch_norm(y, batch, norm_eps)
        outputs = [nhwc(y)] + ([nhwc(F.max_pool2d(y, 2))] if pool else [])
        attributes = dict(c_out=c_out, kernel=kernel, padding=padding, bias=bias, relu=relu,
                          norm=norm, norm_eps=norm_eps, concat=concat, pool=pool)
        file.add(name, attributes, inputs, weights, outputs)

    add("valid_3x3", (6, 9), 3, 5, n=2)
    add("same_3x3", (5, 4), 2, 17, padding="same", relu=True)
    add("valid_smallest", (3, 3), 4, 3)
    add("same_one_pixel", (1, 1), 4, 3, padding="same")
    add("same_one_row", (1, 7), 1, 8, padding="same", relu=True)
    add("no_bias", (5, 5), 3, 4, bias=False, relu=True)
    add("pointwise", (4, 5), 6, 2, kernel=1)
    add("pointwise_same_relu", (3, 3), 17, 3, kernel=1, padding="same", relu=True)
    add("norm_before_relu", (6, 6), 3, 6, padding="same", bias=False, relu=True, norm="before_relu")
    add("norm_after_relu", (6, 6), 3, 6, relu=True, norm="after_relu")
    add("norm_without_relu", (5, 6), 2, 4, norm="before_relu", norm_eps=1e-3)
    add("pool_even", (8, 10), 2, 4, relu=True, pool=True)
    add("pool_odd_norm_after", (7, 9), 3, 5, padding="same", relu=True, norm="after_relu",
        pool=True, n=2)
    for skip_first in (True, False):
        order = "skip_up" if skip_first else "up_skip"
        add(f"concat_crop_{order}", (11, 8), 3, 6, relu=True, n=2, up_size=(6, 5), c_up=2,
            concat={"align": "crop_skip", "skip_first": skip_first})
        add(f"concat_pad_{order}", (7, 5), 3, 6, padding="same", relu=True, norm="after_relu",
            up_size=(6, 4), c_up=4, concat={"align": "pad_up", "skip_first": skip_first})
    add("concat_pad_valid_pool", (9, 7), 2, 3, relu=True, pool=True, up_size=(8, 6), c_up=3,
        concat={"align": "pad_up", "skip_first": True})
    add("concat_pointwise", (6, 6), 4, 3, kernel=1, up_size=(4, 4), c_up=4,
        concat={"align": "crop_skip", "skip_first": True})
    add("wide", (6, 7), 33, 31, relu=True)
    file.save()


def window(kernel, stride=(1, 1), dilation=(1, 1), pads=(0, 0, 0, 0)):
    """Attributes of kernels/window.h."""
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": pads}


def padded(x, pads, value=0.0):
    """An NCHW map with the pads top, bottom, left, right."""
    return F.pad(x, (pads[2], pads[3], pads[0], pads[1]), value=value)


def make_conv_window():
    file, values = File("conv_window"), Values(16)
    for name, size, c_in, c_out, groups, w in (
            ("stride_2", (9, 12), 5, 7, 1, window((3, 3), (2, 2), pads=(1, 1, 1, 1))),
            ("stride_2_behind", (8, 6), 3, 16, 1, window((3, 3), (2, 2), pads=(0, 1, 0, 1))),
            ("stride_3x1", (10, 7), 4, 3, 1, window((3, 3), (3, 1))),
            ("dilation", (11, 13), 3, 9, 1, window((3, 3), dilation=(2, 3), pads=(2, 2, 3, 3))),
            ("four_pads", (5, 4), 6, 5, 1, window((3, 3), pads=(0, 2, 1, 3))),
            ("2x2_behind", (6, 5), 4, 6, 1, window((2, 2), pads=(0, 1, 0, 1))),
            ("7x7_stride_2", (13, 15), 3, 17, 1, window((7, 7), (2, 2), pads=(3, 3, 3, 3))),
            ("1x5", (4, 9), 5, 6, 1, window((1, 5), pads=(0, 0, 2, 2))),
            ("5x1", (9, 4), 5, 6, 1, window((5, 1), pads=(2, 2, 0, 0))),
            ("1x1_stride_2", (7, 8), 6, 4, 1, window((1, 1), (2, 2))),
            ("all_at_once", (12, 11), 4, 6, 2,
             window((3, 2), (2, 3), dilation=(2, 1), pads=(1, 0, 2, 1))),
            ("groups", (6, 7), 6, 9, 3, window((3, 3), pads=(1, 1, 1, 1))),
            ("depthwise", (7, 6), 17, 17, 17, window((3, 3), pads=(1, 1, 1, 1))),
            ("depthwise_doubled", (7, 6), 5, 10, 5, window((5, 5), (2, 2), pads=(2, 2, 2, 2)))):
        kernel = w["kernel"]
        taps = c_in // groups * kernel[0] * kernel[1]
        x = values.normal(2, *size, c_in)
        weights = {"weight": values.normal(c_out, c_in // groups, *kernel, scale=taps**-0.5),
                   "bias": values.normal(c_out)}
        y = F.conv2d(padded(nchw(x), w["pads"]), weights["weight"], weights["bias"],
                     stride=w["stride"], dilation=w["dilation"], groups=groups)
        file.add(name, {"c_out": c_out, "groups": groups, **w}, [x], weights, [nhwc(y)])
    file.save()


def make_conv_transpose():
    file, values = File("conv_transpose"), Values(3)
    for kernel in (2, 3):
        for name, n, h, w, c_in, c_out, bias, relu in (
                ("plain", 2, 3, 5, 4, 3, True, False), ("relu", 1, 4, 3, 6, 5, True, True),
                ("no_bias", 1, 2, 2, 3, 17, False, False),
                ("one_pixel", 1, 1, 1, 5, 2, True, False),
                ("one_column", 1, 5, 1, 9, 8, True, True)):
            x = values.normal(n, h, w, c_in)
            weights = {"weight": values.normal(c_in, c_out, kernel, kernel, scale=c_in**-0.5)}
            if bias:
                weights["bias"] = values.normal(c_out)
            padding = 1 if kernel == 3 else 0
            y = F.conv_transpose2d(nchw(x), weights["weight"], weights.get("bias"), stride=2,
                                   padding=padding, output_padding=padding)
            attributes = {"c_out": c_out, "kernel": kernel, "bias": bias, "relu": relu}
            file.add(f"{kernel}x{kernel}_{name}", attributes, [x], weights,
                     [nhwc(F.relu(y) if relu else y)])
    file.save()


def make_conv_transpose_window():
    """PyTorch's padding, and its output padding taken from the crop behind."""
    file, values = File("conv_transpose_window"), Values(40)
    for name, size, c_in, c_out, groups, bias, w, more in (
            ("4x4_stride_2", (5, 4), 6, 5, 1, True, window((4, 4), (2, 2), pads=(1, 1, 1, 1)), (0, 0)),
            ("3x3_stride_2_behind", (4, 5), 5, 7, 1, True, window((3, 3), (2, 2)), (0, 0)),
            ("5x5_stride_2", (3, 4), 4, 17, 1, False, window((5, 5), (2, 2), pads=(2, 2, 2, 2)), (1, 1)),
            ("2x2_stride_3", (3, 4), 3, 4, 1, True, window((2, 2), (3, 3)), (2, 1)),
            ("3x2_stride_2x1", (4, 5), 4, 6, 2, True, window((3, 2), (2, 1), pads=(1, 1, 0, 0)), (1, 0)),
            ("dilation", (4, 3), 5, 3, 1, True, window((3, 3), (2, 1), (2, 3), (2, 2, 1, 1)), (1, 0)),
            ("depthwise", (5, 6), 8, 8, 8, False, window((4, 4), (2, 2), pads=(1, 1, 1, 1)), (0, 0)),
            ("3x3_stride_1", (5, 4), 3, 4, 1, True, window((3, 3), pads=(1, 1, 1, 1)), (0, 0)),
            ("one_pixel", (1, 1), 4, 3, 1, True, window((4, 4), (4, 4)), (0, 0))):
        x = values.normal(2, *size, c_in)
        weights = {"weight": values.normal(c_in, c_out // groups, *w["kernel"], scale=c_in**-0.5)}
        if bias:
            weights["bias"] = values.normal(c_out)
        pads = w["pads"]
        y = F.conv_transpose2d(nchw(x), weights["weight"], weights.get("bias"), stride=w["stride"],
                               padding=(pads[0], pads[2]), output_padding=more, groups=groups,
                               dilation=w["dilation"])
        attributes = {"c_out": c_out, "kernel": 0, "bias": bias, "window": w["kernel"],
                      "stride": w["stride"], "dilation": w["dilation"], "groups": groups,
                      "crop": (pads[0], pads[1] - more[0], pads[2], pads[3] - more[1])}
        file.add(name, attributes, [x], weights, [nhwc(y)])
    file.save()


def make_max_pool():
    file, values = File("max_pool"), Values(4)
    for n, h, w, c in ((1, 4, 6, 3), (2, 5, 7, 17), (1, 2, 2, 1), (1, 3, 2, 4)):
        x = values.normal(n, h, w, c, mean=-1)
        file.add(f"{h}x{w}", {}, [x], {}, [nhwc(F.max_pool2d(nchw(x), 2))])
    file.save()


POOLS = (("3x3_stride_2", (9, 12), window((3, 3), (2, 2), pads=(1, 1, 1, 1)), False),
         ("3x3_ceil", (8, 11), window((3, 3), (2, 2)), True),
         ("3x3_ceil_pads", (8, 10), window((3, 3), (2, 2), pads=(1, 1, 1, 1)), True),
         ("2x2_ceil", (5, 7), window((2, 2), (2, 2)), True),
         ("ceil_outside", (5, 5), window((2, 2), (3, 3), pads=(1, 1, 1, 1)), True),
         ("2x3", (7, 8), window((2, 3), (1, 2), pads=(1, 1, 1, 1)), False),
         ("5x5_same", (4, 6), window((5, 5), pads=(2, 2, 2, 2)), False))


def make_max_pool_window():
    file, values = File("max_pool_window"), Values(17)

    def add(name, size, w, ceil, y):
        x = values.normal(2, *size, 19, mean=-1)
        file.add(name, {"ceil_mode": ceil, **w}, [x], {}, [nhwc(y(nchw(x)))])

    for name, size, w, ceil in POOLS:
        add(name, size, w, ceil, lambda x: F.max_pool2d(
            x, w["kernel"], w["stride"], w["pads"][::2], ceil_mode=ceil))
    dilated = window((3, 2), dilation=(2, 3), pads=(1, 1, 1, 1))
    add("dilation", (9, 8), dilated, False, lambda x: F.max_pool2d(x, (3, 2), 1, 1, (2, 3)))
    uneven = window((3, 3), (2, 2), pads=(0, 1, 0, 1))
    add("pads_behind", (8, 8), uneven, False, lambda x: F.max_pool2d(
        padded(x, uneven["pads"], -np.inf), 3, 2))
    file.save()


def make_avg_pool():
    file, values = File("avg_pool"), Values(18)
    for name, size, w, ceil in POOLS + (("2x2", (6, 7), window((2, 2), (2, 2)), False),):
        for include in (True, False):
            x = values.normal(2, *size, 19)
            y = F.avg_pool2d(nchw(x), w["kernel"], w["stride"], w["pads"][::2], ceil_mode=ceil,
                             count_include_pad=include)
            file.add(f"{name}_{'with' if include else 'without'}_pads",
                     {"ceil_mode": ceil, "count_include_pad": include, **w}, [x], {}, [nhwc(y)])
    file.save()


def make_binary():
    file, values = File("binary"), Values(19)
    functions = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
                 "min": torch.minimum, "max": torch.maximum}
    for kind, function in functions.items():
        for name, a_shape, b_shape in (
                ("equal", (2, 3, 5, 7), (2, 3, 5, 7)), ("channels", (2, 3, 4, 17), (17,)),
                ("images", (2, 3, 4, 5), (2, 1, 1, 5)), ("scalar", (3, 5, 9), (1,)),
                ("scalar_first", (1,), (3, 20)), ("pixels", (2, 3, 4, 5), (2, 3, 4, 1)),
                ("outer", (7, 1), (1, 20)), ("both", (2, 1, 4, 1, 3), (5, 1, 6, 1)),
                ("six", (2, 1, 2, 3, 1, 2), (1, 3, 2, 1, 2, 2))):
            a, b = values.normal(*a_shape), values.normal(*b_shape)
            if kind == "div":
                b = torch.where(b.abs() < 0.25, torch.ones_like(b), b)
            file.add(f"{kind}_{name}", {"kind": kind}, [a, b], {}, [function(a, b)])
    file.save()


def make_group_norm():
    file, values = File("group_norm"), Values(20)
    for name, shape, groups, eps, affine, scale, mean in (
            ("instance", (2, 5, 7, 6), 0, 1e-5, False, 1, 0),
            ("instance_affine", (2, 4, 3, 17), 0, 1e-5, True, 2, 1),
            ("groups", (2, 3, 5, 12), 4, 1e-3, True, 1, 0),
            ("one_group", (1, 4, 4, 5), 1, 1e-5, True, 1, 0),
            ("far_from_zero", (1, 6, 5, 4), 2, 1e-5, True, 0.5, 100),
            ("matrix", (3, 8), 2, 1e-5, True, 1, 0), ("sequence", (2, 9, 6), 3, 1e-5, False, 1, 0),
            ("one_pixel", (2, 1, 1, 4), 0, 1e-5, True, 1, 0)):
        x = values.normal(*shape, scale=scale, mean=mean)
        c = shape[-1]
        weights = {"weight": values.normal(c, mean=1, scale=0.3),
                   "bias": values.normal(c, scale=0.3)} if affine else {}
        y = F.group_norm(x.movedim(-1, 1), groups or c, weights.get("weight"), weights.get("bias"),
                         eps).movedim(1, -1)
        file.add(name, {"groups": groups, "eps": eps, "affine": affine}, [x], weights, [y])
    file.save()


def make_layer_norm():
    file, values = File("layer_norm"), Values(21)
    for name, shape, eps, affine in (("tokens", (2, 5, 17), 1e-5, True),
                                     ("plain", (3, 4, 4, 9), 1e-6, False), ("row", (24,), 1e-5, True)):
        x, c = values.normal(*shape, scale=2, mean=1), shape[-1]
        weights = {"weight": values.normal(c, mean=1, scale=0.3),
                   "bias": values.normal(c, scale=0.3)} if affine else {}
        y = F.layer_norm(x, (c,), weights.get("weight"), weights.get("bias"), eps)
        file.add(name, {"eps": eps, "affine": affine}, [x], weights, [y])
    file.save()


def make_reduce():
    file, values = File("reduce"), Values(22)
    for kind, function in (("mean", torch.mean), ("sum", torch.sum), ("max", torch.amax),
                           ("min", torch.amin)):
        for name, shape, axes, keepdims in (
                ("global", (2, 5, 7, 6), [1, 2], True), ("global_flat", (2, 4, 3, 17), [1, 2], False),
                ("channels", (2, 3, 5, 12), [-1], True), ("first", (4, 3), [0], False),
                ("apart", (2, 3, 4, 5), [0, 2], False), ("all", (3, 4, 2), [], True),
                ("scalar", (3, 4), [], False)):
            x = values.normal(*shape)
            y = function(x, dim=axes or list(range(len(shape))), keepdim=keepdims)
            file.add(f"{kind}_{name}", {"kind": kind, "axes": axes, "keepdims": keepdims}, [x], {},
                     [y])
    file.save()


def make_concat():
    file, values = File("concat"), Values(23)
    for name, axis, shapes in (("channels", -1, ((2, 3, 4, 5), (2, 3, 4, 1), (2, 3, 4, 17))),
                               ("rows", 1, ((2, 3, 4), (2, 1, 4))), ("batch", 0, ((1, 3), (2, 3))),
                               ("one", -2, ((3, 4),)), ("four", 2, 4 * ((1, 2, 3, 2),))):
        inputs = [values.normal(*shape) for shape in shapes]
        file.add(name, {"axis": axis}, inputs, {}, [torch.cat(inputs, axis)])
    file.save()


def make_slice():
    file, values = File("slice"), Values(24)
    largest = 2**31 - 1
    for name, shape, attributes, index in (
            ("middle", (4, 6, 5), {"starts": [1, 2], "ends": [3, -1]}, np.s_[1:3, 2:-1]),
            ("to_the_end", (4, 6, 5), {"starts": [-3], "ends": [largest], "axes": [-2]},
             np.s_[:, -3:]),
            ("steps", (7, 8), {"starts": [1, 0], "ends": [7, 100], "axes": [1, 0], "steps": [3, 2]},
             np.s_[0:100:2, 1:7:3]),
            ("backward", (5, 9), {"starts": [-1, 7], "ends": [-largest - 1, 1], "steps": [-1, -2]},
             np.s_[::-1, 7:1:-2])):
        x = values.normal(*shape)
        file.add(name, attributes, [x], {}, [torch.from_numpy(x.numpy()[index].copy())])
    file.save()


def make_pad():
    file, values = File("pad"), Values(25)
    for name, shape, pads in (("image", (2, 4, 5, 3), (0, 1, 2, 0, 0, 3, 1, 0)),
                              ("crop", (6, 7), (-1, 2, 1, -3)), ("row", (5,), (4, 3))):
        for mode, numpy_mode in (("constant", "constant"), ("reflect", "reflect"), ("edge", "edge")):
            if mode != "constant" and name == "crop":
                continue
            x, rank = values.normal(*shape), len(shape)
            pairs = [(pads[i], pads[i + rank]) for i in range(rank)]
            grown = [(max(a, 0), max(b, 0)) for a, b in pairs]
            more = {"constant_values": 1.5} if mode == "constant" else {}
            y = np.pad(x.numpy(), grown, numpy_mode, **more)
            y = y[tuple(slice(max(-a, 0), y.shape[i] - max(-b, 0)) for i, (a, b) in
                        enumerate(pairs))]
            file.add(f"{name}_{mode}", {"mode": mode, "pads": pads, "value": 1.5}, [x], {},
                     [torch.from_numpy(y.copy())])
    file.save()


def make_transpose():
    file, values = File("transpose"), Values(26)
    for name, shape, order in (("to_nchw", (2, 3, 4, 5), [0, 3, 1, 2]), ("matrix", (3, 7), []),
                               ("five", (2, 1, 3, 2, 4), [4, 0, 2, 1, 3])):
        x = values.normal(*shape)
        y = x.permute(order or list(range(len(shape)))[::-1])
        file.add(name, {"order": order}, [x], {}, [y])
    file.save()


def make_reshape():
    file, values = File("reshape"), Values(27)
    for name, shape, asked in (("flatten", (2, 3, 4), [0, -1]), ("split", (6, 4), [3, 2, 2, -1]),
                               ("same", (2, 5), [0, 0]), ("all", (3, 2, 2), [-1])):
        x = values.normal(*shape)
        sizes = [shape[i] if extent == 0 else extent for i, extent in enumerate(asked)]
        file.add(name, {"shape": asked}, [x], {}, [x.reshape(sizes)])
    file.save()


def make_resize():
    """What torch.nn.functional.interpolate has; tests/kernels/resize_test.cpp has ONNX's rest."""
    file, values = File("resize"), Values(28)
    kinds = (("nearest", {"coordinates": "asymmetric", "nearest": "floor"}, "nearest", None),
             ("nearest", {"nearest": "round_prefer_ceil"}, "nearest-exact", None),
             ("linear", {}, "bilinear", False), ("linear", {"coordinates": "align_corners"},
                                                 "bilinear", True),
             ("cubic", {}, "bicubic", False), ("cubic", {"coordinates": "align_corners"},
                                               "bicubic", True))
    for mode, attributes, torch_mode, corners in kinds:
        for name, (h, w), how in (("double", (3, 5), 2), ("triple_rows", (4, 3), (3, 1)),
                                  ("half", (6, 8), 0.5), ("sizes", (5, 7), [8, 4]),
                                  ("one_pixel", (1, 1), [3, 2]), ("to_one", (4, 5), [1, 1])):
            x = values.normal(2, h, w, 5)
            by_sizes = isinstance(how, list)
            scales = how if isinstance(how, tuple) else (how, how)
            y = F.interpolate(nchw(x), size=how if by_sizes else None,
                              scale_factor=None if by_sizes else tuple(map(float, scales)),
                              mode=torch_mode, align_corners=corners)
            size = {"sizes": how} if by_sizes else {"scale_h": scales[0], "scale_w": scales[1]}
            rule = attributes.get("coordinates", "centres")
            file.add(f"{mode}_{rule}_{name}", {"mode": mode, **attributes, **size}, [x], {},
                     [nhwc(y)])
    file.save()


def make_upsample():
    file, values = File("upsample"), Values(5)
    for align_corners in (True, False):
        for n, h, w, c in ((2, 3, 5, 4), (1, 1, 1, 3), (1, 1, 4, 17), (1, 7, 2, 1)):
            x = values.normal(n, h, w, c)
            y = F.interpolate(nchw(x), scale_factor=2, mode="bilinear", align_corners=align_corners)
            file.add(f"{'corners' if align_corners else 'centres'}_{h}x{w}",
                     {"align_corners": align_corners}, [x], {}, [nhwc(y)])
    file.save()


def make_batch_norm():
    file, values = File("batch_norm"), Values(6)
    for name, shape, eps in (("image", (2, 3, 4, 5), 1e-5), ("keras_eps", (1, 2, 2, 17), 1e-3),
                             ("matrix", (4, 3), 1e-5)):
        x, weights = values.normal(*shape), norm_weights(values, shape[-1])
        y = batch_norm(x.reshape(-1, shape[-1]), weights, eps).reshape(shape)
        file.add(name, {"eps": eps}, [x], weights, [y])
    file.save()


def make_softmax():
    file, values = File("softmax"), Values(7)
    outlier = values.normal(3, 19)
    outlier[1, 4] = 1000
    for name, x in (("pixels", values.normal(1, 3, 4, 2)), ("classes", values.normal(5, 30)),
                    ("large", values.normal(4, 7, scale=300)), ("outlier", outlier),
                    ("equal", torch.full((2, 16), -3.0, dtype=torch.float64)),
                    ("one_class", values.normal(3, 1))):
        file.add(name, {}, [x], {}, [torch.softmax(x, -1)])
    file.save()


def make_activation():
    file, values = File("activation"), Values(8)
    large = values.normal(3, 11, scale=60)
    large[0, :3] = torch.tensor([0.0, -1e4, 1e4])
    for kind, function in (("relu", F.relu), ("sigmoid", torch.sigmoid)):
        for name, x in (("image", values.normal(1, 3, 5, 3)), ("large", large)):
            file.add(f"{kind}_{name}", {"kind": kind}, [x], {}, [function(x)])
    file.save()


def make_activation_kinds():
    """All kinds but the two above."""
    file, values = File("activation_kinds"), Values(15)
    x = values.normal(2, 3, 5, 17, scale=2)
    edge = torch.tensor([0, -0.5, 0.5, -1, 1, -2.5, 2.5, -3, 3, -6, 6, 7, -20, 20, -60, 60, -1e4, 1e4],
                        dtype=torch.float64)
    slopes, slope = values.normal(17, scale=0.3), values.normal(1, scale=0.3)
    for name, attributes, function, weights in (
            ("leaky_relu", {}, lambda v: F.leaky_relu(v), {}),
            ("leaky_relu", {"slope": 0.2}, lambda v: F.leaky_relu(v, 0.2), {}),
            ("prelu", {}, lambda v: nhwc(F.prelu(nchw(v), slopes)), {"weight": slopes}),
            ("prelu", {"per_channel": False}, lambda v: F.prelu(v, slope), {"weight": slope}),
            ("elu", {}, F.elu, {}), ("elu", {"alpha": 0.3}, lambda v: F.elu(v, 0.3), {}),
            ("selu", {}, F.selu, {}), ("silu", {}, F.silu, {}), ("gelu", {}, F.gelu, {}),
            ("gelu_tanh", {}, lambda v: F.gelu(v, approximate="tanh"), {}),
            ("tanh", {}, torch.tanh, {}), ("hard_sigmoid", {}, hard_sigmoid, {}),
            ("hard_sigmoid", {"gain": 1 / 6}, F.hardsigmoid, {}),
            ("hard_swish", {}, F.hardswish, {}),
            # Above its threshold PyTorch takes x, which is the value only from about 40 on.
            ("softplus", {}, lambda v: F.softplus(v, threshold=40), {}),
            ("clip", {}, F.relu6, {}),
            ("clip", {"min": -1.5, "max": 0.75}, lambda v: torch.clamp(v, -1.5, 0.75), {})):
        case = "_".join([name, *attributes])
        file.add(case, {"kind": name, **attributes}, [x], weights, [function(x)])
        if not weights:
            file.add(case + "_edge", {"kind": name, **attributes}, [edge], {}, [function(edge)])
    file.save()


def make_argmax():
    file, values = File("argmax"), Values(9)

    def classes(x):
        """The first of the largest; NaN is never the largest."""
        x = x.numpy()
        if x.shape[-1] == 1:
            return (x[..., 0] > 0.5).astype(np.uint8)
        return np.nanargmax(x, -1).astype(np.uint8)

    ties = torch.tensor([[1, 3, 3], [2, 2, 2], [0, 0, 1], [5, 1, 5]], dtype=torch.float64)
    nan = torch.tensor([[np.nan, 1, 2], [3, np.nan, 1], [-4, -5, np.nan]], dtype=torch.float64)
    half = torch.tensor([[0.5], [0.75], [0.25], [0.0], [1.0]], dtype=torch.float64)
    for name, x in (("pixels", values.normal(2, 3, 5, 4)), ("ties", ties), ("nan", nan),
                    ("sigmoid", half), ("many", values.normal(3, 256))):
        file.add(name, {}, [x], {}, [classes(x)])
    file.save()


def make_head():
    file, values = File("head"), Values(10)
    for name, classes, c_in, bias, relu, output in (
            ("paper", 2, 8, True, False, "softmax"), ("tf_unet", 3, 5, True, True, "softmax"),
            ("no_bias", 4, 16, False, False, "softmax"), ("sigmoid", 1, 7, True, False, "sigmoid"),
            ("many_sigmoids", 3, 4, True, False, "sigmoid"),
            ("many_classes", 21, 17, True, False, "softmax")):
        x = values.normal(2, 3, 5, c_in)
        weights = {"weight": values.normal(classes, c_in, 1, 1)}
        if bias:
            weights["bias"] = values.normal(classes)
        y = F.conv2d(nchw(x), weights["weight"], weights.get("bias"))
        y = nhwc(F.relu(y) if relu else y)
        p = torch.softmax(y, -1) if output == "softmax" else torch.sigmoid(y)
        mask = (p[..., 0] > 0.5).numpy() if classes == 1 else np.argmax(p.numpy(), -1)
        attributes = {"classes": classes, "bias": bias, "relu": relu, "output": output,
                      "probabilities": True}
        file.add(name, attributes, [x], weights, [mask.astype(np.uint8), p])
    file.save()


def make_dropout():
    file, values = File("dropout"), Values(11)
    x = values.normal(3, 5)
    file.add("identity", {"rate": 0.5}, [x], {}, [F.dropout(x, 0.5, training=False)])
    file.save()


def make_embedding():
    file, values = File("embedding"), Values(12)
    for name, words, features, shape in (("document", 11, 7, (2, 3, 4)), ("one", 1, 17, (1,)),
                                         ("glove", 5, 100, (3, 2))):
        ids, table = values.ids(words, *shape), values.normal(words, features)
        file.add(name, {"words": words, "features": features}, [ids], {"weight": table},
                 [F.embedding(ids, table)])
    file.save()


def make_linear():
    file, values = File("linear"), Values(13)
    for name, units, shape, bias in (("sentences", 6, (2, 3, 9), True), ("one", 1, (1, 1), True),
                                     ("no_bias", 17, (5, 33), False), ("wide", 31, (3, 100), True)):
        x = values.normal(*shape)
        weights = {"weight": values.normal(units, shape[-1], scale=shape[-1]**-0.5)}
        if bias:
            weights["bias"] = values.normal(units)
        file.add(name, {"units": units, "bias": bias}, [x], weights,
                 [F.linear(x, weights["weight"], weights.get("bias"))])
    file.save()


def make_attention():
    file, values = File("attention"), Values(14)
    for name, shape, units, lengths, eps, shift in (
            ("unmasked", (2, 3, 5, 8), 6, None, 1e-7, 0), ("no_eps", (3, 4, 5), 7, None, 0.0, 0),
            ("masked", (4, 6, 9), 17, [6, 1, 3, 0], 1e-7, 0),
            ("masked_documents", (2, 2, 4, 6), 5, [[4, 2], [1, 0]], 0.0, 0),
            ("one_step", (2, 1, 3), 4, None, 1e-7, 0),
            ("large_scores", (2, 5, 6), 4, None, 1e-7, 40.0),
            ("eps_matters", (2, 5, 6), 4, None, 1e-7, -4.0)):
        x = values.normal(*shape)
        weights = {"weight": values.normal(units, shape[-1], scale=0.5),
                   "bias": values.normal(units, scale=0.5), "context": values.normal(units)}
        if shift:  # saturates tanh, so that every score is near units * shift
            weights["bias"] = exact(weights["bias"] + 3)
            weights["context"] = exact(weights["context"] + shift)
        inputs = [x]
        if lengths is not None:
            lengths = torch.tensor(lengths)
            inputs.append(lengths)
        file.add(name, {"units": units, "masked": lengths is not None, "eps": eps}, inputs,
                 weights, attention(x, lengths, weights, eps))
    file.save()


def make_rnn():
    file, values = File("rnn"), Values(15)
    cases = (("lstm", "lstm", "sigmoid", True, (3, 5, 4), 6, None, 0),
             ("lstm_masked", "lstm", "sigmoid", True, (4, 5, 3), 7, [5, 1, 3, 0], 0),
             ("lstm_hard", "lstm", "hard_sigmoid", True, (2, 6, 5), 5, None, 0),
             ("lstm_hard_masked", "lstm", "hard_sigmoid", True, (3, 4, 5), 3, [2, 4, 1], 0),
             ("lstm_one_step", "lstm", "sigmoid", True, (2, 1, 4), 1, None, 0),
             ("lstm_documents", "lstm", "sigmoid", True, (2, 3, 4, 5), 4,
              [[4, 2, 0], [1, 3, 4]], 0),
             ("lstm_words", "lstm", "sigmoid", True, (3, 6, 5), 8, [6, 2, 5], 9),
             ("gru", "gru", "sigmoid", True, (3, 5, 4), 6, None, 0),
             ("gru_masked", "gru", "sigmoid", True, (4, 5, 3), 7, [0, 5, 1, 3], 0),
             ("gru_reset_before", "gru", "sigmoid", False, (3, 5, 4), 6, None, 0),
             ("gru_reset_before_hard_masked", "gru", "hard_sigmoid", False, (3, 4, 5), 9,
              [4, 1, 3], 0),
             ("gru_hard", "gru", "hard_sigmoid", True, (2, 4, 3), 4, None, 0),
             ("gru_words_unmasked", "gru", "sigmoid", True, (2, 3, 4, 6), 5, None, 7))
    for name, cell, gate, reset_after, shape, units, lengths, words in cases:
        weights = rnn_weights(values, cell, shape[-1], units, scale=0.5)
        if words:
            ids, table = values.ids(words, *shape[:-1]), values.normal(words, shape[-1])
            weights, inputs, x = {"embedding": table, **weights}, [ids], F.embedding(ids, table)
        else:
            x = values.normal(*shape)
            inputs = [x]
        if lengths is not None:
            lengths = torch.tensor(lengths)
            inputs.append(lengths)
        y = bi_rnn(x, lengths, weights, cell, gate, reset_after)
        attributes = {"cell": cell, "units": units, "gate": gate, "reset_after": reset_after,
                      "masked": lengths is not None,
                      "embedding": {"words": words, "features": shape[-1]} if words else None}
        file.add(name, attributes, inputs, weights, [y])
    file.save()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in sys.argv[1:] or [name for name in globals() if name.startswith("make_")]:
        globals()["make_" + name.removeprefix("make_")]()
