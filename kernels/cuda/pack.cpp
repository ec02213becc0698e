#include "kernels/cuda/pack.h"

#include <bit>
#include <cstring>
#include <limits>

#include "kernels/check.h"
#include "kernels/cpu/convert.h"
#include "kernels/cuda/training.h"

namespace tessera {

void store_rounded(Precision rounding, float value, std::byte* to) {
  if (rounding == Precision::kBf16 || rounding == Precision::kFp16) {
    const std::uint16_t bits =
        rounding == Precision::kBf16 ? f32_to_bf16(value) : f32_to_f16(value);
    std::memcpy(to, &bits, sizeof(bits));
    return;
  }
  auto bits = std::bit_cast<std::uint32_t>(value);
  constexpr std::uint32_t kHalf = 0x1000, kDropped = 0x1fff;  // of tf32's last place
  if (rounding == Precision::kTf32) bits = (bits + kHalf) & ~kDropped;
  std::memcpy(to, &bits, sizeof(bits));
}

std::shared_ptr<const DeviceBuffer> pack_order(const CudaSetup& setup, const std::string& name,
                                               const std::function<PackOrder()>& make) {
  const std::string key = setup.name + "/" + name;
  if (auto found = setup.packed->find(key)) return found;
  const PackOrder order = make();
  // Every element of a weight has a place in its order, so the order is no shorter than the weight.
  constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max());
  require(order.size() <= kMost,
          "training on CUDA takes weights of up to {} elements, but node {} needs {}: make the "
          "layer narrower",
          kMost, setup.name, order.size());
  const std::size_t bytes = order.size() * sizeof(order[0]);
  return setup.packed->get(key, bytes,
                           [&](std::byte* to) { std::memcpy(to, order.data(), bytes); });
}

}  // namespace tessera
