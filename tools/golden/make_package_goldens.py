#!/usr/bin/env python3
"""Makes tests/golden/package: small packages of bioimage.io, formats 0.4 and 0.5, with test tensors that
PyTorch computed, and activations of a small network by tools/dump_torch.py. Needs torch, onnx, safetensors.

    tools/golden/make_package_goldens.py
"""
import hashlib
import pathlib
import shutil
import sys
import zipfile

import numpy
import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from dump_torch import dump  # noqa: E402

OUT = ROOT / "tests/golden/package"


class Block(nn.Module):  # of constantinpape/torch-em
    def __init__(self, c_in, c_out):
        super().__init__()
        self.block = nn.Sequential(nn.InstanceNorm2d(c_in), nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(),
                                   nn.InstanceNorm2d(c_out), nn.Conv2d(c_out, c_out, 3, padding=1), nn.ReLU())

    def forward(self, x):
        return self.block(x)


class Sampler(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x):
        return self.conv(nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


class UNet2d(nn.Module):
    def __init__(self, c_in, c_out, base=4, depth=1):
        super().__init__()
        widths = [base << i for i in range(depth + 1)]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.blocks = nn.ModuleList(Block(i, o) for i, o in zip([c_in] + widths, widths[:-1]))
        self.base = Block(widths[-2], widths[-1])
        up = list(zip(widths[::-1], widths[-2::-1]))
        self.decoder.samplers = nn.ModuleList(Sampler(i, o) for i, o in up)
        self.decoder.blocks = nn.ModuleList(Block(2 * o, o) for _, o in up)
        self.out_conv = nn.Conv2d(widths[0], c_out, 1)

    def forward(self, x):
        skips = []
        for block in self.encoder.blocks:
            skips.append(block(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.base(x)
        for sampler, block in zip(self.decoder.samplers, self.decoder.blocks):
            x = block(torch.cat([sampler(x), skips.pop()], 1))
        return self.out_conv(x)


class DoubleConv(nn.Module):  # of milesial/Pytorch-UNet
    def __init__(self, c_in, c_out):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(c_in, c_out))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.up = nn.ConvTranspose2d(c_in, c_in // 2, 2, stride=2)
        self.conv = DoubleConv(c_in, c_out)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class OutConv(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x):
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.inc, self.down1, self.down2 = DoubleConv(3, 4), Down(4, 8), Down(8, 16)
        self.up1, self.up2, self.outc = Up(16, 8), Up(8, 4), OutConv(4, 2)

    def forward(self, x):
        a = self.inc(x)
        b = self.down1(a)
        return self.outc(self.up2(self.up1(self.down2(b), b), a))


def randomise(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.02, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)
    return network.eval()


def image(channels, height, width):
    ramp = numpy.add.outer(numpy.arange(height) * 3.0, numpy.arange(width) * 2.0)
    noise = numpy.random.default_rng(3).normal(0, 20, (1, channels, height, width))
    return numpy.clip(ramp + noise + 40, 0, 255).round().astype(numpy.float32)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def axes_5(height, width, **more):
    lines = [f"      - {{type: batch}}", f"      - {{type: channel, channel_names: [{more['channels']}]}}"]
    for axis, size in (("y", height), ("x", width)):
        lines.append(f"      - {{type: space, id: {axis}, size: {size}{more.get('end', '')}}}")
    return "\n".join(lines)


def make_5(folder, network):
    """A zip of the format 0.5: state dict and ONNX, percentiles, sigmoid."""
    folder.mkdir()
    x = image(1, 24, 16)
    low, high = numpy.percentile(x, [1, 99.8])
    scaled = torch.from_numpy(((x - low) / (high - low + 1e-6)).astype(numpy.float32))
    with torch.no_grad():
        y = torch.sigmoid(network(scaled)).numpy()
    numpy.save(folder / "in.npy", x.astype(numpy.uint8))
    numpy.save(folder / "out.npy", y)
    torch.save(network.state_dict(), folder / "weights.pt")
    torch.onnx.export(network, (scaled,), folder / "weights.onnx", dynamo=False, input_names=["raw"],
                      output_names=["mask"], dynamic_axes={"raw": {2: "h", 3: "w"}})
    (folder / "rdf.yaml").write_text(f"""\
format_version: 0.5.4
type: model
name: small
inputs:
  - id: raw
    axes:
{axes_5("{min: 16, step: 4}", "{min: 16, step: 4}", channels="grey")}
    test_tensor: {{source: in.npy, sha256: {sha256(folder / "in.npy")}}}
    preprocessing:
      - {{id: ensure_dtype, kwargs: {{dtype: float32}}}}
      - {{id: scale_range, kwargs: {{axes: [channel, y, x], min_percentile: 1, max_percentile: 99.8}}}}
outputs:
  - id: mask
    axes:
{axes_5("{tensor_id: raw, axis_id: y}", "{tensor_id: raw, axis_id: x}", channels="nucleus", end=", halo: 4")}
    test_tensor: {{source: out.npy, sha256: {sha256(folder / "out.npy")}}}
    postprocessing: [{{id: sigmoid}}]
weights:
  onnx: {{source: weights.onnx, sha256: {sha256(folder / "weights.onnx")}, opset_version: 17}}
  pytorch_state_dict:
    source: weights.pt
    sha256: {sha256(folder / "weights.pt")}
    architecture: {{source: unet.py, callable: UNet2d, kwargs: {{depth: 1, final_activation: null}}}}
    pytorch_version: 2.5
""")
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for name in ("rdf.yaml", "in.npy", "weights.onnx"):
            archive.write(folder / name, name, zipfile.ZIP_STORED)
        for name in ("out.npy", "weights.pt"):
            archive.write(folder / name, name, zipfile.ZIP_DEFLATED)
    shutil.rmtree(folder)


def make_4(folder, network):
    """A folder of the format 0.4: a state dict whose class ends in a sigmoid, statistics of each channel."""
    folder.mkdir()
    x = image(3, 16, 24)
    mean, std = x.mean((2, 3), keepdims=True), x.std((2, 3), keepdims=True)
    with torch.no_grad():
        y = torch.sigmoid(network(torch.from_numpy((x - mean) / (std + 1e-6)))).numpy()
    numpy.save(folder / "in.npy", x)
    numpy.save(folder / "out.npy", y)
    torch.save(network.state_dict(), folder / "weights.pt")
    (folder / "rdf.yaml").write_text(f"""\
format_version: 0.4.9
type: model
name: small of colours
inputs:
  - name: raw
    axes: &axes bcyx
    data_type: float32
    shape: &shape [1, 3, 16, 24]
    preprocessing:
      - name: zero_mean_unit_variance
        kwargs: {{mode: per_sample, axes: yx}}
outputs:
  - name: affinities
    axes: *axes
    data_type: float32
    shape: [1, 2, 16, 24]
    halo: [0, 0, 4, 4]
test_inputs: [in.npy]
test_outputs: [out.npy]
weights:
  pytorch_state_dict:
    architecture: unet.py:UNet2d
    kwargs: {{depth: 1, final_activation: Sigmoid}}
    source: ./weights.pt
    sha256: {sha256(folder / "weights.pt")}
""")


def main():
    torch.manual_seed(1)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    make_5(OUT / "nuclei", UNet2d(1, 1).eval())
    make_4(OUT / "colours", UNet2d(3, 2).eval())
    network = randomise(UNet())
    torch.save(network.state_dict(), OUT / "milesial.pth")
    dump(network, torch.from_numpy(image(3, 12, 12)) / 255, OUT / "milesial.npz")


if __name__ == "__main__":
    main()
