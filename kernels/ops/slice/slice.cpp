#include "kernels/ops/slice/slice.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "kernels/axes.h"
#include "kernels/check.h"

namespace tessera {

namespace {

// What entry `i` takes of an axis of `extent` elements; a count below 1 where that is nothing.
SliceSpan span_of(const Slice& op, std::size_t i, std::int64_t extent) {
  const std::int64_t step = op.steps.empty() ? 1 : op.steps[i];
  require(step != 0, "slice takes steps other than 0, but got 0 for axis {}",
          op.axes.empty() ? static_cast<int>(i) : op.axes[i]);
  // Backward, the last place to stop is before element 0.
  const std::int64_t least = step > 0 ? 0 : -1, most = step > 0 ? extent : extent - 1;
  const auto place = [&](std::int64_t at) {
    return std::clamp(at < 0 ? at + extent : at, least, most);
  };
  const std::int64_t start = place(op.starts[i]), end = place(op.ends[i]);
  const std::int64_t length = step > 0 ? end - start : start - end, stride = std::abs(step);
  return {start, step, length > 0 ? (length + stride - 1) / stride : 0};
}

// The entry that takes of `axis` of an image, or none.
std::optional<std::size_t> entry_of(const Slice& op, int axis) {
  constexpr int kImageRank = 4;
  for (std::size_t i = 0; i < op.starts.size(); ++i) {
    const int named = op.axes.empty() ? static_cast<int>(i) : op.axes[i];
    if (named == axis || named == axis - kImageRank) return i;
  }
  return std::nullopt;
}

}  // namespace

std::vector<SliceSpan> slice_spans(const Slice& op, const TensorType& x) {
  require_elements("slice", x);
  const std::size_t count = op.starts.size();
  require(op.ends.size() == count && (op.axes.empty() || op.axes.size() == count) &&
              (op.steps.empty() || op.steps.size() == count) &&
              count <= static_cast<std::size_t>(x.shape.rank()),
          "slice takes a start, end, axis and step for each axis of {}, but got {}, {}, {} and {}",
          x, count, op.ends.size(), op.axes.size(), op.steps.size());
  std::vector<SliceSpan> spans;
  for (const std::int64_t extent : x.shape.dims()) spans.push_back({0, 1, extent});
  for (std::size_t i = 0; i < count; ++i) {
    const int axis =
        axis_of("slice", op.axes.empty() ? static_cast<int>(i) : op.axes[i], x.shape.rank());
    const std::int64_t extent = x.shape[axis];
    const SliceSpan span = span_of(op, i, extent);
    require(span.count > 0, "slice: from {} to {} in steps of {} nothing is left of axis {} of {}",
            op.starts[i], op.ends[i], span.step, axis, x);
    spans[static_cast<std::size_t>(axis)] = span;
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

Extent extent(const Slice& op, const Along& along, std::span<const Interval> wanted) {
  const std::optional<std::size_t> entry = entry_of(op, along.axis);
  if (!entry) return elementwise_extent(along, wanted);
  const SliceSpan span = span_of(op, *entry, along.inputs[0]);
  if (span.step < 0) return global_extent(along);
  const Interval y = wanted[0];
  return {{y}, {{span.start + y.begin * span.step, span.start + (y.end - 1) * span.step + 1}}};
}

Slice part(const Slice& op, const Along& along, Extent& piece) {
  const std::optional<std::size_t> entry = entry_of(op, along.axis);
  if (!entry) {
    take_all(piece);
    return op;
  }
  const SliceSpan span = span_of(op, *entry, along.inputs[0]);
  if (span.step < 0) return op;
  Slice result = op;
  const Interval y = piece.outputs[0], x = piece.inputs[0];
  result.starts[*entry] = static_cast<int>(span.start + y.begin * span.step - x.begin);
  result.ends[*entry] = static_cast<int>(span.start + (y.end - 1) * span.step + 1 - x.begin);
  return result;
}

}  // namespace tessera
