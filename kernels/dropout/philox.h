// Philox4x32-10, the counter-based generator of Salmon et al. 2011 (Random123): four random words
// are a function of a key and a counter, so any thread can make any of them.
#pragma once

#include <array>
#include <cstdint>

namespace tessera {

inline std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter_high,
                                           std::uint64_t counter_low) {
  constexpr std::uint32_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
  constexpr std::uint32_t kAdd0 = 0x9E3779B9, kAdd1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  std::array<std::uint32_t, 4> c{low(counter_low), high(counter_low), low(counter_high),
                                 high(counter_high)};
  std::uint32_t k0 = low(key), k1 = high(key);
  for (int round = 0; round < kRounds; ++round, k0 += kAdd0, k1 += kAdd1) {
    const std::uint64_t product0 = std::uint64_t{kMultiply0} * c[0];
    const std::uint64_t product1 = std::uint64_t{kMultiply1} * c[2];
    c = {high(product1) ^ c[1] ^ k0, low(product1), high(product0) ^ c[3] ^ k1, low(product0)};
  }
  return c;
}

}  // namespace tessera
