#include "tools/peers/cudnn_conv.h"

#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/ops/conv/fold.h"
#include "tools/peers/peer.h"

namespace tessera {

namespace {

constexpr std::size_t kMostWorkspace = std::size_t{1} << 30;

// The joined input, (n, h, w, c_in).
std::vector<float> joined(const ConvGeometry& g, std::span<const TensorView> inputs) {
  std::vector<float> x(static_cast<std::size_t>(g.n * g.h * g.w * g.c_in));
  std::int64_t first = 0;
  for (const ConvSource& s : g.sources) {
    const std::vector<float> from = to_f32(inputs[s.input]);
    for (std::int64_t n = 0; n < g.n; ++n)
      for (std::int64_t y = std::max<std::int64_t>(0, -s.dy); y < std::min(g.h, s.h - s.dy); ++y)
        for (std::int64_t i = std::max<std::int64_t>(0, -s.dx); i < std::min(g.w, s.w - s.dx); ++i)
          std::copy_n(from.begin() + ((n * s.h + y + s.dy) * s.w + i + s.dx) * s.c, s.c,
                      x.begin() + ((n * g.h + y) * g.w + i) * g.c_in + first);
    first += s.c;
  }
  return x;
}

// (c_out, kh, kw, c_in of a group)
std::vector<float> filters(const Conv& op, const ConvGeometry& g,
                           std::span<const TensorView> weights) {
  const auto [rows, columns] = op.window.kernel;
  const FoldedWeights folded(op, g, weights);
  std::vector<float> values;
  for (std::int64_t o = 0; o < g.c_out; ++o)
    for (int ky = 0; ky < rows; ++ky)
      for (int kx = 0; kx < columns; ++kx)
        for (std::int64_t i = 0; i < g.c_in / op.groups; ++i)
          values.push_back(static_cast<float>(folded.at(o, i, ky, kx)));
  return values;
}

// An operation behind the convolution.
struct Behind {
  cudnnPointwiseMode_t mode;
  std::optional<CudnnGraph::Id> b;
  double slope = 0;
};

}  // namespace

CudnnConvGraph cudnn_graph(const Cudnn& cudnn, const Conv& op, std::span<const TensorView> inputs,
                           std::span<const TensorView> weights) {
  std::vector<TensorType> types;
  for (const TensorView& input : inputs) types.push_back(input.type);
  const ConvGeometry g = geometry_of(op, types);
  CudnnConvGraph made{CudnnGraph(cudnn), {op.dtype, {g.n, g.ho, g.wo, g.c_out}}, {}, {}};
  CudnnGraph& graph = made.graph;
  // cuDNN names no engine for a graph that mixes types in memory, not even for a bias in f32 behind
  // 16 bits. So the first layer, which reads f32, gets its input in 16 bits.
  const bool narrows = size_of(op.dtype) < size_of(types[0].dtype);
  const DType type = narrows ? op.dtype : types[0].dtype;
  if (narrows) made.notes.push_back(fmt::format("x is {}", name_of(type)));
  if (g.sources.size() > 1) made.notes.push_back("without joining the maps");
  if (op.pool) made.notes.push_back("without the pool");

  const auto operand = [&](std::array<std::int64_t, 4> nhwc,
                           std::function<std::vector<float>()> values) {
    made.operands.push_back({type, std::move(values)});
    return graph.tensor(type, nhwc);
  };
  const auto x = operand({g.n, g.h, g.w, g.c_in}, [=] { return joined(g, inputs); });
  const auto weight =
      operand({g.c_out, op.window.kernel[0], op.window.kernel[1], g.c_in / op.groups},
              [=] { return filters(op, g, weights); });

  std::vector<Behind> steps;
  const auto per_channel = [&](cudnnPointwiseMode_t mode, std::vector<float> ConvEpilogue::*which) {
    steps.push_back({mode, operand({1, 1, 1, g.c_out}, [=] {
                       std::vector<float> values = epilogue_of(op, g, weights).*which;
                       values.resize(static_cast<std::size_t>(g.c_out));  // without its padding
                       return values;
                     })});
  };
  const std::array<std::int64_t, 4> map{g.n, g.ho, g.wo, g.c_out};
  // The residual comes first: cuDNN names no engine where it follows a bias.
  if (op.epilogue.residual) {
    require(!op.epilogue.offset[0] && !op.epilogue.offset[1], "its residual is cropped");
    steps.push_back({CUDNN_POINTWISE_ADD, operand(map, [=] { return to_f32(inputs.back()); })});
  }
  if (op.bias || op.norm == Conv::Norm::kBeforeRelu)
    per_channel(CUDNN_POINTWISE_ADD, &ConvEpilogue::bias);
  if (op.epilogue.activation) {
    const Activation& a = *op.epilogue.activation;
    const bool leaky = a.kind == Activation::Kind::kLeakyRelu;
    require(leaky || a.kind == Activation::Kind::kRelu, "its activation is not ReLU");
    steps.push_back({CUDNN_POINTWISE_RELU_FWD, {}, leaky ? a.slope : 0});
  } else if (op.relu) {
    steps.push_back({CUDNN_POINTWISE_RELU_FWD, {}});
  }
  if (op.norm == Conv::Norm::kAfterRelu) {
    per_channel(CUDNN_POINTWISE_MUL, &ConvEpilogue::scale);
    per_channel(CUDNN_POINTWISE_ADD, &ConvEpilogue::shift);
  }

  const auto result = [&](bool is_last) {
    return is_last ? graph.tensor(op.dtype, map) : graph.tensor(DType::kF32, map, false);
  };
  CudnnGraph::Id last = result(steps.empty());
  graph.convolve(op.window, x, weight, last);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const CudnnGraph::Id next = result(i + 1 == steps.size());
    graph.pointwise(steps[i].mode, last, steps[i].b, next, steps[i].slope);
    last = next;
  }
  graph.finish();
  return made;
}

