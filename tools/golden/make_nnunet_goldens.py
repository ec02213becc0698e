#!/usr/bin/env python3
"""Makes tests/golden/import/nnunet/: model folders as nnU-Net v2 writes them, around its own network
classes with random weights, and for each what PyTorch computes in float64: image.npy (h, w, c), as a
file has it, and probabilities.npy (h, w, classes).

    python3 -m pip install torch dynamic-network-architectures numpy
    tools/golden/make_nnunet_goldens.py

Plans have the keys of nnunetv2 2.5 (the CT one those of 2.0, which named no class of the network);
images are normalised as in its preprocessing/normalization/default_normalization_schemes.py."""

import json
import pathlib

import numpy as np
import torch
import torch.nn as nn
from dynamic_network_architectures.architectures import unet

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "import" / "nnunet"
CT = {"max": 3071.0, "mean": 99.5, "median": 101.0, "min": -1024.0, "percentile_00_5": -58.0,
      "percentile_99_5": 302.0, "std": 37.2}
STRIDES = [[1, 1], [2, 2], [2, 2]]
FEATURES = [4, 8, 12]


def normalise(scheme, x):
    """(h, w), of one channel."""
    x = x.astype(np.float32)
    if scheme == "ZScoreNormalization":
        return (x - x.mean()) / max(x.std(), 1e-8)
    if scheme == "CTNormalization":
        x = np.clip(x, CT["percentile_00_5"], CT["percentile_99_5"])
        return (x - CT["mean"]) / max(CT["std"], 1e-8)
    if scheme == "RescaleTo01Normalization":
        return (x - x.min()) / np.clip(x.max() - x.min(), 1e-8, None)
    assert scheme == "RGBTo01Normalization"
    return x / 255


def arguments(residual, in_words):
    """The constructor's, as objects or as the plans have them: names of classes."""
    named = (lambda cls, name: name) if in_words else (lambda cls, name: cls)
    blocks = {"n_blocks_per_stage": [1, 2, 2], "n_conv_per_stage_decoder": [1, 1]} if residual else \
             {"n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2]}
    return {"n_stages": 3, "features_per_stage": FEATURES,
            "conv_op": named(nn.Conv2d, "torch.nn.modules.conv.Conv2d"),
            "kernel_sizes": [[3, 3]] * 3, "strides": STRIDES, **blocks, "conv_bias": True,
            "norm_op": named(nn.InstanceNorm2d, "torch.nn.modules.instancenorm.InstanceNorm2d"),
            "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None,
            "dropout_op_kwargs": None, "nonlin": named(nn.LeakyReLU, "torch.nn.LeakyReLU"),
            "nonlin_kwargs": {"inplace": True}}


def plans_of(name, residual, channels, scheme, old, spacing):
    cls = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    configuration = {
        "data_identifier": "nnUNetPlans_2d", "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 12, "patch_size": [32, 48], "median_image_size_in_voxels": [32.0, 48.0],
        "spacing": spacing, "normalization_schemes": [scheme] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape", "batch_dice": True}
    if old:
        configuration |= {"UNet_class_name": cls, "UNet_base_num_features": FEATURES[0],
                          "n_conv_per_stage_encoder": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
                          "num_pool_per_axis": [2, 2], "pool_op_kernel_sizes": STRIDES,
                          "conv_kernel_sizes": [[3, 3]] * 3, "unet_max_num_features": 512}
    else:
        configuration["architecture"] = {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{cls}",
            "arch_kwargs": arguments(residual, True),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]}
    configurations = {"2d": configuration}
    if old:  # what stands in another configuration is inherited from it
        base = dict(configuration)
        configurations = {"2d_base": base, "2d": {"inherits_from": "2d_base", "batch_size": 6}}
    return {"dataset_name": name, "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": [999.0] + spacing,
            "original_median_shape_after_transp": [1, 32, 48],
            "image_reader_writer": "NaturalImage2DIO", "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2], "configurations": configurations,
            "experiment_planner_used": "ExperimentPlanner", "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {str(c): CT for c in range(channels)}}


def make(name, trainer_folder, residual, channels, scheme, labels, image, old=False,
         spacing=(1.0, 1.0)):
    torch.manual_seed(sum(map(ord, name)))
    folder = FOLDER / name / trainer_folder
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    plans = plans_of(name, residual, channels, scheme, old, list(spacing))
    dataset = {"channel_names": {str(c): scheme for c in range(channels)}, "labels": labels,
               "numTraining": 8, "file_ending": ".png"}
    cls = unet.ResidualEncoderUNet if residual else unet.PlainConvUNet
    net = cls(channels, num_classes=len(labels), deep_supervision=True,
              **arguments(residual, False))
    for key, parameter in net.named_parameters():
        nn.init.normal_(parameter, 1.0 if key.endswith("norm.weight") else 0.0, 0.2)
    checkpoint = {
        "network_weights": net.state_dict(), "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None, "_best_ema": np.float64(0.9), "current_epoch": 1000,
        "logging": {"ema_fg_dice": [np.float64(0.8)], "epoch_start_timestamps": [1.0]},
        "init_args": {"plans": plans, "configuration": "2d", "fold": 0, "dataset_json": dataset,
                      "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (0, 1)}
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans, indent=4) + "\n")
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=4) + "\n")
    net.decoder.deep_supervision = False
    net = net.double().eval()
    x = np.stack([normalise(scheme, image[..., c]) for c in range(channels)])
    with torch.no_grad():
        probabilities = torch.softmax(net(torch.tensor(x[None]).double())[0], 0).numpy()
    np.save(FOLDER / name / "image.npy", image)
    np.save(FOLDER / name / "probabilities.npy",
            np.ascontiguousarray(probabilities.transpose(1, 2, 0)).astype(np.float32))


def main():
    random = np.random.default_rng(0)
    pixels = lambda c: random.integers(0, 256, (32, 48, c)).astype(np.uint8)
    make("Dataset001_Cells", "nnUNetTrainer__nnUNetPlans__2d", False, 1, "ZScoreNormalization",
         {"background": 0, "cell": 1, "border": 2}, pixels(1))
    make("Dataset002_Roads", "nnUNetTrainer__nnUNetResEncUNetMPlans__2d", True, 3,
         "RGBTo01Normalization", {"background": 0, "road": 1}, pixels(3))
    make("Dataset003_Organs", "nnUNetTrainer__nnUNetPlans__2d", False, 1, "CTNormalization",
         {"background": 0, "liver": 1, "spleen": 2},
         random.normal(100, 150, (32, 48, 1)).astype(np.float32), old=True, spacing=(0.7, 0.7))
    make("Dataset004_Grains", "nnUNetTrainer__nnUNetPlans__2d", False, 3,
         "RescaleTo01Normalization", {"background": 0, "grain": 1}, pixels(3))


if __name__ == "__main__":
    main()
