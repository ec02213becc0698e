// Times the word level of HAN on the CPU as the passes leave it: look-up + bidirectional RNN, then
// dense + attention.
//
//   rnn_bench [--threads N] [--sentences N] [--words N] [--runs N]
//
// One line per case: the first time (no word is known yet), then the best and the median, GFLOP/s
// by the operators' own cost, the share of the peak that a loop of fused multiply-adds reached in
// the same run, and the best time of each part. The share counts multiplications that known words
// save, so it may pass 100 %.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>

#include "engine/device/cpu/peaks.h"
#include "engine/device/machine.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/attention/attention.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/rnn/rnn.h"

namespace tessera {

namespace {

double seconds_of(const auto& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// One operator with memory of its own; weights are small normal numbers.
class Part {
 public:
  template <class Op>
  Part(const Op& op, std::vector<TensorView> inputs, int threads, std::mt19937& random)
      : inputs_(std::move(inputs)) {
    std::vector<TensorType> types;
    for (const TensorView& input : inputs_) types.push_back(input.type);
    std::normal_distribution<float> normal(0.0f, 0.08f);
    for (const Parameter& p : parameters(op, types)) {
      add(weights_, {DType::kF32, p.shape});
      std::generate_n(weights_.back().as<float>(), p.shape.elements(),
                      [&] { return normal(random); });
    }
    for (const TensorType& type : infer(op, types)) add(outputs_, type);
    flops_ = cost(op, types).flops;
    step_ = cpu(op, {"bench", types, weights_, threads, &packed_});
    scratch_ = AlignedBuffer(step_.scratch_bytes);
  }

  double run() {
    return seconds_of([&] { step_.run({inputs_, weights_, outputs_}, scratch_.get()); });
  }
  const TensorView& output() const { return outputs_[0]; }
  double flops() const { return flops_; }

 private:
  void add(std::vector<TensorView>& list, const TensorType& type) {
    memory_.emplace_back(type.bytes());
    list.emplace_back(memory_.back().get(), type);
  }

  std::vector<AlignedBuffer> memory_;
  std::vector<TensorView> inputs_, weights_, outputs_;
  PackedWeights packed_;
  Step step_;
  AlignedBuffer scratch_;
  double flops_ = 0;
};

constexpr int kVocabulary = 20'000;

// Ids of equal frequency, or of a frequency that falls as 1 / rank (Zipf), as that of words does.
std::vector<std::int32_t> make_ids(std::int64_t count, bool zipf, std::mt19937& random) {
  std::vector<double> weight(kVocabulary);
  for (int i = 0; i < kVocabulary; ++i)
    weight[static_cast<std::size_t>(i)] = zipf ? 1.0 / (i + 1) : 1;
  std::discrete_distribution<std::int32_t> word(weight.begin(), weight.end());
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (std::int32_t& id : ids) id = word(random);
  return ids;
}

struct Case {
  const char* name;
  BiRnn::Cell cell;
  int units, dense;  // dense 0: none
  bool masked, zipf;
};

void run_case(const Case& c, std::int64_t sentences, std::int64_t words, int threads, int runs,
              double peak) {
  std::mt19937 random(7);
  std::vector<std::int32_t> ids = make_ids(sentences * words, c.zipf, random);
  std::vector<std::int32_t> lengths(static_cast<std::size_t>(sentences));
  std::uniform_int_distribution<std::int32_t> length(1, static_cast<std::int32_t>(words));
  for (std::int32_t& l : lengths) l = length(random);
  std::vector<TensorView> input{{ids.data(), {DType::kI32, {sentences, words}}}};
  const TensorView mask{lengths.data(), {DType::kI32, {sentences}}};
  if (c.masked) input.push_back(mask);

  std::vector<std::unique_ptr<Part>> parts;
  const BiRnn rnn{.cell = c.cell,
                  .units = c.units,
                  .masked = c.masked,
                  .embedding = Embedding{.words = kVocabulary, .features = 100}};
  parts.push_back(std::make_unique<Part>(rnn, input, threads, random));
  std::vector<TensorView> pooled{parts.back()->output()};
  if (c.masked) pooled.push_back(mask);
  Attention attention{.units = 2 * c.units, .masked = c.masked};
  if (c.dense > 0) {
    attention.dense = Linear{.units = c.dense};
    attention.units = c.dense;
  }
  parts.push_back(std::make_unique<Part>(attention, pooled, threads, random));

  std::vector<double> totals, best(parts.size(), INFINITY);
  for (int i = 0; i < runs; ++i) {
    double total = 0;
    for (std::size_t p = 0; p < parts.size(); ++p) {
      const double seconds = parts[p]->run();
      best[p] = std::min(best[p], seconds);
      total += seconds;
    }
    totals.push_back(total);
  }
  const double first = totals.front();
  std::sort(totals.begin(), totals.end());
  double flops = 0;
  for (const auto& part : parts) flops += part->flops();
  const double rate = flops / totals.front();
  fmt::print(
      "{:<24} first {:6.2f} ms  best {:6.2f} ms  median {:6.2f} ms  {:6.1f} GFLOP/s  {:5.1f} % of "
      "peak  |  rnn {:.2f}  attention {:.2f} ms\n",
      c.name, 1e3 * first, 1e3 * totals.front(), 1e3 * totals[totals.size() / 2], 1e-9 * rate,
      100 * rate / peak, 1e3 * best[0], 1e3 * best[1]);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  using namespace tessera;
  CLI::App app("Times the word level of HAN on the CPU");
  int threads = default_threads(), runs = 30;
  std::int64_t sentences = 64, words = 150;
  app.add_option("--threads", threads, "threads")->check(CLI::PositiveNumber);
  app.add_option("--sentences", sentences, "sentences")->check(CLI::PositiveNumber);
  app.add_option("--words", words, "words of a sentence")->check(CLI::PositiveNumber);
  app.add_option("--runs", runs, "runs of each case")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);

  const double peak = measure_cpu_peaks(threads).f32;
  fmt::print("peak of fused multiply-adds: {:.1f} GFLOP/s on {} threads; {} sentences x {} words\n",
             1e-9 * peak, threads, sentences, words);
  using Cell = BiRnn::Cell;
  for (const Case& c : {Case{"LSTM 150, random ids", Cell::kLstm, 150, 200, false, false},
                        Case{"LSTM 150, Zipf ids", Cell::kLstm, 150, 200, false, true},
                        Case{"LSTM 150, Zipf, ragged", Cell::kLstm, 150, 200, true, true},
                        Case{"GRU 50, random ids", Cell::kGru, 50, 0, false, false},
                        Case{"GRU 50, Zipf ids", Cell::kGru, 50, 0, false, true},
                        Case{"GRU 50, Zipf, ragged", Cell::kGru, 50, 0, true, true}})
    run_case(c, sentences, words, threads, runs, peak);
  return 0;
}