namespace {

class CudnnConv : public Peer {
 public:
  CudnnConv(const Conv& op, const PeerSetup& setup)
      : CudnnConv(*setup.cudnn, setup.precision,
                  cudnn_graph(*setup.cudnn, op, setup.inputs, setup.weights)) {}

  std::size_t ways() const override { return engines_.size(); }
  std::string way(std::size_t i) const override {
    // One engine comes several times, with other tiles.
    const auto same =
        std::count_if(engines_.begin(), engines_.begin() + static_cast<std::ptrdiff_t>(i),
                      [&](const CudnnEngine& e) { return e.index == engines_[i].index; });
    return fmt::format("engine {}{}", engines_[i].index,
                       same > 0 ? fmt::format(", variant {}", same + 1) : "");
  }
  std::string objection(std::size_t i) const override { return engines_[i].objection(precision_); }
  void take(std::size_t i) override {
    run_.reset();
    CudnnPlan plan = graph_.plan(engines_[i]);
    require(plan.workspace <= kMostWorkspace, "it asks for {} bytes of workspace, of {} at most",
            plan.workspace, kMostWorkspace);
    grow(workspace_, plan.workspace);
    std::vector<void*> pointers;
    for (const DeviceBuffer& buffer : memory_) pointers.push_back(buffer.get());
    run_.emplace(cudnn_, std::move(plan), graph_.stored(), pointers, workspace_.get());
  }
  void enqueue() override { run_->enqueue(); }
  std::vector<float> output() const override { return from_device(memory_.back(), y_); }

 private:
  CudnnConv(const Cudnn& cudnn, Precision precision, CudnnConvGraph made)
      : cudnn_(cudnn),
        precision_(precision),
        y_(made.y),
        graph_(std::move(made.graph)),
        engines_(graph_.engines()) {
    require(!engines_.empty(), "cuDNN names no engine for it");
    for (const CudnnConvGraph::Operand& operand : made.operands)
      memory_.push_back(on_device(stored(operand.values(), operand.type)));
    memory_.emplace_back(y_.bytes());
    for (const std::string& note : made.notes) add_note(note);
  }

  const Cudnn& cudnn_;
  Precision precision_;
  TensorType y_;
  CudnnGraph graph_;
  std::vector<CudnnEngine> engines_;
  std::vector<DeviceBuffer> memory_;  // of graph_.stored()
  DeviceBuffer workspace_;
  std::optional<CudnnRun> run_;
};

}  // namespace

std::unique_ptr<Peer> peer_of(const Conv& op, const PeerSetup& setup) {
  return std::make_unique<CudnnConv>(op, setup);
}

}  // namespace tessera
