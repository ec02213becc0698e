// Networks that are known and not read: better a name and a way out than a list of tensors.
#include <algorithm>
#include <array>

#include "engine/files/safetensors.h"
#include "models/import/families/families.h"

namespace tessera {
namespace {

struct RefusedNetwork {
  std::string_view part;  // of a tensor's name that others do not have
  std::string_view name;
  std::string_view advice = "export it as ONNX (torch.onnx.export) and import that";
};
constexpr std::array kRefusedNetworks = std::to_array<RefusedNetwork>({
    {".W_g.", "an Attention U-Net"},
    {"RRCNN", "a recurrent residual U-Net (R2U-Net)"},
    {"conv0_4.", "a UNet++"},
    {"X_04", "a UNet++"},
    {"decoder.blocks.x_0_", "a UNet++ of segmentation_models.pytorch"},
    {"swinViT.", "a Swin UNETR"},
    {"vit.patch_embedding.", "a UNETR"},
    {"layers_up.", "a Swin-Unet"},
    {"transformer.embeddings.", "a TransUNet"},
    {"encoder.neck.", "a Segment Anything or Cellpose 4 network"},
    {"conv_blocks_context.", "an nnU-Net of version 1",
     "train it again with nnU-Net v2, or export it as ONNX and import that"},
    {"res_down_0.", "a Cellpose network, whose flows are no classes",
     "segment with Cellpose itself"},
    {"encoder.model.conv_stem", "a network of segmentation_models.pytorch with an encoder of timm"},
    {"encoder.model.stem", "a network of segmentation_models.pytorch with an encoder of timm"},
    {"encoder.model.stages", "a network of segmentation_models.pytorch with an encoder of timm"},
    {"encoder.layer0.conv1.",
     "a network of segmentation_models.pytorch with an SENet or SE-ResNet encoder"},
    {"encoder._conv_stem.",
     "a network of segmentation_models.pytorch with an EfficientNet as its encoder"},
    {"encoder.features.",
     "a network of segmentation_models.pytorch with a VGG, DenseNet or MobileNet encoder"},
});

std::optional<Imported> match_refused(const Contents& contents, const ImportOptions&,
                                      std::string&) {
  for (const StoredTensor& tensor : contents.tensors) {
    for (const RefusedNetwork& known : kRefusedNetworks) {
      require(tensor.name.find(known.part) == std::string::npos,
              "{}: by its tensor {} this is {}, which Tessera does not read by its names; {}",
              contents.file, in_quotes(tensor.name), known.name, known.advice);
    }
  }
  return std::nullopt;
}

}  // namespace

constinit const Family kRefusedFamilies{
    "refused", "Attention U-Net, R2U-Net, UNet++, UNETR, Swin, Cellpose: known, and not read",
    match_refused};

}  // namespace tessera
