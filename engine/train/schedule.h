// Learning rate schedules: a factor of the base rate as a pure function of the optimiser step, so
// that a resumed run needs nothing but the step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace tessera {

struct Schedule {
  enum class Kind : std::uint8_t { kConstant, kCosine, kStep };
  Kind kind = Kind::kConstant;

  // Steps over which the factor rises in equal parts, 1 / (warmup_steps + 1) at step 0 (Goyal et
  // al. 2017, section 2.2); the kinds below begin behind them.
  std::int64_t warmup_steps = 0;

  // kCosine: from 1 down to `final_factor` at `total_steps`, half a period (Loshchilov & Hutter
  // 2017, eq. 5, without restarts; PyTorch's CosineAnnealingLR), and constant from there.
  std::int64_t total_steps = 0;
  double final_factor = 0;

  // kStep: multiplied by `gamma` after each `step_size` steps (PyTorch's StepLR).
  std::int64_t step_size = 1;
  double gamma = 0.1;

  bool operator==(const Schedule&) const = default;
};

// The factor for `step`, counted from 0.
inline double rate_factor(const Schedule& schedule, std::int64_t step) {
  if (step < schedule.warmup_steps) {
    return static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps + 1);
  }
  const std::int64_t since = step - schedule.warmup_steps;
  switch (schedule.kind) {
    case Schedule::Kind::kConstant:
      return 1;
    case Schedule::Kind::kCosine: {
      const std::int64_t length = schedule.total_steps - schedule.warmup_steps;
      if (since >= length) return schedule.final_factor;
      const double part = static_cast<double>(since) / static_cast<double>(length);
      return schedule.final_factor +
             (1 - schedule.final_factor) * (1 + std::cos(std::numbers::pi * part)) / 2;
    }
    case Schedule::Kind::kStep:
      return std::pow(schedule.gamma,
                      static_cast<double>(since / std::max<std::int64_t>(1, schedule.step_size)));
  }
  return 1;
}

}  // namespace tessera
