// The weight of every pixel in the loss (Ronneberger et al. 2015, eq. 2):
//   w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))
// w_c balances the classes; the second term makes the network learn the thin gaps between cells.
// d1 and d2 are the distances from x to the nearest and the second nearest cell.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera {

struct BorderWeight {
  double w0 = 10;    // 0: no second term
  double sigma = 5;  // pixels
};

// Squared distances, in pixels between centres, from each background pixel (id 0) to the nearest
// and the second nearest object: exact up to `radius` pixels, kFar beyond it, 0 inside objects.
// One distance transform (Felzenszwalb & Huttenlocher, "Distance transforms of sampled functions",
// 2012) per object, in its bounding box and `radius` around it.
struct NearestObjects {
  static constexpr std::int64_t kFar = INT64_MAX;
  std::vector<std::int64_t> first, second;  // (height, width)
};
NearestObjects nearest_objects(std::span<const std::uint32_t> objects, std::int64_t height,
                               std::int64_t width, std::int64_t radius);

// How far objects have a say in the second term, in pixels.
std::int64_t reach_of(const BorderWeight& border);

// The second term of w for object ids (height, width), 0 = background. Objects themselves get 0:
// the term is there for the background that keeps cells apart, and inside a cell d1 would be the
// distance to the cell itself. Distances are followed until the term is below w0 / 10^7.
// Throws Error for a wrong size, a negative w0, or a sigma that is not above 0.
std::vector<float> border_weights(std::span<const std::uint32_t> objects, std::int64_t height,
                                  std::int64_t width, const BorderWeight& border);

// w_c of each class: pixels / (classes * pixels of the class), so that every class weighs as much
// as any other in sum and the mean over the pixels is 1. A class without pixels gets 0.
std::vector<float> balanced_class_weights(std::span<const std::int64_t> class_pixels);

}  // namespace tessera
