#include "kernels/ops/slice/slice.h"

#include <algorithm>

#include "kernels/axes.h"
#include "kernels/check.h"

namespace tessera {

std::vector<SliceSpan> slice_spans(const Slice& op, const TensorType& x) {
  require_elements("slice", x);
  const std::size_t count = op.starts.size();
  require(op.ends.size() == count && (op.axes.empty() || op.axes.size() == count) &&
              (op.steps.empty() || op.steps.size() == count) &&
              count <= static_cast<std::size_t>(x.shape.rank()),
          "slice takes a start, end, axis and step for each axis of {}, but got {}, {}, {} and {}",
          x.to_string(), count, op.ends.size(), op.axes.size(), op.steps.size());
  std::vector<SliceSpan> spans;
  for (const std::int64_t extent : x.shape.dims()) spans.push_back({0, 1, extent});
  for (std::size_t i = 0; i < count; ++i) {
    const int axis =
        axis_of("slice", op.axes.empty() ? static_cast<int>(i) : op.axes[i], x.shape.rank());
    const std::int64_t extent = x.shape[axis], step = op.steps.empty() ? 1 : op.steps[i];
    require(step != 0, "slice takes steps other than 0, but got 0 for axis {}", axis);
    // Backward, the last place to stop is before element 0.
    const std::int64_t least = step > 0 ? 0 : -1, most = step > 0 ? extent : extent - 1;
    const auto place = [&](std::int64_t at) {
      return std::clamp(at < 0 ? at + extent : at, least, most);
    };
    const std::int64_t start = place(op.starts[i]), end = place(op.ends[i]);
    const std::int64_t length = step > 0 ? end - start : start - end, stride = std::abs(step);
    require(length > 0, "slice: from {} to {} in steps of {} nothing is left of axis {} of {}",
            op.starts[i], op.ends[i], step, axis, x.to_string());
    spans[static_cast<std::size_t>(axis)] = {start, step, (length + stride - 1) / stride};
  }
  return spans;
}

std::vector<TensorType> infer(const Slice& op, Types inputs) {
  require_inputs("slice", inputs, 1);
  TensorType y = inputs[0];
  int axis = 0;
  for (const SliceSpan& span : slice_spans(op, inputs[0])) y.shape[axis++] = span.count;
  return {y};
}

std::vector<Parameter> parameters(const Slice&, Types) {
  return {};
}

Cost cost(const Slice& op, Types inputs) {
  return {0, 2 * static_cast<double>(infer(op, inputs)[0].bytes())};
}

}  // namespace tessera
