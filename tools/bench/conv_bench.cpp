// conv_bench [threads] [repetitions]: the convolutions of the paper's UNet at 572x572, one by one.
//
// Each line gives the time of Winograd (f32), direct (f32), direct (bf16) and oneDNN's direct f32
// convolution (channels last), GFLOP/s counted as if all were direct, their share of the peak that
// a loop of fused multiply-adds reaches in the same run (above 100% is Winograd's saving of
// products), and Winograd's speed over oneDNN's. The best of the repetitions counts; the candidates
// take turns, so that a disturbance hits all of them.
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <dnnl.hpp>
#include <functional>
#include <limits>
#include <vector>

#include "engine/device/cpu/peaks.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/conv/conv.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"

namespace tessera {

namespace {

struct Layer {
  const char* name;
  std::int64_t side, c_in, c_out;
  bool pool = false;
  std::int64_t skip = 0;  // side of the skip whose crop is the first half of c_in; 0: one source
};

constexpr Layer kLayers[] = {
    {"down1/conv1", 572, 1, 64},
    {"down1/conv2", 570, 64, 64, true},
    {"down2/conv1", 284, 64, 128},
    {"down2/conv2", 282, 128, 128, true},
    {"down3/conv1", 140, 128, 256},
    {"down3/conv2", 138, 256, 256, true},
    {"down4/conv1", 68, 256, 512},
    {"down4/conv2", 66, 512, 512, true},
    {"bottom/conv1", 32, 512, 1024},
    {"bottom/conv2", 30, 1024, 1024},
    {"up4/conv1", 56, 1024, 512, false, 64},
    {"up4/conv2", 54, 512, 512},
    {"up3/conv1", 104, 512, 256, false, 136},
    {"up3/conv2", 102, 256, 256},
    {"up2/conv1", 200, 256, 128, false, 280},
    {"up2/conv2", 198, 128, 128},
    {"up1/conv1", 392, 128, 64, false, 568},
    {"up1/conv2", 390, 64, 64},
};

struct UpLayer {
  const char* name;
  std::int64_t side, c_in, c_out;
};

constexpr UpLayer kUpLayers[] = {{"up4/up", 28, 1024, 512},
                                 {"up3/up", 52, 512, 256},
                                 {"up2/up", 100, 256, 128},
                                 {"up1/up", 196, 128, 64}};

// Memory of a tensor, filled with small numbers of either type.
struct Tensor {
  TensorType type;
  AlignedBuffer memory;

  explicit Tensor(TensorType t) : type(t), memory(t.bytes()) {
    const std::size_t width = size_of(type.dtype);
    for (std::size_t i = 0; i < type.bytes() / width; ++i) {
      const float value = static_cast<float>(i % 13) * 0.0625f - 0.375f;
      // The upper half of a short f32 is its bf16.
      std::memcpy(memory.get() + i * width,
                  reinterpret_cast<const std::byte*>(&value) + sizeof(float) - width, width);
    }
  }
  TensorView view() const { return {memory.get(), type}; }
};

// An operator with all it needs to run.
template <class Op>
class Runner {
 public:
  Runner(const Op& op, std::vector<TensorType> inputs, int threads) {
    for (const TensorType& type : inputs) inputs_.emplace_back(type);
    for (const Parameter& p : parameters(op, inputs))
      weights_.emplace_back(TensorType{DType::kF32, p.shape});
    for (const TensorType& type : infer(op, inputs)) outputs_.emplace_back(type);
    for (const Tensor& t : weights_) weight_views_.push_back(t.view());
    for (const Tensor& t : inputs_) input_views_.push_back(t.view());
    for (const Tensor& t : outputs_) output_views_.push_back(t.view());
    step_ = cpu(op, {"layer", inputs, weight_views_, threads, &packed_});
    scratch_ = AlignedBuffer(step_.scratch_bytes);
  }
  void operator()() const {
    step_.run({input_views_, weight_views_, output_views_}, scratch_.get());
  }

