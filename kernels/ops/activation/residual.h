// Where an epilogue's residual lies on a GPU: host code that operators with one share.
#pragma once

#include "kernels/ops/activation/curve.h"
#include "kernels/ops/activation/epilogue.h"

namespace tessera {

// Without its pointer, which is a run's. `map` is the residual's shape, (n, h, w, c) or of y's
// rank.
inline Residual residual_of(const Epilogue& epilogue, const Shape& map) {
  Residual residual;
  if (map.rank() == 4) {
    residual.image = map[1] * map[2], residual.pitch = map[2];
    residual.origin = epilogue.offset[0].value_or(0) * map[2] + epilogue.offset[1].value_or(0);
  } else {
    residual.image = residual.pitch = map.elements(1, map.rank() - 1);
  }
  return residual;
}

}  // namespace tessera
