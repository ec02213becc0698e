// The end of a UNet:  mask = argmax(softmax or sigmoid([relu](W x + b))), per pixel.
//
// Layout: x (n, h, w, c_in) is a matrix of pixels. A block of them that fits L1 is multiplied by W
// (kernels/cpu/gemm-inl.h), and its logits go through softmax and argmax (classes-inl.h) before the
// next block is touched: neither logits nor, unless asked for, probabilities ever reach memory.
// Roofline: reading x binds while classes are few, c_in elements for 2 c_in classes operations;
// with more than about a vector of classes the product binds. The mask is the argmax of the
// probabilities, not of the logits: rounding can make two of them equal, and the mask must not
// depend on whether somebody asked to see them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/head/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/classes-inl.h"
#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/head/head.h"

#ifndef TESSERA_KERNELS_HEAD_CPU_ONCE
#define TESSERA_KERNELS_HEAD_CPU_ONCE
namespace tessera {
namespace {

constexpr std::size_t kMaxLanes = 16;  // of any target

// Where one thread keeps a block, in floats.
struct HeadScratch {
  std::size_t pixels;  // of a block; a multiple of kMaxLanes
  std::size_t c_in, classes;

  std::size_t widened() const { return pixels * c_in; }  // x of bf16 as f32
  std::size_t logits() const { return pixels * classes; }
  std::size_t planes() const { return classes * kMaxLanes; }
  std::size_t total() const { return widened() + logits() + planes(); }
};

// One task: pixels [first, first + count).
struct HeadTask {
  std::size_t first, count;
  const float* packed;  // W as gemm_pack wrote it, then the bias
  float* scratch;       // HeadScratch::total() floats, 64-byte aligned
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

std::size_t head_packed_size(std::size_t c_in, std::size_t classes) {
  return gemm_packed_size(c_in, classes) + gemm_columns(classes);
}

// weight (classes, c_in); bias (classes), or null for zeros.
void head_pack(std::size_t c_in, std::size_t classes, const float* weight, const float* bias,
               float* packed) {
  gemm_pack(
      c_in, classes, [&](std::size_t i, std::size_t k) { return weight[k * c_in + i]; }, packed);
  float* start = packed + gemm_packed_size(c_in, classes);
  for (std::size_t k = 0; k < gemm_columns(classes); ++k)
    start[k] = bias != nullptr && k < classes ? bias[k] : 0.0f;
}

// The matrix of f32 pixels that the product reads: x itself, or bf16 widened into `room`.
const float* as_floats(const float* x, std::size_t, float*) {
  return x;
}
const float* as_floats(const hwy::bfloat16_t* x, std::size_t count, float* room) {
  map(x, count, room, [](std::size_t, FloatVector v) HWY_ATTR { return v; });
  return room;
}

void finish_logits(const Head& op, std::size_t classes, float* planes) {
  const auto each = [&](auto function)
                        HWY_ATTR { map(planes, classes * kFloatLanes, planes, function); };
  if (op.relu) each([](std::size_t, FloatVector v) HWY_ATTR { return relu(v); });
  if (op.output == Head::Output::kSigmoid) {
    each([](std::size_t, FloatVector v) HWY_ATTR { return sigmoid(v); });
  } else {
    softmax_planes(classes, planes);
  }
}

template <class T>
void head_typed(const Head& op, const HeadScratch& block, const HeadTask& task, const T* x,
                std::uint8_t* mask, float* probabilities) {
  const std::size_t c_in = block.c_in, classes = block.classes;
  float* planes = task.scratch;
  float* logits = planes + block.planes();
  float* widened = logits + block.logits();
  const float* bias = task.packed + gemm_packed_size(c_in, classes);
  for (std::size_t done = 0; done < task.count; done += block.pixels) {
    const std::size_t first = task.first + done;
    const std::size_t pixels = std::min(block.pixels, task.count - done);
    const float* rows = as_floats(x + first * c_in, pixels * c_in, widened);
    gemm(rows, c_in, task.packed, pixels, c_in, classes, logits, classes, {bias});
    for (std::size_t i = 0; i < pixels; i += kFloatLanes) {
      const std::size_t count = std::min(kFloatLanes, pixels - i);
      to_planes(logits + i * classes, count, classes, planes);
      finish_logits(op, classes, planes);
      argmax_planes(planes, count, classes, mask + first + i);
      if (probabilities != nullptr)
        from_planes(planes, count, classes, probabilities + (first + i) * classes);
    }
  }
}

void head_range(const Head& op, const HeadScratch& block, const HeadTask& task,
                const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  auto* mask = operands.outputs[0].as<std::uint8_t>();
  float* probabilities = op.probabilities ? operands.outputs[1].as<float>() : nullptr;
  if (x.type.dtype == DType::kBF16) {
    head_typed(op, block, task, x.as<hwy::bfloat16_t>(), mask, probabilities);
  } else {
    head_typed(op, block, task, x.as<float>(), mask, probabilities);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(head_packed_size);
HWY_EXPORT(head_pack);
HWY_EXPORT(head_range);

Step cpu(const Head& op, const CpuSetup& setup) {
  constexpr std::size_t kBlockFloats = 4096;  // of x: half of a 32 KiB L1
  constexpr std::size_t kTaskPixels = 1024;
  const TensorType mask = infer(op, setup.inputs)[0];
  const auto pixels = static_cast<std::size_t>(mask.shape.elements());
  const auto c_in = static_cast<std::size_t>(setup.inputs[0].shape[3]);
  const auto classes = static_cast<std::size_t>(op.classes);
  const HeadScratch block{
      std::clamp(kBlockFloats / c_in / kMaxLanes * kMaxLanes, kMaxLanes, 16 * kMaxLanes), c_in,
      classes};
  const std::size_t packed_bytes =
      HWY_DYNAMIC_DISPATCH(head_packed_size)(c_in, classes) * sizeof(float);
  const auto packed = setup.packed->get(setup.name + "/head", packed_bytes, [&](std::byte* memory) {
    const std::vector<float> weight = to_f32(setup.weights[0]);
    const std::vector<float> bias = op.bias ? to_f32(setup.weights[1]) : std::vector<float>{};
    HWY_DYNAMIC_DISPATCH(head_pack)
    (c_in, classes, weight.data(), op.bias ? bias.data() : nullptr,
     reinterpret_cast<float*>(memory));
  });
  const int threads = setup.threads;
  return {static_cast<std::size_t>(threads) * block.total() * sizeof(float),
          [=](const Operands& operands, std::byte* scratch) {
            const auto tasks = static_cast<std::int64_t>((pixels + kTaskPixels - 1) / kTaskPixels);
            parallel_for(threads, tasks, [&](std::int64_t i, int slot) {
              const std::size_t first = static_cast<std::size_t>(i) * kTaskPixels;
              HWY_DYNAMIC_DISPATCH(head_range)
              (op, block,
               {first, std::min(kTaskPixels, pixels - first),
                reinterpret_cast<const float*>(packed->get()),
                reinterpret_cast<float*>(scratch) + static_cast<std::size_t>(slot) * block.total()},
               operands);
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