 private:
  std::vector<Tensor> inputs_, weights_, outputs_;
  std::vector<TensorView> input_views_, weight_views_, output_views_;
  PackedWeights packed_;
  Step step_;
  AlignedBuffer scratch_;
};

class OneDnn {
 public:
  explicit OneDnn(const Layer& l) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Desc = dnnl::memory::desc;
    using Tag = dnnl::memory::format_tag;
    const auto f32 = dnnl::memory::data_type::f32;
    const std::int64_t out = l.side - 2;
    const Desc x({1, l.c_in, l.side, l.side}, f32, Tag::nhwc),
        y({1, l.c_out, out, out}, f32, Tag::nhwc);
    const Desc w({l.c_out, l.c_in, 3, 3}, f32, Tag::any), b({l.c_out}, f32, Tag::any);
    const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_inference,
                                               dnnl::algorithm::convolution_direct, x, w, b, y,
                                               {1, 1}, {0, 0}, {0, 0});
    dnnl::post_ops post;
    post.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(post);
    const dnnl::convolution_forward::primitive_desc primitive(desc, attributes, engine_);
    convolution_ = dnnl::convolution_forward(primitive);
    const auto add = [&](int argument, const Desc& d) {
      dnnl::memory memory(d, engine_);
      std::memset(memory.get_data_handle(), 0, d.get_size());
      arguments_[argument] = memory;
    };
    add(DNNL_ARG_SRC, primitive.src_desc());
    add(DNNL_ARG_WEIGHTS, primitive.weights_desc());
    add(DNNL_ARG_BIAS, primitive.bias_desc());
    add(DNNL_ARG_DST, primitive.dst_desc());
  }
  void operator()() {
    convolution_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::convolution_forward convolution_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

double seconds(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Best time of each candidate; they take turns.
std::vector<double> best_of(int repetitions, const std::vector<std::function<void()>>& candidates) {
  std::vector<double> best(candidates.size(), std::numeric_limits<double>::infinity());
  for (int r = 0; r < repetitions; ++r) {
    for (std::size_t i = 0; i < candidates.size(); ++i)
      best[i] = std::min(best[i], seconds(candidates[i]));
  }
  return best;
}

std::string cell(double time, double gflop, double peak) {
  return fmt::format("{:8.2f} ms {:6.0f} {:4.0f}%", time * 1e3, gflop / time,
                     100 * gflop / time / peak);
}

void run(int threads, int repetitions) {
  omp_set_num_threads(threads);  // what oneDNN goes by
  const double peak = measure_cpu_peaks(threads).f32 * 1e-9;
  fmt::print("{} threads, peak {:.0f} GFLOP/s f32\n", threads, peak);
  fmt::print("{:13} {:>18} {:>7} {:>22} {:>22} {:>22} {:>22} {:>9}\n", "layer", "shape", "GFLOP",
             "Winograd f32", "direct f32", "direct bf16", "oneDNN f32", "x oneDNN");
  double ours = 0, direct = 0, bf16 = 0, theirs = 0, gflops = 0;
  for (const Layer& l : kLayers) {
    const auto inputs = [&](DType dtype) {
      std::vector<TensorType> types;
      const std::int64_t c = l.skip > 0 ? l.c_in / 2 : l.c_in;
      if (l.skip > 0) types.push_back({dtype, {1, l.skip, l.skip, c}});
      types.push_back({dtype, {1, l.side, l.side, c}});
      return types;
    };
    Conv op{.c_out = static_cast<int>(l.c_out), .relu = true, .pool = l.pool};
    if (l.skip > 0) op.concat = CropConcat{};
    const Runner<Conv> direct_f32(op, inputs(DType::kF32), threads);
    op.dtype = DType::kBF16;
    const Runner<Conv> direct_bf16(op, inputs(DType::kBF16), threads);
    op.dtype = DType::kF32;
    op.technique = Conv::Technique::kWinograd;
    const Runner<Conv> winograd(op, inputs(DType::kF32), threads);
    OneDnn onednn(l);
    const double gflop = cost(op, inputs(DType::kF32)).flops * 1e-9;
    const auto best = best_of(repetitions, {std::cref(winograd), std::cref(direct_f32),
                                            std::cref(direct_bf16), std::ref(onednn)});
    ours += std::min(best[0], best[1]), direct += best[1], bf16 += best[2], theirs += best[3];
    gflops += gflop;
    fmt::print("{:13} {:>18} {:7.2f} {:>22} {:>22} {:>22} {:>22} {:9.2f}\n", l.name,
               fmt::format("{}->{} @{}", l.c_in, l.c_out, l.side), gflop,
               cell(best[0], gflop, peak), cell(best[1], gflop, peak), cell(best[2], gflop, peak),
               cell(best[3], gflop, peak), best[3] / best[0]);
    std::fflush(stdout);
  }
  for (const UpLayer& l : kUpLayers) {
    ConvTranspose op{.c_out = static_cast<int>(l.c_out)};
    const Runner<ConvTranspose> f32(op, {{DType::kF32, {1, l.side, l.side, l.c_in}}}, threads);
    op.dtype = DType::kBF16;
    const Runner<ConvTranspose> low(op, {{DType::kBF16, {1, l.side, l.side, l.c_in}}}, threads);
    const std::vector<TensorType> x{{DType::kF32, {1, l.side, l.side, l.c_in}}};
    const double gflop = cost(op, x).flops * 1e-9;
    const auto best = best_of(repetitions, {std::cref(f32), std::cref(low)});
    ours += best[0], direct += best[0], bf16 += best[1], gflops += gflop;
    fmt::print("{:13} {:>18} {:7.2f} {:>22} {:>22} {:>22}\n", l.name,
               fmt::format("{}->{} @{}", l.c_in, l.c_out, l.side), gflop, "",
               cell(best[0], gflop, peak), cell(best[1], gflop, peak));
  }
  fmt::print(
      "all {:.1f} GFLOP: best of ours f32 {:.0f} ms, direct f32 {:.0f} ms, bf16 {:.0f} ms; oneDNN "
      "f32 "
      "without the up-convolutions {:.0f} ms\n",
      gflops, ours * 1e3, direct * 1e3, bf16 * 1e3, theirs * 1e3);
}

}  // namespace
}  // namespace tessera

int main(int count, char** arguments) {
  const int threads = count > 1 ? std::atoi(arguments[1]) : 2;
  const int repetitions = count > 2 ? std::atoi(arguments[2]) : 5;
  if (threads < 1 || repetitions < 1) {
    fmt::print(stderr, "usage: conv_bench [threads >= 1] [repetitions >= 1]\n");
    return 2;
  }
  tessera::run(threads, repetitions);
  return 0;
}
