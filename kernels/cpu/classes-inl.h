// Softmax and argmax over the classes of a few pixels at a time.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
//
// Few classes lie side by side, so one pixel cannot fill a vector. A block of kFloatLanes pixels is
// transposed into planes instead: plane k holds class k, one lane per pixel. Every pixel then takes
// the same steps in the order of its classes, wherever it lies in the block or the image.
#if defined(TESSERA_KERNELS_CPU_CLASSES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_CPU_CLASSES_INL_H_
#undef TESSERA_KERNELS_CPU_CLASSES_INL_H_
#else
#define TESSERA_KERNELS_CPU_CLASSES_INL_H_
#endif

#include <algorithm>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// planes (c, kFloatLanes) from x (count, c), 0 < count <= kFloatLanes; lanes from `count` on repeat
// the last pixel. Beyond 4 classes it moves scalars within L1: gathers took 3 times as long (argmax
// of 21 classes, Zen 4).
inline void to_planes(const float* x, std::size_t count, std::size_t c, float* planes) {
  const FloatTag d;
  FloatVector v[4];
  if (count == kFloatLanes && c == 2) {
    hn::LoadInterleaved2(d, x, v[0], v[1]);
  } else if (count == kFloatLanes && c == 3) {
    hn::LoadInterleaved3(d, x, v[0], v[1], v[2]);
  } else if (count == kFloatLanes && c == 4) {
    hn::LoadInterleaved4(d, x, v[0], v[1], v[2], v[3]);
  } else {
    for (std::size_t lane = 0; lane < kFloatLanes; ++lane) {
      const float* pixel = x + std::min(lane, count - 1) * c;
      for (std::size_t k = 0; k < c; ++k) planes[k * kFloatLanes + lane] = pixel[k];
    }
    return;
  }
  for (std::size_t k = 0; k < c; ++k) store(v[k], planes + k * kFloatLanes);
}

// The same from bf16, widened behind the planes first: they need room for (2 c, kFloatLanes).
inline void to_planes(const hwy::bfloat16_t* x, std::size_t count, std::size_t c, float* planes) {
  float* widened = planes + c * kFloatLanes;
  map(x, count * c, widened, [](std::size_t, FloatVector v) HWY_ATTR { return v; });
  to_planes(widened, count, c, planes);
}

// y (count, c) from the first `count` lanes.
inline void from_planes(const float* planes, std::size_t count, std::size_t c, float* y) {
  const FloatTag d;
  const auto plane = [&](std::size_t k) HWY_ATTR { return load(planes + k * kFloatLanes); };
  if (count == kFloatLanes && c == 2) {
    hn::StoreInterleaved2(plane(0), plane(1), d, y);
  } else if (count == kFloatLanes && c == 3) {
    hn::StoreInterleaved3(plane(0), plane(1), plane(2), d, y);
  } else if (count == kFloatLanes && c == 4) {
    hn::StoreInterleaved4(plane(0), plane(1), plane(2), plane(3), d, y);
  } else {
    for (std::size_t lane = 0; lane < count; ++lane) {
      for (std::size_t k = 0; k < c; ++k) y[lane * c + k] = planes[k * kFloatLanes + lane];
    }
  }
}

// In place. A pixel with a NaN, with +inf, or with nothing but -inf becomes NaN throughout.
inline void softmax_planes(std::size_t c, float* planes) {
  FloatVector largest = load(planes);
  for (std::size_t k = 1; k < c; ++k) largest = max_or_nan(largest, load(planes + k * kFloatLanes));
  FloatVector sum = hn::Zero(FloatTag());
  for (std::size_t k = 0; k < c; ++k) {
    const FloatVector e = exp_nonpositive(hn::Sub(load(planes + k * kFloatLanes), largest));
    sum = hn::Add(sum, e);
    store(e, planes + k * kFloatLanes);
  }
  for (std::size_t k = 0; k < c; ++k)
    store(hn::Div(load(planes + k * kFloatLanes), sum), planes + k * kFloatLanes);
}

// mask (count): as argmax.h says.
inline void argmax_planes(const float* planes, std::size_t count, std::size_t c,
                          std::uint8_t* mask) {
  const hn::Rebind<std::int32_t, FloatTag> i32;
  const hn::Rebind<std::uint8_t, FloatTag> u8;
  auto winner = hn::Zero(i32);
  FloatVector largest = load(planes);
  if (c == 1) {
    const auto on = hn::Gt(largest, hn::Set(FloatTag(), 0.5f));
    winner = hn::IfThenElseZero(hn::RebindMask(i32, on), hn::Set(i32, 1));
  }
  for (std::size_t k = 1; k < c; ++k) {
    const FloatVector v = load(planes + k * kFloatLanes);
    // "not <=" rather than ">": a number must also replace a NaN that came first.
    const auto wins = hn::AndNot(hn::IsNaN(v), hn::Not(hn::Le(v, largest)));
    largest = hn::IfThenElse(wins, v, largest);
    winner = hn::IfThenElse(hn::RebindMask(i32, wins), hn::Set(i32, static_cast<std::int32_t>(k)),
                            winner);
  }
  std::uint8_t ids[kFloatLanes];
  hn::StoreU(hn::DemoteTo(u8, winner), u8, ids);
  std::memcpy(mask, ids, count);
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
