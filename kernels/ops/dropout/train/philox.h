// Philox4x32-10, the counter-based generator of Salmon et al. 2011 (Random123): four random words
// are a function of a key and a counter, so any thread can make any of them.
#pragma once

#include <array>
#include <cstdint>

#if defined(__CUDACC__)
#define TESSERA_HOST_DEVICE __host__ __device__
#else
#define TESSERA_HOST_DEVICE
#endif

namespace tessera {

TESSERA_HOST_DEVICE inline void philox(std::uint64_t key, std::uint64_t counter_high,
                                       std::uint64_t counter_low, std::uint32_t (&words)[4]) {
  constexpr std::uint32_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
  constexpr std::uint32_t kAdd0 = 0x9E3779B9, kAdd1 = 0xBB67AE85;
  constexpr int kRounds = 10, kHalf = 32;
  auto c0 = static_cast<std::uint32_t>(counter_low);
  auto c1 = static_cast<std::uint32_t>(counter_low >> kHalf);
  auto c2 = static_cast<std::uint32_t>(counter_high);
  auto c3 = static_cast<std::uint32_t>(counter_high >> kHalf);
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> kHalf);
  for (int round = 0; round < kRounds; ++round, k0 += kAdd0, k1 += kAdd1) {
    const std::uint64_t product0 = std::uint64_t{kMultiply0} * c0;
    const std::uint64_t product1 = std::uint64_t{kMultiply1} * c2;
    c0 = static_cast<std::uint32_t>(product1 >> kHalf) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> kHalf) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(product0);
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

// The same on the host.
inline std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter_high,
                                           std::uint64_t counter_low) {
  std::uint32_t words[4];
  philox(key, counter_high, counter_low, words);
  return {words[0], words[1], words[2], words[3]};
}

}  // namespace tessera
