#!/usr/bin/env python3
"""Makes tests/golden/import/<case>.safetensors: the state dict of a published network's class with
random weights, under its own names, and "golden/input" (n, h, w, channels) with "golden/logits"
(n, ho, wo, maps), computed by PyTorch in float64.

    python3 -m venv .venv-goldens
    .venv-goldens/bin/pip install torch safetensors segmentation-models-pytorch monai \\
        dynamic-network-architectures
    .venv-goldens/bin/python tools/golden/make_import_goldens.py [case ...]

Metadata: "family", the name of the family that must match; "choices", what the file does not say;
"said", what a container says besides (models/import/contents.h). Weights of convolutions are
stored as bf16 where `small`, which halves a file and loses nothing, because the network computes
with the rounded ones."""

import json
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "import"
CASES = {}


def case(family, height, width, channels=3, choices=None, said=None, small=True, keep=None,
         keys=None):
    """Registers a function that makes a network. `keep` picks what the file holds of the state
    dict, `keys` renames it."""
    def register(make):
        CASES[make.__name__] = dict(make=make, family=family, size=(height, width),
                                    channels=channels, choices=choices or {}, said=said or {},
                                    small=small, keep=keep, keys=keys)
        return make
    return register


def randomise(net, small):
    """He's weights, so that signals stay of order one, and statistics as training gathers them."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            taps = module.weight[0, 0].numel()
            fan_in = taps * (module.in_channels // module.groups)
            if isinstance(module, nn.ConvTranspose2d):
                fan_in //= module.stride[0] * module.stride[1]
            nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5)
            if small:
                module.weight.data = module.weight.data.bfloat16().float()
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)):
            if module.weight is not None:
                nn.init.normal_(module.weight, 1, 0.2)
                nn.init.normal_(module.bias, 0, 0.2)
            if getattr(module, "running_var", None) is not None:
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.1, 0.4)


def make(name):
    one = CASES[name]
    torch.manual_seed(sum(name.encode()))
    net = one["make"]()
    randomise(net, one["small"])
    net.eval()
    x = torch.randn(1, one["channels"], *one["size"])
    state = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        y = net.double()(x.double())
    if one["keep"]:
        state = {key: value for key, value in state.items() if one["keep"](key)}
    if one["keys"]:
        state = {one["keys"](key): value for key, value in state.items()}
    for key, value in state.items():
        if one["small"] and value.dim() == 4:
            state[key] = value.bfloat16()
    state["golden/input"] = x.permute(0, 2, 3, 1).contiguous()
    state["golden/logits"] = y.float().permute(0, 2, 3, 1).contiguous()
    path = FOLDER / f"{name}.safetensors"
    save_file(state, path, {"family": one["family"], "choices": json.dumps(one["choices"]),
                            "said": json.dumps(one["said"])})
    print(f"{name}: {path.stat().st_size} bytes, logits {tuple(y.shape)} "
          f"{y.mean():.2f} +- {y.std():.2f}")


def conv_norm_relu(c_in, c_out, bias, times=2):
    layers = []
    for _ in range(times):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias), nn.BatchNorm2d(c_out),
                   nn.ReLU()]
        c_in = c_out
    return layers


def pad_to(x, skip):
    """milesial's: zeros around the up-sampled map, the smaller half before."""
    dy, dx = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
    return F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])


def crop_to(skip, x):
    dy, dx = (skip.shape[2] - x.shape[2]) // 2, (skip.shape[3] - x.shape[3]) // 2
    return skip[:, :, dy:dy + x.shape[2], dx:dx + x.shape[3]]


