#!/usr/bin/env python3
"""Makes tests/golden/backward/<operator>.safetensors: gradients of every operator and loss that
training uses, computed by PyTorch's autograd in float64 and rounded to f32 once.

    apt-get install --no-install-recommends python3-torch python3-numpy
    /usr/bin/python3 tools/golden/make_backward_goldens.py

A file holds several cases, as those of make_operator_goldens.py do. Beside "<case>/input<i>",
"<case>/weight/<parameter>" and "<case>/output<i>" there are "<case>/output_gradient<i>",
"<case>/input_gradient<i>", "<case>/weight_gradient/<parameter>" and, where a run changes weights,
"<case>/weight_after/<parameter>"."""

import json
import pathlib

import torch
import torch.nn.functional as F

from oracle import Values, attention, bi_rnn, nchw, nhwc, rnn_weights, save

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "backward"


class File:
    """Collects the cases of one operator."""

    def __init__(self, operator, seed):
        self.operator, self.values, self.cases, self.tensors = operator, Values(seed), [], {}

    def add(self, name, attributes, inputs, weights, run):
        """`run(inputs, weights)` gives the outputs as a list; floats among the inputs and all
        weights but running statistics get gradients."""
        self.cases.append({"name": name, "attributes": attributes})
        before = {key: tensor.clone() for key, tensor in weights.items()}
        inputs = [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
        weights = {key: w.clone().requires_grad_(not key.startswith("running_"))
                   for key, w in weights.items()}
        outputs = run(inputs, weights)
        gradients = [self.values.normal(*y.shape) for y in outputs]
        sum((y * dy).sum() for y, dy in zip(outputs, gradients)).backward()
        for i, x in enumerate(inputs):
            self.tensors[f"{name}/input{i}"] = x.detach()
            if x.is_floating_point():
                self.tensors[f"{name}/input_gradient{i}"] = x.grad
        for key, w in weights.items():
            self.tensors[f"{name}/weight/{key}"] = before[key]
            if w.requires_grad:
                self.tensors[f"{name}/weight_gradient/{key}"] = w.grad
            else:
                self.tensors[f"{name}/weight_after/{key}"] = w
        for i, (y, dy) in enumerate(zip(outputs, gradients)):
            self.tensors[f"{name}/output{i}"] = y.detach()
            self.tensors[f"{name}/output_gradient{i}"] = dy

    def save(self):
        save(FOLDER / f"{self.operator}.safetensors", self.tensors,
             {"cases": json.dumps(self.cases)})


def make_conv():
    file = File("conv", 101)
    values = file.values
    for name, n, h, w, c_in, c_out, kernel, padding, bias, relu in (
            ("valid_3x3", 2, 6, 7, 3, 5, 3, "valid", True, False),
            ("same_3x3_relu", 1, 5, 6, 4, 3, 3, "same", True, True),
            ("no_bias", 1, 4, 4, 2, 3, 3, "valid", False, False),
            ("pointwise", 2, 3, 4, 5, 2, 1, "valid", True, True),
            ("winograd_same", 1, 9, 6, 17, 19, 3, "same", True, True),
            ("winograd_valid", 1, 7, 10, 16, 18, 3, "valid", True, False)):
        x = values.normal(n, h, w, c_in)
        weights = {"weight": values.normal(c_out, c_in, kernel, kernel,
                                           scale=(c_in * kernel**2)**-0.5)}
        if bias:
            weights["bias"] = values.normal(c_out)

        def run(inputs, weights):
            y = F.conv2d(nchw(inputs[0]), weights["weight"], weights.get("bias"),
                         padding=kernel // 2 if padding == "same" else 0)
            return [nhwc(F.relu(y) if relu else y)]

        file.add(name, dict(c_out=c_out, kernel=kernel, padding=padding, bias=bias, relu=relu), [x],
                 weights, run)
    file.save()


def make_conv_transpose():
    file = File("conv_transpose", 102)
    values = file.values
    for kernel in (2, 3):
        for name, n, h, w, c_in, c_out, bias, relu in (("plain", 2, 3, 4, 4, 3, True, False),
                                                       ("relu", 1, 4, 3, 6, 5, True, True),
                                                       ("one_pixel", 1, 1, 1, 3, 17, False, False)):
            x = values.normal(n, h, w, c_in)
            weights = {"weight": values.normal(c_in, c_out, kernel, kernel, scale=c_in**-0.5)}
            if bias:
                weights["bias"] = values.normal(c_out)

            def run(inputs, weights):
                padding = 1 if kernel == 3 else 0
                y = F.conv_transpose2d(nchw(inputs[0]), weights["weight"], weights.get("bias"),
                                       stride=2, padding=padding, output_padding=padding)
                return [nhwc(F.relu(y) if relu else y)]

            file.add(f"{kernel}x{kernel}_{name}",
                     {"c_out": c_out, "kernel": kernel, "bias": bias, "relu": relu}, [x], weights,
                     run)
    file.save()


def make_batch_norm():
    file = File("batch_norm", 103)
    values = file.values
    for name, shape, eps, momentum in (("image", (2, 3, 5, 4), 1e-5, 0.1),
                                       ("vectors", (7, 17), 1e-3, 0.01),
                                       ("large_mean", (40, 3), 1e-5, 0.1)):
        c = shape[-1]
        x = values.normal(*shape, mean=100 if name == "large_mean" else 0.5)
        weights = {"weight": values.normal(c, mean=1, scale=0.3),
                   "bias": values.normal(c, scale=0.3),
                   "running_mean": values.normal(c, scale=0.3),
                   "running_var": values.uniform(0.3, 2, c)}

        def run(inputs, weights):
            flat = inputs[0].reshape(-1, c)
            y = F.batch_norm(flat, weights["running_mean"], weights["running_var"],
                             weights["weight"], weights["bias"], True, momentum, eps)
            return [y.reshape(shape)]

        file.add(name, {"eps": eps, "momentum": momentum}, [x], weights, run)
    file.save()


def make_activation():
    file = File("activation", 104)
    for kind, function in (("relu", F.relu), ("sigmoid", torch.sigmoid)):
        file.add(kind, {"kind": kind}, [file.values.normal(3, 7)], {},
                 lambda inputs, _: [function(inputs[0])])
    file.save()


def make_max_pool():
    file = File("max_pool", 105)
    for n, h, w, c in ((1, 4, 6, 3), (2, 5, 7, 17)):
        file.add(f"{h}x{w}", {}, [file.values.normal(n, h, w, c)], {},
                 lambda inputs, _: [nhwc(F.max_pool2d(nchw(inputs[0]), 2))])
    ties = file.values.ids(2, 1, 8, 8, 5).double()
    file.add("ties", {}, [ties], {}, lambda inputs, _: [nhwc(F.max_pool2d(nchw(inputs[0]), 2))])
    file.save()


def make_upsample():
    file = File("upsample", 106)
    for align_corners in (True, False):
        for n, h, w, c in ((2, 3, 5, 4), (1, 1, 1, 3), (1, 7, 2, 1)):
            file.add(f"{'corners' if align_corners else 'centres'}_{h}x{w}",
                     {"align_corners": align_corners}, [file.values.normal(n, h, w, c)], {},
                     lambda inputs, _: [nhwc(F.interpolate(
                         nchw(inputs[0]), scale_factor=2, mode="bilinear",
                         align_corners=align_corners))])
    file.save()


def make_crop_concat():
    file = File("crop_concat", 113)
    for align, skip_size, up_size in (("crop_skip", (7, 10), (4, 4)), ("pad_up", (7, 9), (6, 6))):
        for skip_first in (True, False):

            def run(inputs, _):
                skip, up = (nchw(x) for x in inputs)
                dy, dx = skip.shape[2] - up.shape[2], skip.shape[3] - up.shape[3]
                if align == "crop_skip":
                    skip = skip[:, :, dy // 2:dy // 2 + up.shape[2], dx // 2:dx // 2 + up.shape[3]]
                else:
                    up = F.pad(up, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))
                return [nhwc(torch.cat((skip, up) if skip_first else (up, skip), 1))]

            file.add(f"{align}_{'skip_up' if skip_first else 'up_skip'}",
                     {"align": align, "skip_first": skip_first},
                     [file.values.normal(1, *skip_size, 2), file.values.normal(1, *up_size, 3)], {},
                     run)
    file.save()


def make_softmax():
    file = File("softmax", 107)
    for c in (2, 21):
        file.add(f"{c}_classes", {}, [file.values.normal(4, c)], {},
                 lambda inputs, _: [torch.softmax(inputs[0], -1)])
    file.save()


def make_linear():
    file = File("linear", 108)
    values = file.values
    for name, rows, features, units, bias in (("bias", 7, 5, 3, True), ("plain", 3, 17, 18, False)):
        weights = {"weight": values.normal(units, features)}
        if bias:
            weights["bias"] = values.normal(units)
        file.add(name, {"units": units, "bias": bias}, [values.normal(rows, features)], weights,
                 lambda inputs, w: [F.linear(inputs[0], w["weight"], w.get("bias"))])
    file.save()


def make_embedding():
    file = File("embedding", 109)
    words, features = 11, 6
    file.add("repeated", {"words": words, "features": features}, [file.values.ids(words, 4, 9)],
             {"weight": file.values.normal(words, features)},
             lambda inputs, w: [F.embedding(inputs[0], w["weight"])])
    file.save()


def make_rnn():
    file = File("rnn", 110)
    values = file.values
    for cell, gate, reset_after, masked in (("lstm", "sigmoid", True, True),
                                            ("lstm", "hard_sigmoid", True, False),
                                            ("gru", "sigmoid", True, True),
                                            ("gru", "sigmoid", False, True),
                                            ("gru", "hard_sigmoid", False, False)):
        t, features, units = 5, 4, 6
        lengths = torch.tensor([5, 2, 0, 3])
        inputs = [values.normal(len(lengths), t, features)] + ([lengths] if masked else [])
        name = f"{cell}_{gate}_{'after' if reset_after else 'before'}"
        file.add(name, dict(cell=cell, units=units, gate=gate, reset_after=reset_after,
                            masked=masked),
                 inputs, rnn_weights(values, cell, features, units),
                 lambda inputs, w: [bi_rnn(inputs[0], inputs[1] if masked else None, w, cell, gate,
                                           reset_after)])
    file.save()


def make_attention():
    file = File("attention", 111)
    values = file.values
    for name, masked, eps, dense in (("masked", True, 1e-7, 0), ("plain", False, 1e-7, 0),
                                     ("eps", True, 0.5, 0), ("dense", True, 1e-7, 7)):
        t, d, units = 5, 6, 4
        lengths = torch.tensor([5, 2, 0])
        width = dense or d
        weights = {"weight": values.normal(units, width, scale=width**-0.5),
                   "bias": values.normal(units), "context": values.normal(units)}
        if dense:
            weights["dense/weight"] = values.normal(dense, d, scale=d**-0.5)
            weights["dense/bias"] = values.normal(dense)

        def run(inputs, w):
            x = inputs[0]
            if dense:
                x = F.linear(x, w["dense/weight"], w["dense/bias"])
            return list(attention(x, inputs[1] if masked else None, w, eps))

        file.add(name, dict(units=units, masked=masked, eps=eps, dense=dense),
                 [values.normal(len(lengths), t, d)] + ([lengths] if masked else []), weights, run)
    file.save()


def make_loss():
    """input0 logits, input1 labels, input2 weights if any -> output0 (1)."""
    file = File("loss", 112)
    values = file.values
    shape = (2, 5, 6)
    border = values.uniform(0.5, 8, *shape)

    def dice(p, y, smooth):
        axes = tuple(range(p.dim() - 1))
        return 1 - ((2 * (p * y).sum(axes) + smooth) / ((p + y).sum(axes) + smooth)).mean()

    def add(name, classes, weights=None, class_weights=None, ce=1.0, dice_share=0.0, smooth=1.0,
            mean="weights", ignored=None, documents=False):
        where = (9,) if documents else shape
        logits = values.normal(*where, classes, scale=2).requires_grad_()
        labels = values.ids(max(classes, 2), *where)
        if ignored is not None:
            labels = torch.where(values.uniform(0, 1, *where) < 0.2,
                                 torch.full_like(labels, ignored), labels)
        used = labels != ignored if ignored is not None else torch.ones_like(labels, dtype=bool)
        w = used.double() * (weights if weights is not None else 1.0)
        known = torch.where(used, labels, torch.zeros_like(labels))
        if class_weights is not None:
            w = w * torch.tensor(class_weights, dtype=torch.float64)[known]
        if classes == 1:
            each = F.binary_cross_entropy_with_logits(logits[..., 0], known.double(),
                                                      reduction="none")
            p, y = torch.sigmoid(logits), known[..., None].double()
        else:
            each = F.cross_entropy(logits.reshape(-1, classes), known.reshape(-1),
                                   reduction="none").reshape(where)
            p, y = torch.softmax(logits, -1), F.one_hot(known, classes).double()
        value = ce * (w * each).sum() / (w.sum() if mean == "weights" else used.sum())
        valid = used[..., None].double()
        value = value + dice_share * dice(p * valid, y * valid, smooth)
        if weights is None and ignored is None and ce == 1 and dice_share == 0 and classes > 1:
            plain = F.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1),
                                    weight=None if class_weights is None else
                                    torch.tensor(class_weights, dtype=torch.float64))
            assert torch.allclose(value, plain)
        value.backward()
        file.cases.append({"name": name, "attributes": dict(
            cross_entropy=ce, dice=dice_share, smooth=smooth, mean=mean, ignored=ignored,
            class_weights=class_weights)})
        file.tensors[f"{name}/input0"] = logits.detach()
        file.tensors[f"{name}/input1"] = labels if documents else labels.to(torch.uint8)
        if weights is not None:
            file.tensors[f"{name}/input2"] = weights
        file.tensors[f"{name}/output0"] = value.detach().reshape(1)
        file.tensors[f"{name}/input_gradient0"] = logits.grad

    add("pixels", 2)
    add("border_weights", 2, weights=border)
    add("class_weights", 3, class_weights=[0.5, 1.0, 3.0])
    add("elements", 3, weights=border, class_weights=[0.5, 1.0, 3.0], mean="elements")
    add("ignored", 3, weights=border, ignored=255)
    add("dice", 2, ce=0.0, dice_share=1.0)
    add("both", 4, weights=border, ce=0.7, dice_share=0.6, smooth=0.5, ignored=255)
    add("sigmoid", 1, weights=border, class_weights=[1.0, 2.0])
    add("sigmoid_dice", 1, ce=0.5, dice_share=0.5)
    add("documents", 30, documents=True)
    file.save()


