// Pyramids: one picture in several sizes.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tessera {

struct PyramidLevel {
  int64_t height = 0;
  int64_t width = 0;
};

// How many times a picture is halved, both sides rounded up, until it fits `tile` x `tile`.
int64_t halvings(int64_t height, int64_t width, int64_t tile);

// "0: 4000 x 3000, 1: 2000 x 1500".
std::string describe_levels(std::span<const PyramidLevel> levels);

// Throws Error unless every level has the first one's shape, as near as rounding up or down at each
// halving comes to it, and each is smaller than the one before.
void require_one_picture(std::span<const PyramidLevel> levels);

}  // namespace tessera
