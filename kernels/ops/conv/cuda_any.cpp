#include "kernels/ops/conv/cuda_any.h"

#include <algorithm>

#include "kernels/cuda/pack.h"
#include "kernels/ops/conv/cuda_host.h"

namespace tessera {

namespace {

std::int64_t up_to(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// body(o, i, ky, kx), or body(-1, 0, 0, 0) for a zero, for every element of kFma64x64's layout.
template <class Body>
void for_each_of_groups(const AnyConvArgs& args, const Body& body) {
  const std::int64_t width = args.conv.c_out / args.groups, padded = up_to(width, kConvQuad);
  for (std::int64_t group = 0; group < args.groups; ++group) {
    std::int64_t steps = 0, first = 0;
    const auto row = [&](bool exists, std::int64_t i, int ky, int kx) {
      for (std::int64_t o = 0; o < padded; ++o) {
        if (exists && o < width) {
          body(group * width + o, i, ky, kx);
        } else {
          body(std::int64_t{-1}, std::int64_t{0}, 0, 0);
        }
      }
      ++steps;
    };
    for (int s = 0; s < args.conv.source_count; ++s) {
      const std::int64_t channels = args.conv.sources[s].c / args.groups;
      for (int ky = 0; ky < args.axes[0].taps; ++ky)
        for (int kx = 0; kx < args.axes[1].taps; ++kx)
          for (std::int64_t i = 0; i < channels; ++i) row(true, first + i, ky, kx);
      first += channels;
    }
    while (steps % kAnyConvDepth != 0) row(false, 0, 0, 0);
  }
}

ConvWeightLayout layout_of(const AnyConvArgs& args, Precision rounding) {
  ConvWeightLayout layout{.c_in = {},
                          .c_out = args.conv.c_out,
                          .kernel = {args.axes[0].taps, args.axes[1].taps},
                          .rounding = rounding};
  for (int s = 0; s < args.conv.source_count; ++s) layout.c_in.push_back(args.conv.sources[s].c);
  return layout;
}

std::int64_t joined_channels(const AnyConvArgs& args) {
  std::int64_t channels = 0;
  for (int s = 0; s < args.conv.source_count; ++s) channels += args.conv.sources[s].c;
  return channels;
}

}  // namespace

bool is_countable(const AnyConvArgs& args) {
  constexpr std::int64_t kMost = 1 << 30;
  const ConvArgs& c = args.conv;
  const std::int64_t taps = std::int64_t{args.axes[0].taps} * args.axes[1].taps;
  const std::int64_t rows = std::int64_t{c.n} * c.ho, row = std::int64_t{c.wo} * c.c_out;
  return rows <= kMost && row <= kMost && rows <= kMost / c.wo &&
         (taps == 0 || joined_channels(args) <= kMost / taps);
}

std::shared_ptr<const DeviceBuffer> pack_any_conv(const AnyConvArgs& args,
                                                  AnyConvTechnique technique,
                                                  const std::string& key, const CudaSetup& setup,
                                                  const std::function<AnyConvWeight()>& open) {
  const std::int64_t taps = std::int64_t{args.axes[0].taps} * args.axes[1].taps;
  const std::int64_t c_in = joined_channels(args) / args.groups;
  const auto keep = [&](const std::string& name, std::size_t bytes, const auto& fill) {
    constexpr std::size_t kLeast = 16;  // where no tap reaches: a copy of nothing has no pointers
    return setup.packed->get(name, std::max(bytes, kLeast), fill);
  };
  if (technique == AnyConvTechnique::kMma128x64) {
    const ConvWeightLayout layout = layout_of(args, tensor_core_rounding(args.conv.x_type));
    const int across = args.axes[1].taps;
    return keep(
        fmt::format("{}/{}", key, name_of(layout.rounding)), layout.bytes(), [&](std::byte* to) {
          const AnyConvWeight weight = open();
          for_each_packed(layout, [&](std::int64_t o, std::int64_t i, int tap) {
            const double value = i == kPackZero ? 0.0 : weight(o, i, tap / across, tap % across);
            store_rounded(layout.rounding, static_cast<float>(value), to);
            to += layout.element_bytes();
          });
        });
  }
  const std::int64_t pitch = up_to(args.conv.c_out, kConvQuad);
  if (technique == AnyConvTechnique::kFmaChannel) {
    const auto bytes = static_cast<std::size_t>(taps * c_in * pitch) * sizeof(float);
    return keep(key + "/channel", bytes, [&](std::byte* memory) {
      const AnyConvWeight weight = open();
      auto* to = reinterpret_cast<float*>(memory);
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        for (std::int64_t i = 0; i < c_in; ++i) {
          for (std::int64_t o = 0; o < pitch; ++o)
            *to++ = o < args.conv.c_out
                        ? static_cast<float>(weight(o, i, static_cast<int>(tap) / args.axes[1].taps,
                                                    static_cast<int>(tap) % args.axes[1].taps))
                        : 0.0f;
        }
      }
    });
  }
  const std::int64_t elements = args.groups * up_to(taps * c_in, kAnyConvDepth) *
                                up_to(args.conv.c_out / args.groups, kConvQuad);
  return keep(key + "/groups", static_cast<std::size_t>(elements) * sizeof(float),
              [&](std::byte* memory) {
                const AnyConvWeight weight = open();
                auto* to = reinterpret_cast<float*>(memory);
                for_each_of_groups(args, [&](std::int64_t o, std::int64_t i, int ky, int kx) {
                  *to++ = o < 0 ? 0.0f : static_cast<float>(weight(o, i, ky, kx));
                });
              });
}

void any_conv_cuda(const AnyConvArgs& args, AnyConvTechnique technique, CudaStream stream) {
  switch (technique) {
    case AnyConvTechnique::kMma128x64:
      return any_conv_mma_cuda(args, stream);
    case AnyConvTechnique::kFma64x64:
      return any_conv_fma_cuda(args, stream);
    case AnyConvTechnique::kFmaChannel:
      return any_conv_channel_cuda(args, stream);
  }
}

}  // namespace tessera
