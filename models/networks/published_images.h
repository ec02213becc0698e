// Networks of images that many people use, as graphs: what benchmarks and tests run.
#pragma once

#include <vector>

#include "models/networks/image_network.h"

namespace tessera {

// Unet of segmentation_models.pytorch with a ResNet of basic blocks (He et al. 2015): batch norm,
// residual sums, nearest up-sampling, logits. RGB, sizes that 32 divides. ResNet34 has {3, 4, 6, 3}
// `blocks` and 64 channels in its first stage, 16 in the last of the decoder.
ImageNetwork resnet_unet(const std::vector<int>& blocks, int base, int classes);

// nnU-Net v2 in 2-D, without residuals (Isensee et al. 2021): two convolutions with instance norm
// and LeakyReLU at each of the levels that have `widths` channels; strided convolutions down,
// transposed ones up, logits.
ImageNetwork plain_nnunet(int channels, const std::vector<int>& widths, int classes);

}  // namespace tessera