# ---- what imported networks have besides ---------------------------------------------------------


def make_conv_window():
    file = File("conv_window", 121)
    values = file.values
    # pads: top, bottom, left, right
    for name, shape, c_out, kernel, stride, dilation, pads, groups, bias in (
            ("strided", (2, 7, 8, 4), 5, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 1, True),
            ("stem", (1, 9, 10, 3), 6, (7, 7), (2, 2), (1, 1), (3, 3, 3, 3), 1, False),
            ("short_cut", (2, 6, 5, 4), 7, (1, 1), (2, 2), (1, 1), (0, 0, 0, 0), 1, True),
            ("dilated", (1, 8, 9, 3), 4, (3, 3), (1, 1), (2, 3), (2, 2, 3, 3), 1, True),
            ("grouped", (2, 5, 6, 6), 4, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 2, True),
            ("depthwise", (1, 6, 6, 5), 5, (3, 3), (2, 1), (1, 1), (1, 1, 1, 1), 5, False),
            ("uneven", (1, 6, 7, 3), 4, (2, 3), (1, 2), (1, 1), (1, 0, 0, 2), 1, True)):
        c_in = shape[3]
        x = values.normal(*shape)
        weights = {"weight": values.normal(c_out, c_in // groups, *kernel,
                                           scale=(c_in // groups * kernel[0] * kernel[1])**-0.5)}
        if bias:
            weights["bias"] = values.normal(c_out)

        def run(inputs, weights):
            padded = F.pad(nchw(inputs[0]), (pads[2], pads[3], pads[0], pads[1]))
            return [nhwc(F.conv2d(padded, weights["weight"], weights.get("bias"), stride=stride,
                                  dilation=dilation, groups=groups))]

        file.add(name, {"c_out": c_out, "kernel": kernel, "stride": stride, "dilation": dilation,
                        "pads": pads, "groups": groups, "bias": bias}, [x], weights, run)
    file.save()


def make_conv_transpose_window():
    file = File("conv_transpose_window", 122)
    values = file.values
    for name, shape, c_out, kernel, stride, padding, extra, groups, bias in (
            ("stride_4", (1, 3, 4, 4), 3, (4, 4), (4, 4), 0, 0, 1, True),
            ("one_axis", (2, 4, 3, 4), 5, (1, 2), (1, 2), 0, 0, 1, False),
            ("overlapping", (1, 4, 5, 4), 6, (4, 4), (2, 2), 1, 0, 2, True),
            ("output_padding", (1, 4, 3, 3), 4, (3, 3), (3, 3), 1, 1, 1, True)):
        c_in = shape[3]
        x = values.normal(*shape)
        weights = {"weight": values.normal(c_in, c_out // groups, *kernel, scale=c_in**-0.5)}
        if bias:
            weights["bias"] = values.normal(c_out)

        def run(inputs, weights):
            return [nhwc(F.conv_transpose2d(nchw(inputs[0]), weights["weight"], weights.get("bias"),
                                            stride=stride, padding=padding, output_padding=extra,
                                            groups=groups))]

        behind = padding - extra
        file.add(name, {"c_out": c_out, "kernel": 0, "bias": bias, "window": kernel,
                        "stride": stride, "crop": (padding, behind, padding, behind),
                        "groups": groups}, [x], weights, run)
    file.save()


def make_activation_kinds():
    file = File("activation_kinds", 123)
    values = file.values
    for kind, attributes, run in (
            ("leaky_relu", {"slope": 0.2}, lambda x, w: F.leaky_relu(x, 0.2)),
            ("prelu", {}, lambda x, w: F.prelu(x, w["weight"])),
            ("elu", {"alpha": 0.7}, lambda x, w: F.elu(x, 0.7)),
            ("selu", {}, lambda x, w: F.selu(x)),
            ("silu", {}, lambda x, w: F.silu(x)),
            ("gelu", {}, lambda x, w: F.gelu(x)),
            ("gelu_tanh", {}, lambda x, w: F.gelu(x, approximate="tanh")),
            ("tanh", {}, lambda x, w: x.tanh()),
            ("hard_sigmoid", {"gain": 1 / 6}, lambda x, w: (x / 6 + 0.5).clamp(0, 1)),
            ("hard_swish", {}, lambda x, w: F.hardswish(x)),
            ("softplus", {}, lambda x, w: F.softplus(x)),
            ("clip", {"min": -0.5, "max": 1}, lambda x, w: x.clamp(-0.5, 1))):
        x = values.normal(40, 6, scale=2)
        weights = {"weight": values.normal(6, mean=0.25, scale=0.1)} if kind == "prelu" else {}
        file.add(kind, {"kind": kind, **attributes}, [x], weights,
                 lambda inputs, weights: [run(inputs[0], weights)])
    file.save()


def make_binary():
    file = File("binary", 124)
    values = file.values
    kinds = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
             "min": torch.minimum, "max": torch.maximum}
    for kind, run in kinds.items():
        away = 2.5 if kind == "div" else 0  # from 0
        for name, other in (("same", (2, 3, 4, 5)), ("channels", (5,)), ("pixels", (2, 3, 4, 1)),
                            ("images", (2, 1, 1, 5))):
            a, b = values.normal(2, 3, 4, 5), values.normal(*other, mean=away, scale=0.5)
            file.add(f"{kind}_{name}", {"kind": kind}, [a, b], {},
                     lambda inputs, weights: [run(inputs[0], inputs[1])])
        a = values.normal(2, 3, 4, 5, mean=away, scale=0.5)
        constant = values.normal(4, 5, mean=away, scale=0.5)
        file.add(f"{kind}_constant", {"kind": kind, "constant": (4, 5)}, [a], {"value": constant},
                 lambda inputs, weights: [run(inputs[0], weights["value"])])
        file.add(f"{kind}_from_constant", {"kind": kind, "constant": (4, 5), "reversed": True}, [a],
                 {"value": constant}, lambda inputs, weights: [run(weights["value"], inputs[0])])
    file.save()


def make_concat():
    file = File("concat", 125)
    values = file.values
    for axis in (-1, 1, 0):
        parts = [[2, 3, 4, 5] for _ in range(3)]
        for i, part in enumerate(parts):
            part[axis] += i
        file.add(f"axis_{axis}", {"axis": axis}, [values.normal(*part) for part in parts], {},
                 lambda inputs, weights: [torch.cat(inputs, axis)])
    file.save()


def make_group_norm():
    file = File("group_norm", 126)
    values = file.values
    for name, shape, groups, affine, mean in (("instance", (2, 5, 6, 3), 0, True, 0.5),
                                              ("instance_plain", (1, 4, 5, 4), 0, False, 0),
                                              ("groups", (2, 4, 3, 6), 2, True, 0),
                                              ("many_channels", (2, 3, 3, 40), 4, True, 30),
                                              ("one_group", (2, 4, 4, 3), 1, False, 0)):
        c = shape[-1]
        x = values.normal(*shape, mean=mean)
        weights = {"weight": values.normal(c, mean=1, scale=0.3),
                   "bias": values.normal(c, scale=0.3)} if affine else {}
        file.add(name, {"groups": groups, "eps": 1e-5, "affine": affine}, [x], weights,
                 lambda inputs, weights: [nhwc(F.group_norm(nchw(inputs[0]), groups or c,
                                                            weights.get("weight"),
                                                            weights.get("bias"), 1e-5))])
    file.save()


def make_resize():
    file = File("resize", 127)
    values = file.values
    nearest = {"mode": "nearest", "coordinates": "asymmetric", "nearest": "floor"}
    for name, shape, attributes, torch_mode, corners in (
            ("nearest_2", (2, 3, 4, 5), {**nearest, "scale_h": 2, "scale_w": 2}, "nearest", None),
            ("nearest_down", (1, 6, 4, 3), {**nearest, "scale_h": 0.5, "scale_w": 0.5}, "nearest",
             None),
            ("linear_3", (1, 3, 4, 70), {"mode": "linear", "scale_h": 3, "scale_w": 3}, "bilinear",
             False),
            ("aligned_sizes", (1, 3, 4, 3),
             {"mode": "linear", "coordinates": "align_corners", "sizes": (7, 5)}, "bilinear", True),
            ("cubic_2", (1, 4, 4, 3), {"mode": "cubic", "scale_h": 2, "scale_w": 2}, "bicubic",
             False)):
        sizes = attributes.get("sizes") or tuple(
            int(shape[i + 1] * attributes[key]) for i, key in enumerate(("scale_h", "scale_w")))
        file.add(name, attributes, [values.normal(*shape)], {},
                 lambda inputs, weights: [nhwc(F.interpolate(nchw(inputs[0]), size=sizes,
                                                             mode=torch_mode,
                                                             align_corners=corners))])
    file.save()


def make_max_pool_window():
    file = File("max_pool_window", 128)
    values = file.values
    for name, shape, kernel, stride, padding, ceil_mode in (("resnet", (2, 7, 8, 5), 3, 2, 1, False),
                                                            ("dense", (1, 5, 6, 17), 3, 1, 1, False),
                                                            ("ceil", (1, 6, 5, 3), 3, 2, 0, True)):
        file.add(name, {"kernel": (kernel, kernel), "stride": (stride, stride),
                        "pads": (padding,) * 4, "ceil_mode": ceil_mode}, [values.normal(*shape)],
                 {}, lambda inputs, weights: [nhwc(F.max_pool2d(nchw(inputs[0]), kernel, stride,
                                                                padding, ceil_mode=ceil_mode))])
    file.save()


def make_avg_pool():
    file = File("avg_pool", 129)
    values = file.values
    for name, shape, kernel, stride, padding, ceil_mode, counts in (
            ("halving", (2, 6, 7, 5), 2, 2, 0, False, True),
            ("padded", (1, 7, 6, 3), 3, 2, 1, False, True),
            ("inside", (1, 7, 6, 70), 3, 1, 1, False, False),
            ("ceil", (1, 6, 5, 3), 3, 2, 1, True, True)):
        file.add(name, {"kernel": (kernel, kernel), "stride": (stride, stride),
                        "pads": (padding,) * 4, "ceil_mode": ceil_mode,
                        "count_include_pad": counts}, [values.normal(*shape)], {},
                 lambda inputs, weights: [nhwc(F.avg_pool2d(nchw(inputs[0]), kernel, stride,
                                                            padding, ceil_mode, counts))])
    file.save()


def make_reduce():
    file = File("reduce", 130)
    values = file.values
    runs = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax, "min": torch.amin}
    for kind, run in runs.items():
        for name, axes, keepdims in (("pixels", (1, 2), True), ("channels", (3,), True),
                                     ("gone", (1, 2), False)):
            x = values.normal(2, 3, 4, 5)
            x[0, 1, 2] = x[0, 0, 1]  # equals
            file.add(f"{kind}_{name}", {"kind": kind, "axes": axes, "keepdims": keepdims}, [x], {},
                     lambda inputs, weights: [run(inputs[0], axes, keepdims)])
    file.save()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for make in (make_conv, make_conv_transpose, make_batch_norm, make_activation, make_max_pool,
                 make_upsample, make_crop_concat, make_softmax, make_linear, make_embedding,
                 make_rnn, make_attention, make_loss, make_conv_window,
                 make_conv_transpose_window, make_activation_kinds, make_binary, make_concat,
                 make_group_norm, make_resize, make_max_pool_window, make_avg_pool,
                 make_reduce):
        make()
