// One pass over the arrays; memory bounds it: 12 bytes per weight for SGD, 20 with momentum, 28 for
// Adam, at 3 to 15 operations.
#include "kernels/train/optimiser/update.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/train/optimiser/update.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// body(offset, load, store) for whole vectors, then for the rest with partial loads and stores.
template <class Body>
HWY_INLINE void for_vectors(std::size_t count, const Body& body) {
  std::size_t i = 0;
  for (; i + kFloatLanes <= count; i += kFloatLanes) {
    body(
        i, [](const float* p) HWY_ATTR { return load(p); },
        [](FloatVector v, float* p) HWY_ATTR { store(v, p); });
  }
  if (i < count) {
    const std::size_t rest = count - i;
    body(
        i, [rest](const float* p) HWY_ATTR { return load_first(p, rest); },
        [rest](FloatVector v, float* p) HWY_ATTR { store_first(v, p, rest); });
  }
}

void sgd(const SgdUpdate& update, float* weight, const float* gradient, float* velocity,
         std::size_t count) {
  const FloatTag d;
  const FloatVector scale = hn::Set(d, update.gradient_scale), decay = hn::Set(d, update.decay),
                    momentum = hn::Set(d, update.momentum), rate = hn::Set(d, update.rate);
  for_vectors(count, [&](std::size_t i, const auto& get, const auto& put) HWY_ATTR {
    const FloatVector w = get(weight + i);
    FloatVector g = hn::MulAdd(decay, w, hn::Mul(scale, get(gradient + i)));
    if (update.momentum != 0) {
      const FloatVector v = hn::MulAdd(momentum, get(velocity + i), g);
      put(v, velocity + i);
      g = update.nesterov ? hn::MulAdd(momentum, v, g) : v;
    }
    put(hn::NegMulAdd(rate, g, w), weight + i);
  });
}

void adam(const AdamUpdate& update, float* weight, const float* gradient, float* mean,
          float* square, std::size_t count) {
  const FloatTag d;
  const FloatVector scale = hn::Set(d, update.gradient_scale), decay = hn::Set(d, update.decay),
                    weight_scale = hn::Set(d, update.weight_scale),
                    beta1 = hn::Set(d, update.beta1), beta2 = hn::Set(d, update.beta2),
                    one_minus_beta1 = hn::Set(d, update.one_minus_beta1),
                    one_minus_beta2 = hn::Set(d, update.one_minus_beta2),
                    step_size = hn::Set(d, update.step_size),
                    root_correction = hn::Set(d, update.root_correction),
                    eps = hn::Set(d, update.eps);
  for_vectors(count, [&](std::size_t i, const auto& get, const auto& put) HWY_ATTR {
    const FloatVector old = get(weight + i);
    const FloatVector g = hn::MulAdd(decay, old, hn::Mul(scale, get(gradient + i)));
    const FloatVector m = hn::MulAdd(beta1, get(mean + i), hn::Mul(one_minus_beta1, g));
    const FloatVector s =
        hn::MulAdd(beta2, get(square + i), hn::Mul(one_minus_beta2, hn::Mul(g, g)));
    put(m, mean + i);
    put(s, square + i);
    const FloatVector denominator = hn::Add(hn::Div(hn::Sqrt(s), root_correction), eps);
    const FloatVector w = hn::Mul(weight_scale, old);
    put(hn::NegMulAdd(step_size, hn::Div(m, denominator), w), weight + i);
  });
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {

HWY_EXPORT(sgd);
HWY_EXPORT(adam);

void update_sgd(const SgdUpdate& update, float* weight, const float* gradient, float* velocity,
                std::size_t count) {
  HWY_DYNAMIC_DISPATCH(sgd)(update, weight, gradient, velocity, count);
}

void update_adam(const AdamUpdate& update, float* weight, const float* gradient, float* mean,
                 float* square, std::size_t count) {
  HWY_DYNAMIC_DISPATCH(adam)(update, weight, gradient, mean, square, count);
}

double sum_of_squares(const float* values, std::size_t count) {
  constexpr std::size_t kParts = 8;
  double parts[kParts] = {};
  std::size_t i = 0;
  for (; i + kParts <= count; i += kParts) {
    for (std::size_t j = 0; j < kParts; ++j) {
      const double value = values[i + j];
      parts[j] += value * value;  // the square of an f32 is exact in double
    }
  }
  for (std::size_t j = 0; i + j < count; ++j) {
    const double value = values[i + j];
    parts[j] += value * value;
  }
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum;
}

}  // namespace tessera
#endif