class Named(nn.Module):
    """A module with one child of a chosen name, or several, which run in order."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


# ---- milesial/Pytorch-UNet and its kin ----------------------------------------------------------


class Milesial(nn.Module):
    """`generation`: "2017" (names of that time), "2019" (mid channels as the output's), "2021"
    (halved ones behind bilinear up-sampling), "2022" (no bias)."""

    def __init__(self, generation, bilinear, base=2, channels=3, classes=2, names=None):
        super().__init__()
        old = generation == "2017"
        bias = generation != "2022"
        self.names = names or dict(inc="inc", down="down{}", up="up{}", out="outc")

        def double(c_in, c_out, mid=None):
            mid = mid or c_out
            layers = nn.Sequential(*conv_norm_relu(c_in, mid, bias, 1),
                                   *conv_norm_relu(mid, c_out, bias, 1))
            if names:
                return layers
            return Named(**{"conv" if old else "double_conv": layers})

        def down(c_in, c_out):
            pair = nn.Sequential(nn.MaxPool2d(2), double(c_in, c_out))
            return pair if names else Named(**{"mpconv" if old else "maxpool_conv": pair})

        factor = 2 if bilinear or generation in ("2017", "2019") else 1
        widths = [base, 2 * base, 4 * base, 8 * base, 16 * base // factor]
        self.add_module(self.names["inc"],
                        Named(conv=double(channels, base)) if old else double(channels, base))
        for i in range(1, 5):
            self.add_module(self.names["down"].format(i), down(widths[i - 1], widths[i]))
        c = widths[4]
        for i, skip in enumerate(reversed(widths[:4]), 1):
            up = nn.Module()
            if bilinear:
                up.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
                c_up = c
            else:
                c_up = skip if factor == 1 else c
                up.up = nn.ConvTranspose2d(c, c_up, 2, stride=2)
            # Halved where the next map joins a skip of half the channels.
            c_out = skip // factor if i < 4 else base
            mid = (c_up + skip) // 2 if generation in ("2021", "2022") and bilinear else None
            up.conv = double(c_up + skip, c_out, mid)
            self.add_module(self.names["up"].format(i), up)
            c = c_out
        head = nn.Conv2d(c, classes, 1)
        self.add_module(self.names["out"], nn.Sequential(head) if names else Named(conv=head))

    def part(self, role, i=0):
        return getattr(self, self.names[role].format(i))

    def forward(self, x):
        skips = [self.part("inc")(x)]
        for i in range(1, 5):
            skips.append(self.part("down", i)(skips[-1]))
        x = skips.pop()
        for i in range(1, 5):
            up, skip = self.part("up", i), skips.pop()
            x = up.conv(torch.cat([skip, pad_to(up.up(x), skip)], 1))
        return self.part("out")(x)


MILESIAL = "milesial/Pytorch-UNet"


@case(MILESIAL, 37, 53, small=False, said={"entries": {"mask_values": [[0, 0, 0], [255, 128, 0]]}})
def milesial_2022_transposed():
    return Milesial("2022", False)


@case(MILESIAL, 37, 53, channels=1, said={"entries": {"mask_values": [0, 255]}})
def milesial_2022_bilinear():
    return Milesial("2022", True, channels=1, classes=1)


@case(MILESIAL, 37, 53)
def milesial_2021_bilinear():
    return Milesial("2021", True, classes=3)


@case(MILESIAL, 48, 32)
def milesial_2019_transposed():
    return Milesial("2019", False)


@case(MILESIAL, 48, 32, channels=1)
def milesial_2017_bilinear():
    return Milesial("2017", True, channels=1, classes=1)


@case(MILESIAL, 48, 32)
def milesial_2017_transposed():
    return Milesial("2017", False)


@case("WZMIAOMIAO/deep-learning-for-image-processing", 37, 53)
def wzmiaomiao():
    return Milesial("2022", True, names=dict(inc="in_conv", down="down{}", up="up{}",
                                             out="out_conv"))


# ---- other plain PyTorch UNets ------------------------------------------------------------------


@case("U-Net of the paper", 44, 60, channels=1)
def paper():
    class Paper(nn.Module):
        def __init__(self, widths=(4, 8, 12)):
            super().__init__()

            def block(c_in, c_out):
                return nn.Sequential(nn.Conv2d(c_in, c_out, 3), nn.ReLU(),
                                     nn.Conv2d(c_out, c_out, 3), nn.ReLU())
            self.enc = nn.ModuleList(block(a, b) for a, b in zip((1, *widths), widths))
            self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2)
                                    for a, b in zip(widths, widths[1:]))
            self.dec = nn.ModuleList(block(2 * a, a) for a in widths[:-1])
            self.out = nn.Conv2d(widths[0], 2, 1)

        def forward(self, x):
            skips = []
            for i, level in enumerate(self.enc):
                x = level(x if i == 0 else F.max_pool2d(x, 2))
                skips.append(x)
            for i in reversed(range(len(self.up))):
                up = self.up[i](x)
                x = self.dec[i](torch.cat([crop_to(skips[i], up), up], 1))
            return self.out(x)
    return Paper()


@case("aladdinpersson/Machine-Learning-Collection", 48, 32)
def aladdinpersson():
    class Double(nn.Module):
        def __init__(self, c_in, c_out):
            super().__init__()
            self.conv = nn.Sequential(*conv_norm_relu(c_in, c_out, False, 1),
                                      *conv_norm_relu(c_out, c_out, False, 1))

        def forward(self, x):
            return self.conv(x)

    class Unet(nn.Module):
        def __init__(self, widths=(4, 8, 12, 16)):
            super().__init__()
            self.downs = nn.ModuleList(Double(a, b) for a, b in zip((3, *widths), widths))
            self.ups = nn.ModuleList()
            for width in reversed(widths):
                self.ups.append(nn.ConvTranspose2d(32 if width == 16 else width + 4, width, 2, 2))
                self.ups.append(Double(2 * width, width))
            self.bottleneck = Double(widths[-1], 32)
            self.final_conv = nn.Conv2d(widths[0], 1, 1)

        def forward(self, x):
            skips = []
            for down in self.downs:
                x = down(x)
                skips.append(x)
                x = F.max_pool2d(x, 2)
            x = self.bottleneck(x)
            for i in range(0, len(self.ups), 2):
                x = self.ups[i + 1](torch.cat([skips.pop(), self.ups[i](x)], 1))
            return self.final_conv(x)
    return Unet()


@case("mateuszbuda/brain-segmentation-pytorch", 48, 32)
def mateuszbuda():
    class Unet(nn.Module):
        def __init__(self, base=2):
            super().__init__()
            widths = [base << i for i in range(5)]

            def block(name, c_in, c_out):
                layers = []
                for k in (1, 2):
                    layers += [(f"{name}conv{k}", nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)),
                               (f"{name}norm{k}", nn.BatchNorm2d(c_out)),
                               (f"{name}relu{k}", nn.ReLU())]
                    c_in = c_out
                return Named(**dict(layers))
            for i in range(1, 5):
                setattr(self, f"encoder{i}", block(f"enc{i}", 3 if i == 1 else widths[i - 2],
                                                   widths[i - 1]))
            self.bottleneck = block("bottleneck", widths[3], widths[4])
            for i in range(4, 0, -1):
                setattr(self, f"upconv{i}", nn.ConvTranspose2d(widths[i], widths[i - 1], 2, 2))
                setattr(self, f"decoder{i}", block(f"dec{i}", 2 * widths[i - 1], widths[i - 1]))
            self.conv = nn.Conv2d(base, 1, 1)

        def forward(self, x):
            skips = []
            for i in range(1, 5):
                skips.append(getattr(self, f"encoder{i}")(x))
                x = F.max_pool2d(skips[-1], 2)
            x = self.bottleneck(x)
            for i in range(4, 0, -1):
                x = torch.cat([getattr(self, f"upconv{i}")(x), skips[i - 1]], 1)
                x = getattr(self, f"decoder{i}")(x)
            return self.conv(x)
    return Unet()


@case("LeeJunHyun/Image_Segmentation", 48, 32)
def leejunhyun():
    class Unet(nn.Module):
        def __init__(self, base=2):
            super().__init__()
            widths = [base << i for i in range(5)]

            def block(c_in, c_out):
                return Named(conv=nn.Sequential(*conv_norm_relu(c_in, c_out, True, 1),
                                                *conv_norm_relu(c_out, c_out, True, 1)))
            for i in range(5):
                setattr(self, f"Conv{i + 1}", block(3 if i == 0 else widths[i - 1], widths[i]))
            for i in range(5, 1, -1):
                up = nn.Sequential(nn.Upsample(scale_factor=2),
                                   *conv_norm_relu(widths[i - 1], widths[i - 2], True, 1))
                setattr(self, f"Up{i}", Named(up=up))
                setattr(self, f"Up_conv{i}", block(widths[i - 1], widths[i - 2]))
            self.Conv_1x1 = nn.Conv2d(base, 1, 1)

        def forward(self, x):
            skips = []
            for i in range(1, 6):
                x = getattr(self, f"Conv{i}")(x if i == 1 else F.max_pool2d(x, 2))
                skips.append(x)
            for i in range(5, 1, -1):
                x = torch.cat([skips[i - 2], getattr(self, f"Up{i}")(x)], 1)
                x = getattr(self, f"Up_conv{i}")(x)
            return self.Conv_1x1(x)
    return Unet()


@case("usuyama/pytorch-unet", 48, 32)
def usuyama():
    class Unet(nn.Module):
        def __init__(self, widths=(4, 8, 12, 16)):
            super().__init__()

            def block(c_in, c_out):
                return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(),
                                     nn.Conv2d(c_out, c_out, 3, padding=1), nn.ReLU())
            for i, width in enumerate(widths, 1):
                setattr(self, f"dconv_down{i}", block(3 if i == 1 else widths[i - 2], width))
            for i in (3, 2, 1):
                setattr(self, f"dconv_up{i}", block(widths[i - 1] + widths[i], widths[i - 1]))
            self.conv_last = nn.Conv2d(widths[0], 6, 1)

        def forward(self, x):
            skips = []
            for i in (1, 2, 3, 4):
                x = getattr(self, f"dconv_down{i}")(x if i == 1 else F.max_pool2d(x, 2))
                skips.append(x)
            for i in (3, 2, 1):
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
                x = getattr(self, f"dconv_up{i}")(torch.cat([x, skips[i - 1]], 1))
            return self.conv_last(x)
    return Unet()


class Jvanvugt(nn.Module):
    def __init__(self, padding, norm, bilinear, depth=3, base=4):
        super().__init__()

        def block(c_in, c_out):
            layers = []
            for _ in range(2):
                layers += [nn.Conv2d(c_in, c_out, 3, padding=int(padding)), nn.ReLU()]
                if norm:
                    layers.append(nn.BatchNorm2d(c_out))
                c_in = c_out
            return nn.Sequential(*layers)
        widths = [base << i for i in range(depth)]
        self.down_path = nn.ModuleList(Named(block=block(a, b))
                                       for a, b in zip((1, *widths), widths))
        self.up_path = nn.ModuleList()
        for i in reversed(range(depth - 1)):
            up = nn.Module()
            up.up = (nn.Sequential(nn.Upsample(mode="bilinear", scale_factor=2),
                                   nn.Conv2d(widths[i + 1], widths[i], 1)) if bilinear
                     else nn.ConvTranspose2d(widths[i + 1], widths[i], 2, 2))
            up.conv_block = Named(block=block(widths[i + 1], widths[i]))
            self.up_path.append(up)
        self.last = nn.Conv2d(base, 2, 1)

    def forward(self, x):
        skips = []
        for i, down in enumerate(self.down_path):
            x = down(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for up in self.up_path:
            x = up.up(x)
            x = up.conv_block(torch.cat([x, crop_to(skips.pop(), x)], 1))
        return self.last(x)


@case("jvanvugt/pytorch-unet", 60, 44, channels=1)
def jvanvugt_valid():
    return Jvanvugt(False, False, False)


@case("jvanvugt/pytorch-unet", 32, 40, channels=1, choices={"padding": "same"})
def jvanvugt_same_bilinear():
    return Jvanvugt(True, True, True)


@case("Hsankesara/DeepResearch", 92, 100)
def deepresearch():
    class Unet(nn.Module):
        def __init__(self, widths=(4, 8, 12, 16)):
            super().__init__()

            def block(c_in, c_out):
                return [nn.Conv2d(c_in, c_out, 3), nn.ReLU(), nn.BatchNorm2d(c_out),
                        nn.Conv2d(c_out, c_out, 3), nn.ReLU(), nn.BatchNorm2d(c_out)]

            def up(c_in, c_out):
                return nn.ConvTranspose2d(c_in, c_out, 3, stride=2, padding=1, output_padding=1)
            for i in (1, 2, 3):
                setattr(self, f"conv_encode{i}",
                        nn.Sequential(*block(3 if i == 1 else widths[i - 2], widths[i - 1])))
            self.bottleneck = nn.Sequential(*block(widths[2], widths[3]), up(widths[3], widths[2]))
            for i in (3, 2):
                setattr(self, f"conv_decode{i}",
                        nn.Sequential(*block(2 * widths[i - 1], widths[i - 1]),
                                      up(widths[i - 1], widths[i - 2])))
            self.final_layer = nn.Sequential(*block(2 * widths[0], widths[0]),
                                             nn.Conv2d(widths[0], 2, 3, padding=1), nn.ReLU(),
                                             nn.BatchNorm2d(2))

        def forward(self, x):
            skips = []
            for i in (1, 2, 3):
                skips.append(getattr(self, f"conv_encode{i}")(x))
                x = F.max_pool2d(skips[-1], 2)
            x = self.bottleneck(x)
            for layer in (self.conv_decode3, self.conv_decode2, self.final_layer):
                x = layer(torch.cat([x, crop_to(skips.pop(), x)], 1))
            return x
    return Unet()


@case("bubbliiiing/unet-pytorch", 48, 32)
def bubbliiiing():
    class Unet(nn.Module):
        def __init__(self, base=2):
            super().__init__()
            widths = [base, 2 * base, 4 * base, 8 * base, 8 * base]
            layers, c_in = [], 3
            for width, times in zip(widths, (2, 2, 3, 3, 3)):
                for _ in range(times):
                    layers += [nn.Conv2d(c_in, width, 3, padding=1), nn.ReLU()]
                    c_in = width
                layers.append(nn.MaxPool2d(2))
            self.vgg = Named(features=nn.Sequential(*layers))
            c_in = widths[4]
            for i in (4, 3, 2, 1):
                up = nn.Module()
                up.conv1 = nn.Conv2d(c_in + widths[i - 1], widths[i - 1], 3, padding=1)
                up.conv2 = nn.Conv2d(widths[i - 1], widths[i - 1], 3, padding=1)
                setattr(self, f"up_concat{i}", up)
                c_in = widths[i - 1]
            self.final = nn.Conv2d(widths[0], 3, 1)

        def forward(self, x):
            skips = []
            for begin, end in ((0, 4), (4, 9), (9, 16), (16, 23), (23, -1)):
                x = self.vgg.features[begin:end](x)
                skips.append(x)
            skips.pop()
            for i in (4, 3, 2, 1):
                up = getattr(self, f"up_concat{i}")
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
                x = F.relu(up.conv1(torch.cat([skips.pop(), x], 1)))
                x = F.relu(up.conv2(x))
            return self.final(x)
    return Unet()


class TorchEm(nn.Module):
    """`norm`: "instance" (no parameters), "group" or none."""

    def __init__(self, norm, depth=3, base=4, classes=1):
        super().__init__()

        def block(c_in, c_out):
            def before(c):
                return {"instance": [nn.InstanceNorm2d(c)], "none": []}[norm]
            return Named(block=nn.Sequential(
                *before(c_in), nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(),
                *before(c_out), nn.Conv2d(c_out, c_out, 3, padding=1), nn.ReLU()))
        widths = [base << i for i in range(depth + 1)]
        self.encoder = nn.Module()
        self.encoder.blocks = nn.ModuleList(block(a, b) for a, b in zip((1, *widths), widths[:-1]))
        self.base = block(widths[-2], widths[-1])
        self.decoder = nn.Module()
        self.decoder.blocks = nn.ModuleList(block(b, a) for a, b in
                                            zip(widths[-2::-1], widths[:0:-1]))
        self.decoder.samplers = nn.ModuleList(Named(conv=nn.Conv2d(b, a, 1)) for a, b in
                                              zip(widths[-2::-1], widths[:0:-1]))
        self.out_conv = nn.Conv2d(base, classes, 1)

    def forward(self, x):
        skips = []
        for block in self.encoder.blocks:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.base(x)
        for block, sampler in zip(self.decoder.blocks, self.decoder.samplers):
            x = sampler(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
            x = block(torch.cat([x, skips.pop()], 1))
        return self.out_conv(x)


@case("constantinpape/torch-em UNet2d", 48, 32, channels=1)
def torch_em_instance():
    return TorchEm("instance")


@case("constantinpape/torch-em UNet2d", 48, 32, channels=1)
def torch_em_plain():
    return TorchEm("none", classes=2)


@case("wolny/pytorch-3dunet UNet2D", 50, 39, channels=1)
def pytorch_3dunet():
    class Unet(nn.Module):
        def __init__(self, widths=(8, 16, 32)):
            super().__init__()

            def single(c_in, c_out):
                return Named(groupnorm=nn.GroupNorm(8 if c_in >= 8 else 1, c_in),
                             conv=nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
                             relu=nn.ReLU())

            def double(c_in, mid, c_out):
                block = nn.Module()
                block.basic_module = Named(SingleConv1=single(c_in, mid),
                                           SingleConv2=single(mid, c_out))
                return block
            self.encoders = nn.ModuleList(double(a, max(b // 2, a), b)
                                          for a, b in zip((1, *widths), widths))
            self.decoders = nn.ModuleList(double(a + b, a, a) for a, b in
                                          zip(widths[-2::-1], widths[:0:-1]))
            self.final_conv = nn.Conv2d(widths[0], 2, 1)

        def forward(self, x):
            skips = []
            for i, encoder in enumerate(self.encoders):
                x = encoder.basic_module(x if i == 0 else F.max_pool2d(x, 2))
                skips.append(x)
            skips.pop()
            for decoder in self.decoders:
                skip = skips.pop()
                x = F.interpolate(x, size=skip.shape[2:], mode="nearest")
                x = decoder.basic_module(torch.cat([skip, x], 1))
            return self.final_conv(x)
    return Unet()


# ---- published packages -------------------------------------------------------------------------


class ThinSmp(nn.Module):
    """segmentation_models_pytorch's Unet with its own ResNet encoder of 1/`thin` of the channels."""

    def __init__(self, block, layers, thin, depth=5, decoder=(12, 8, 8, 4, 4), norm="batchnorm",
                 classes=2, interpolation="nearest", attention=None):
        super().__init__()
        from segmentation_models_pytorch.base import SegmentationHead
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
        from segmentation_models_pytorch.encoders.resnet import ResNetEncoder

        class Encoder(ResNetEncoder):
            def _make_layer(self, block, planes, *args, **kwargs):
                if planes == 64:
                    self.inplanes = 4
                    self.conv1 = nn.Conv2d(3, 4, 7, stride=2, padding=3, bias=False)
                    self.bn1 = nn.BatchNorm2d(4)
                return super()._make_layer(block, planes // thin, *args, **kwargs)

        widths = [64 // thin * block.expansion << i for i in range(4)]
        channels = (3, 4, *widths)[:depth + 1]
        self.encoder = Encoder(channels, depth=depth, block=block, layers=layers)
        self.decoder = UnetDecoder(channels, decoder[:depth], depth, norm,
                                   attention_type=attention, interpolation_mode=interpolation)
        self.segmentation_head = SegmentationHead(decoder[depth - 1], classes)

    def forward(self, x):
        return self.segmentation_head(self.decoder(self.encoder(x)))


SMP = "segmentation_models.pytorch Unet"


@case(SMP, 64, 96)
def smp_resnet18():
    from torchvision.models.resnet import BasicBlock
    return ThinSmp(BasicBlock, [2, 2, 2, 2], 32)


@case(SMP, 75, 101, said={"config": {"_model_class": "Unet", "encoder_name": "resnet50",
                                     "encoder_depth": 5, "activation": None, "in_channels": 3,
                                     "classes": 1, "decoder_attention_type": None,
                                     "decoder_interpolation": "nearest"}})
def smp_resnet50_odd():
    from torchvision.models.resnet import Bottleneck
    return ThinSmp(Bottleneck, [3, 4, 6, 3], 32, classes=1)


@case(SMP, 48, 43, said={"config": {"_model_class": "Unet", "encoder_name": "resnet18",
                                    "encoder_depth": 4, "activation": "sigmoid",
                                    "decoder_interpolation": "bilinear"}})
def smp_resnet18_depth4():
    from torchvision.models.resnet import BasicBlock
    return ThinSmp(BasicBlock, [2, 2, 2, 2], 32, depth=4, norm=False, interpolation="bilinear")


@case(SMP, 40, 37, said={"config": {"_model_class": "Unet", "encoder_name": "tu-resnet18",
                                    "encoder_depth": 3, "activation": None,
                                    "decoder_attention_type": "scse",
                                    "decoder_interpolation": "bicubic"}},
      keep=lambda key: not key.startswith(("encoder.layer3", "encoder.layer4")),
      keys=lambda key: key.replace("encoder.", "encoder.model."))
def smp_timm_attention():
    from torchvision.models.resnet import BasicBlock
    return ThinSmp(BasicBlock, [2, 2, 2, 2], 8, depth=3, decoder=(16, 16, 16),
                   norm={"type": "instancenorm", "affine": True}, interpolation="bicubic",
                   attention="scse")


class TimmSmp(nn.Module):
    """The same with a ResNet-D of timm, gated by squeeze and excitation, as SMP's "tu-seresnet50d"."""

    def __init__(self, block, layers, attention=None, decoder=(12, 8, 8, 4, 4)):
        super().__init__()
        import timm.models.resnet as resnet
        from segmentation_models_pytorch.base import SegmentationHead
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
        widths = (4, 6, 8, 10)
        self.encoder = nn.Module()
        self.encoder.model = resnet.ResNet(
            getattr(resnet, block), layers, num_classes=0, stem_type="deep", stem_width=4,
            avg_down=True, channels=widths, block_args={"attn_layer": attention})
        expansion = getattr(resnet, block).expansion
        channels = (3, 8, *(width * expansion for width in widths))
        self.decoder = UnetDecoder(channels, decoder, 5, "batchnorm")
        self.segmentation_head = SegmentationHead(decoder[-1], 2)

    def forward(self, x):
        net = self.encoder.model
        maps = [x, net.act1(net.bn1(net.conv1(x)))]
        x = net.maxpool(maps[1])
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = layer(x)
            maps.append(x)
        return self.segmentation_head(self.decoder(maps))


@case(SMP, 64, 96)
def smp_resnet_d():
    return TimmSmp("BasicBlock", [2, 1, 1, 1])


@case(SMP, 75, 101)
def smp_seresnet50_d():
    return TimmSmp("Bottleneck", [1, 2, 1, 1], "se")


def nnunet(residual, strides, deep=False):
    from dynamic_network_architectures.architectures import unet
    stages = len(strides)
    make_net = unet.ResidualEncoderUNet if residual else unet.PlainConvUNet
    blocks = dict(n_blocks_per_stage=[1, 2, 2, 1][:stages]) if residual else dict(n_conv_per_stage=2)
    return make_net(1, stages, [4, 8, 16, 16][:stages], nn.Conv2d, 3, strides, num_classes=3,
                    n_conv_per_stage_decoder=1 if residual else 2, conv_bias=True,
                    norm_op=nn.InstanceNorm2d, norm_op_kwargs={"eps": 1e-5, "affine": True},
                    nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, **blocks)


@case("nnU-Net v2", 48, 32, channels=1)
def nnunet_plain():
    return nnunet(False, [1, 2, 2])


@case("nnU-Net v2", 48, 32, channels=1,
      keep=lambda key: "all_modules" not in key and not key.startswith("decoder.encoder"))
def nnunet_plain_anisotropic():
    return nnunet(False, [(1, 1), (2, 2), (1, 2), (4, 2)])


@case("nnU-Net v2", 48, 32, channels=1,
      keep=lambda key: "all_modules" not in key and not key.startswith("decoder.encoder"))
def nnunet_residual():
    return nnunet(True, [1, 2, 2, 2])


def monai_unet(units, norm, channels=(4, 8, 16), strides=(2, 2), classes=2, **settings):
    from monai.networks.nets import UNet
    return UNet(2, 1, classes, channels, strides, num_res_units=units, norm=norm, **settings)


@case("MONAI UNet", 32, 48, channels=1)
def monai_unet_plain():
    return monai_unet(0, "INSTANCE")


@case("MONAI UNet", 32, 48, channels=1)
def monai_unet_residual():
    return monai_unet(2, "BATCH", (4, 8, 16, 16), (2, 2, 2), 3)


@case("MONAI UNet", 32, 48, channels=1, choices={"strides": "2,1"})
def monai_unet_strides():
    return monai_unet(0, ("INSTANCE", {"affine": True}), strides=(2, 1), classes=1)


@case("MONAI UNet", 32, 48, channels=1,
      choices={"norm": "group", "groups": "2", "adn_ordering": "ADN"})
def monai_unet_norm_last():
    return monai_unet(2, ("GROUP", {"num_groups": 2}), adn_ordering="ADN")


@case("MONAI BasicUNet", 37, 45, channels=1)
def monai_basic_unet():
    from monai.networks.nets import BasicUNet
    return BasicUNet(2, 1, 2, features=(4, 4, 8, 12, 16, 4))


@case("MONAI BasicUNet", 37, 45, channels=1)
def monai_basic_unet_nontrainable():
    from monai.networks.nets import BasicUNet
    return BasicUNet(2, 1, 2, features=(4, 4, 8, 12, 16, 4), norm="batch", upsample="nontrainable")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or CASES:
        make(name)


if __name__ == "__main__":
    main()
