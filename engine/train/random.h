// Random numbers that are a pure function of (seed, stream, position): Philox4x32-10 (Salmon,
// Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
//   Random random(seed, stream_of("elastic", sample));  // one stream per sample, tensor, epoch ...
//   double angle = random.uniform(-1, 1);
//
// Nothing is shared between streams, so that work may be split over threads in any way and still
// draw the same numbers; and a run that goes on after an interruption needs to keep no state but
// the counts that name its streams, or state() of a stream that it was in the middle of.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tessera {

// One block of four 32-bit numbers for a 128-bit counter and a 64-bit key.
inline std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                           std::array<std::uint32_t, 2> key) {
  // The published multipliers and Weyl increments.
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t a = kMultiplier0 * counter[0], b = kMultiplier1 * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// A stream for a purpose ("epoch", a tensor's name) and a number within it (epoch, sample): the
// 64-bit FNV-1a hash of both, finished as SplitMix64 does. Two purposes share a stream with a
// probability of 2^-64.
inline std::uint64_t stream_of(std::string_view purpose, std::uint64_t number = 0) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](std::uint64_t byte) { hash = (hash ^ byte) * 0x100000001b3; };
  for (const char c : purpose) add(static_cast<unsigned char>(c));
  for (int i = 0; i < 8; ++i) add((number >> (8 * i)) & 0xff);
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  return hash ^ (hash >> 31);
}

// The numbers of one stream, in order. Cheap to make; 2^66 numbers long.
class Random {
 public:
  // All that there is to save, and enough to go on.
  struct State {
    std::uint64_t seed = 0;
    std::uint64_t stream = 0;
    std::uint64_t position = 0;  // numbers of 32 bits drawn so far

    bool operator==(const State&) const = default;
  };

  explicit Random(std::uint64_t seed, std::uint64_t stream = 0) : Random(State{seed, stream, 0}) {}
  explicit Random(const State& state) : state_(state) {
    if (state.position % kBlock != 0) block_ = block(state.position / kBlock);
  }

  const State& state() const { return state_; }

  std::uint32_t next() {
    const std::size_t lane = state_.position % kBlock;
    if (lane == 0) block_ = block(state_.position / kBlock);
    ++state_.position;
    return block_[lane];
  }

  // In [0, 1), a multiple of 2^-53.
  double uniform() {
    const std::uint32_t high = next();
    return unit(high, next());
  }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  // In [0, n), without bias; 1 <= n < 2^32.
  std::int64_t below(std::int64_t n) {
    const auto range = static_cast<std::uint32_t>(n);
    const std::uint32_t surplus = (0u - range) % range;  // 2^32 mod n: these would come once more
    std::uint32_t value = next();
    while (value < surplus) value = next();
    return value % range;
  }

  bool chance(double probability) { return uniform() < probability; }

  // Of mean 0 and deviation 1 (Box and Muller).
  double normal() {
    const double radius = uniform();
    return normals(radius, uniform()).first;
  }

  // Two uniforms or two normals from the stream's block `index` alone, without drawing: for loops
  // that run in parallel.
  std::pair<double, double> uniforms_at(std::uint64_t index) const {
    const std::array<std::uint32_t, 4> words = block(index);
    return {unit(words[0], words[1]), unit(words[2], words[3])};
  }
  std::pair<double, double> normals_at(std::uint64_t index) const {
    const auto [radius, angle] = uniforms_at(index);
    return normals(radius, angle);
  }

  template <class T>
  void shuffle(std::span<T> values) {
    for (std::size_t i = values.size(); i > 1; --i) {
      const auto j = static_cast<std::size_t>(below(static_cast<std::int64_t>(i)));
      std::swap(values[i - 1], values[j]);
    }
  }
  template <class T>
  void shuffle(std::vector<T>& values) {
    shuffle(std::span<T>(values));
  }

 private:
  static constexpr std::size_t kBlock = 4;

  std::array<std::uint32_t, kBlock> block(std::uint64_t index) const {
    const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
    return philox({low(index), low(index >> 32), low(state_.stream), low(state_.stream >> 32)},
                  {low(state_.seed), low(state_.seed >> 32)});
  }

  static double unit(std::uint64_t high, std::uint64_t low) {
    return static_cast<double>((high >> 5) << 26 | low >> 6) * 0x1p-53;
  }

  static std::pair<double, double> normals(double radius, double angle) {
    const double length = std::sqrt(-2 * std::log1p(-radius));
    const double turn = 2 * std::numbers::pi * angle;
    return {length * std::cos(turn), length * std::sin(turn)};
  }

  State state_;
  std::array<std::uint32_t, kBlock> block_{};
};

}  // namespace tessera
