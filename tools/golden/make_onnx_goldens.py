#!/usr/bin/env python3
"""Makes tests/golden/import/onnx/: small networks as torch.onnx writes them, by both of its
exporters, of fixed and of open size, and what they give (input and output beside each, .npy).

    python3 -m pip install torch onnx onnxscript numpy
    tools/golden/make_onnx_goldens.py [name ...]

The outputs are computed with PyTorch in float64."""

import copy
import io
import pathlib
import sys
import warnings

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "import" / "onnx"


class Block(nn.Sequential):
    def __init__(self, c_in, c_out, norm=nn.BatchNorm2d, act=nn.ReLU):
        super().__init__(nn.Conv2d(c_in, c_out, 3, padding=1), norm(c_out), act(),
                         nn.Conv2d(c_out, c_out, 3, padding=1), norm(c_out), act())


class PaddedUNet(nn.Module):
    """Transposed convolutions, and skips that pad to their size (milesial's way)."""

    def __init__(self):
        super().__init__()
        self.d0, self.d1, self.d2 = Block(3, 4), Block(4, 8), Block(8, 16)
        self.u1, self.c1 = nn.ConvTranspose2d(16, 8, 2, stride=2), Block(16, 8)
        self.u0, self.c0 = nn.ConvTranspose2d(8, 4, 2, stride=2), Block(8, 4)
        self.out = nn.Conv2d(4, 3, 1)

    @staticmethod
    def join(up, skip):
        dy, dx = skip.shape[2] - up.shape[2], skip.shape[3] - up.shape[3]
        return torch.cat([skip, F.pad(up, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])], 1)

    def forward(self, x):
        a = self.d0(x)
        b = self.d1(F.max_pool2d(a, 2))
        c = self.d2(F.max_pool2d(b, 2))
        b = self.c1(self.join(self.u1(c), b))
        return self.out(self.c0(self.join(self.u0(b), a)))


class BilinearUNet(nn.Module):
    """Strided convolutions, instance norm, leaky ReLU, up-sampling to the skip's size, sigmoid."""

    def __init__(self):
        super().__init__()
        norm, act = lambda c: nn.InstanceNorm2d(c, affine=True), nn.LeakyReLU
        self.d0, self.down = Block(1, 4, norm, act), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.d1, self.c0 = Block(8, 8, norm, act), Block(12, 4, norm, act)
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        a = self.d0(x)
        b = self.d1(self.down(a))
        b = F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.out(self.c0(torch.cat([b, a], 1))))


class ResidualUNet(nn.Module):
    """Group norm, residual adds, nearest up-sampling, squeeze and excitation, GELU, softmax."""

    def __init__(self):
        super().__init__()
        norm, act = lambda c: nn.GroupNorm(2, c), nn.GELU
        self.d0, self.d1 = Block(1, 8, norm, act), Block(8, 8, norm, act)
        self.narrow, self.wide = nn.Linear(8, 4), nn.Linear(4, 8)
        self.c0, self.out = Block(16, 8, norm, act), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        a = self.d0(x)
        b = F.avg_pool2d(a, 2)
        b = b + self.d1(b)
        weight = torch.sigmoid(self.wide(F.relu(self.narrow(b.mean((2, 3))))))
        b = F.interpolate(b * weight[:, :, None, None], scale_factor=2.0, mode="nearest")
        return torch.softmax(self.out(self.c0(torch.cat([a, b], 1))), 1)


class ValidUNet(nn.Module):
    """No padding, skips cropped at their centre, classes as the answer."""

    def __init__(self):
        super().__init__()
        self.d0, self.d1 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.up, self.c0 = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1), nn.Conv2d(8, 3, 3)

    def logits(self, x):
        a = F.relu(self.d0(x))
        b = self.up(F.relu(self.d1(F.max_pool2d(a, 2))))
        y, x = (a.shape[2] - b.shape[2]) // 2, (a.shape[3] - b.shape[3]) // 2
        a = a[:, :, y:y + b.shape[2], x:x + b.shape[3]]
        return self.c0(torch.cat([a, b], 1))

    def forward(self, x):
        return torch.argmax(self.logits(x), 1)


class ShuffleNet(nn.Module):
    """Pixel shuffle, PReLU, channel split, broadcasting constants, reflected borders."""

    def __init__(self):
        super().__init__()
        self.a, self.act = nn.Conv2d(3, 8, 3, stride=2), nn.PReLU(8)
        self.b, self.out = nn.Conv2d(4, 8, 1, groups=2), nn.Conv2d(2, 2, 1)
        self.register_buffer("scale", torch.rand(1, 8, 1, 1) + 0.5)

    def forward(self, x):
        x = self.act(self.a(F.pad(x * 2 - 1, [1, 1, 1, 1], mode="reflect"))) * self.scale
        left, right = x.chunk(2, 1)
        return self.out(F.pixel_shuffle(self.b(F.hardswish(left)) + F.elu(x) * right[:, :1], 2))


CASES = {
    "padded": (PaddedUNet, (3, 48, 64), (3, 37, 53)),
    "bilinear": (BilinearUNet, (1, 32, 48), (1, 33, 47)),
    "residual": (ResidualUNet, (1, 32, 48), (1, 40, 24)),
    "valid": (ValidUNet, (1, 36, 44), (1, 52, 40)),
    "shuffle": (ShuffleNet, (3, 32, 48), (3, 36, 28)),
}


def make(name):
    network, size, other = CASES[name]
    torch.manual_seed(sorted(CASES).index(name))
    net = network().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
            if getattr(module, "weight", None) is not None and "Norm" in type(module).__name__:
                module.weight.normal_(1, 0.3)
                module.bias.normal_(0, 0.3)
        if name == "valid":  # so that no class is everywhere
            net.c0.bias -= net.logits(torch.rand(1, *size)).mean((0, 2, 3))
    for shape, kind in ((size, "static"), (other, "dynamic")):
        x = torch.rand(1, *shape)
        with torch.no_grad():
            y = copy.deepcopy(net).double()(x.double())
        np.save(FOLDER / f"{name}_{kind}_input.npy", x.numpy())
        np.save(FOLDER / f"{name}_{kind}_output.npy",
                y.numpy().astype(np.uint8 if y.dtype == torch.int64 else np.float32))
    example = torch.rand(1, *size)
    for dynamo in (False, True):
        for dynamic in (False, True):
            if dynamo and name == "valid":
                continue  # its guards tell sizes apart that the network does not
            arguments = {"dynamo": dynamo, "input_names": ["image"], "output_names": ["answer"]}
            if dynamic and dynamo:
                dim = torch.export.Dim.AUTO
                arguments["dynamic_shapes"] = ({2: dim, 3: dim},)
            elif dynamic:
                arguments["dynamic_axes"] = {"image": {0: "n", 2: "h", 3: "w"}}
            path = FOLDER / (f"{name}_{'dynamo' if dynamo else 'script'}_"
                             f"{'dynamic' if dynamic else 'static'}.onnx")
            if dynamo:
                arguments["external_data"] = False
            torch.onnx.export(net, (example,), str(path), **arguments)
            print(path.name, path.stat().st_size)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CASES:
        make(case)
