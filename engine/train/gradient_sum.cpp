#include "engine/train/gradient_sum.h"

#include <algorithm>
#include <bit>
#include <iterator>

namespace tessera {

namespace {

// What every rank gives as much of, in the order of ranks.
template <class T>
std::vector<T> gather_equal(Ranks& ranks, const std::vector<T>& own) {
  std::vector<T> all(own.size() * static_cast<std::size_t>(ranks.count()));
  if (!own.empty())
    ranks.gather(std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)));
  return all;
}

}  // namespace

GradientSum::GradientSum(Gradients& gradients, Sharing& sharing, std::int64_t batches)
    : gradients_(gradients), sharing_(sharing), ranks_(sharing.ranks()) {
  for (int level = 0; level < levels(batches); ++level)
    sums_.push_back(gradients.device().allocate(gradients.all_gradients().type.bytes()));
  added_.resize(sums_.size());
  for (const Gradients::Weight& weight : gradients.weights()) {
    tensors_.push_back(weight.gradient);
    if (weight.share == 1) continue;
    statistics_.push_back({weight.value, weight.share});
    statistic_size_ += static_cast<std::size_t>(weight.value.shape().elements());
  }
}

std::int64_t GradientSum::block(std::int64_t count) const {
  const auto each = static_cast<std::uint64_t>((count + ranks_.count() - 1) / ranks_.count());
  return static_cast<std::int64_t>(std::bit_ceil(each));
}

int GradientSum::levels(std::int64_t count) const {
  return std::countr_zero(static_cast<std::uint64_t>(block(count)));
}

std::size_t GradientSum::bytes(std::int64_t count) const {
  return static_cast<std::size_t>(levels(count)) * gradients_.all_gradients().type.bytes();
}

std::int64_t GradientSum::working(std::int64_t count) const {
  return (count + block(count) - 1) / block(count);
}

TensorView GradientSum::kept(std::size_t level) const {
  return {sums_[level]->get(), gradients_.all_gradients().type};
}

std::vector<float> GradientSum::statistics() const {
  std::vector<float> values(statistic_size_);
  float* next = values.data();
  for (const auto& [value, share] : statistics_) {
    gradients_.queue().download(value.as<std::byte>(), {next, value.type});
    next += value.shape().elements();
  }
  gradients_.queue().finish();
  return values;
}

void GradientSum::set_statistics(const std::vector<float>& values) {
  const float* next = values.data();
  for (const auto& [value, share] : statistics_) {
    gradients_.queue().upload({const_cast<float*>(next), value.type}, value.as<std::byte>());
    next += value.shape().elements();
  }
}

void GradientSum::merge(const float* left, float* right, std::int64_t batches) const {
  for (const auto& [value, share] : statistics_) {
    double kept = 1;  // share to the power of `batches`, rounded alike on every machine
    double power = share;
    for (std::int64_t rest = batches; rest > 0; rest /= 2, power *= power) {
      if (rest % 2 == 1) kept *= power;
    }
    for (std::int64_t i = value.shape().elements(); i > 0; --i, ++left, ++right)
      *right = static_cast<float>(kept * *left + *right);
  }
}

std::vector<LossResult> GradientSum::run(std::int64_t count,
                                         const std::function<LossResult(std::int64_t)>& add) {
  Queue& queue = gradients_.queue();
  gradients_.clear();
  if (count == 1 && ranks_.count() == 1) return {add(0)};

  const std::int64_t block = this->block(count);
  const std::int64_t begin = std::min(count, ranks_.rank() * block);
  const std::int64_t own = std::min(count - begin, block);
  const TensorView sum = gradients_.all_gradients();
  const std::vector<float> before = statistics();
  const std::vector<float> zeros(before.size());
  std::vector<float> added = zeros;  // by the batches whose gradients `sum` has
  std::vector<LossResult> results(static_cast<std::size_t>(block));
  for (std::int64_t i = 0; i < own; ++i) {
    if (i > 0) gradients_.clear();
    if (count > 1) set_statistics(zeros);
    results[static_cast<std::size_t>(i)] = add(begin + i);
    added = statistics();
    // The blocks that end with this batch: a set bit of its number is a left half that waits. With
    // the last one all that wait are merged, from the right.
    const bool is_last = i + 1 == own;
    const auto ended = static_cast<std::size_t>(std::countr_one(static_cast<std::uint64_t>(i)));
    std::int64_t batches = 1;
    for (std::size_t level = 0; level < sums_.size() && (is_last || level < ended); ++level) {
      if ((i >> level & 1) == 0) continue;
      queue.add(sum, kept(level));
      merge(added_[level].data(), added.data(), batches);
      batches += std::int64_t{1} << level;
    }
    if (is_last) break;
    // Equal bytes: a gradient is never -0, because what is added begins with 0.
    queue.clear(sums_[ended]->get(), sum.type.bytes());
    queue.add(kept(ended), sum);
    added_[ended] = added;
  }
  if (ranks_.count() > 1) {
    const std::int64_t blocks = working(count);
    sharing_.sum(tensors_, static_cast<int>(blocks));
    results = gather_equal(ranks_, results);
    std::vector<float> all = gather_equal(ranks_, added);
    const auto of = [&](std::int64_t i) { return all.data() + i * std::ssize(added); };
    for (std::int64_t half = 1; half < blocks; half *= 2) {
      for (std::int64_t left = 0; left + half < blocks; left += 2 * half) {
        const std::int64_t end = std::min(count, (left + 2 * half) * block);
        merge(of(left), of(left + half), end - (left + half) * block);
        std::copy_n(of(left + half), added.size(), of(left));
      }
    }
    std::copy_n(of(0), added.size(), added.begin());
  }
  results.resize(static_cast<std::size_t>(count));
  if (count > 1) merge(before.data(), added.data(), count);
  set_statistics(added);
  return results;
}

}  // namespace tessera
