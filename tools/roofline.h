// What this machine can do at most, measured: the two lines of a roofline.
#pragma once

#include <string_view>

namespace tessera {

struct Roofline {
  double f32 = 0;        // FLOP/s of fused multiply-adds in registers
  double bf16 = 0;       // FLOP/s of bf16 dot products; 0 where the processor has none
  double bandwidth = 0;  // bytes/s of a triad a = b + s * c in memory, all three streams counted

  // The FLOP/s that a run in this precision ("fp32", "bf16") is measured against.
  double peak(std::string_view precision) const {
    return precision == "bf16" && bf16 > 0 ? bf16 : f32;
  }
};

// Takes about half a second and 192 MiB, both given back.
Roofline measure_roofline(int threads);

}  // namespace tessera
