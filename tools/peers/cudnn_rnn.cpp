// A recurrent layer as cuDNN's RNN computes it (cudnnRNNForward, version 8), of true lengths.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/ops/rnn/rnn.h"
#include "tools/peers/cudnn.h"
#include "tools/peers/peer.h"

namespace tessera {

namespace {

// Descriptors that are made and destroyed by functions of the library's.
template <class T>
class Owned {
 public:
  Owned(const Cudnn& cudnn, cudnnStatus_t (*create)(T*), cudnnStatus_t (*destroy)(T))
      : destroy_(destroy) {
    cudnn.check(create(&made_), "descriptor");
  }
  ~Owned() { destroy_(made_); }
  Owned(const Owned&) = delete;
  T get() const { return made_; }

 private:
  cudnnStatus_t (*destroy_)(T);
  T made_ = nullptr;
};

constexpr cudnnRNNAlgo_t kAlgorithms[] = {CUDNN_RNN_ALGO_STANDARD, CUDNN_RNN_ALGO_PERSIST_STATIC,
                                          CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H};
constexpr const char* kAlgorithmNames[] = {"standard", "persistent", "persistent, small"};

class CudnnRnn : public Peer {
 public:
  CudnnRnn(const BiRnn& op, const PeerSetup& setup)
      : cudnn_(*setup.cudnn),
        gates_(op.cell == BiRnn::Cell::kLstm ? 4 : 3),
        units_(op.units),
        rnn_(cudnn_, cudnn_.cudnnCreateRNNDescriptor, cudnn_.cudnnDestroyRNNDescriptor),
        dropout_(cudnn_, cudnn_.cudnnCreateDropoutDescriptor, cudnn_.cudnnDestroyDropoutDescriptor),
        x_data_(cudnn_, cudnn_.cudnnCreateRNNDataDescriptor, cudnn_.cudnnDestroyRNNDataDescriptor),
        y_data_(cudnn_, cudnn_.cudnnCreateRNNDataDescriptor, cudnn_.cudnnDestroyRNNDataDescriptor),
        state_(cudnn_, cudnn_.cudnnCreateTensorDescriptor, cudnn_.cudnnDestroyTensorDescriptor),
        precision_(setup.precision) {
    require(op.gate == BiRnn::Gate::kSigmoid, "cuDNN has no hard sigmoid");
    require(op.cell == BiRnn::Cell::kLstm || op.reset_after,
            "cuDNN's GRU multiplies by the reset gate behind the product");
    require(!op.carried, "cuDNN carries no state from sequence to sequence");
    type_ = precision_ == Precision::kBf16   ? DType::kBF16
            : precision_ == Precision::kFp16 ? DType::kF16
                                             : DType::kF32;
    lstm_ = op.cell == BiRnn::Cell::kLstm;
    std::vector<float> x;
    std::span<const TensorView> weights = setup.weights;
    const Shape& shape = setup.inputs[0].shape();
    if (op.embedding) {
      add_note("without the look-up of words");
      const Shape table = weights[0].shape();
      const std::vector<float> rows = to_f32(weights[0]);
      const std::int64_t count = shape.elements();
      features_ = table[1];
      for (std::int64_t i = 0; i < count; ++i) {
        const auto word = static_cast<std::ptrdiff_t>(setup.inputs[0].as<std::int32_t>()[i]);
        x.insert(x.end(), rows.begin() + word * features_, rows.begin() + (word + 1) * features_);
      }
      weights = weights.subspan(1);
      steps_ = shape[-1];
      batch_ = count / steps_;
    } else {
      x = to_f32(setup.inputs[0]);
      features_ = shape[-1], steps_ = shape[-2];
      batch_ = shape.elements() / (features_ * steps_);
    }
    lengths_.assign(static_cast<std::size_t>(batch_), static_cast<int>(steps_));
    if (op.masked) {
      const auto* given = setup.inputs[1].as<std::int32_t>();
      std::copy_n(given, batch_, lengths_.begin());
    }
    describe();
    x_ = on_device(stored(x, type_));
    std::vector<std::byte> lengths(lengths_.size() * sizeof(int));
    std::memcpy(lengths.data(), lengths_.data(), lengths.size());
    device_lengths_ = on_device(lengths);
    y_type_ = {type_, {batch_, steps_, std::int64_t{2} * units_}};
    y_ = DeviceBuffer(y_type_.bytes());
    for (const TensorView& weight : weights) weights_.push_back(to_f32(weight));
  }

  std::size_t ways() const override { return std::size(kAlgorithms); }
  std::string way(std::size_t i) const override { return kAlgorithmNames[i]; }
  void take(std::size_t i) override {
    // f32 without tensor cores is "FMA"; the default takes tf32, and 16-bit tensors tensor cores.
    const cudnnMathType_t math = precision_ == Precision::kFp32   ? CUDNN_FMA_MATH
                                 : precision_ == Precision::kTf32 ? CUDNN_DEFAULT_MATH
                                                                  : CUDNN_TENSOR_OP_MATH;
    cudnn_.check(cudnn_.cudnnSetRNNDescriptor_v8(
                     rnn_.get(), kAlgorithms[i], lstm_ ? CUDNN_LSTM : CUDNN_GRU,
                     CUDNN_RNN_DOUBLE_BIAS, CUDNN_BIDIRECTIONAL, CUDNN_LINEAR_INPUT,
                     cudnn_type(type_), CUDNN_DATA_FLOAT, math, static_cast<int>(features_), units_,
                     units_, 1, dropout_.get(), CUDNN_RNN_PADDED_IO_ENABLED),
                 "recurrent layer");
    std::size_t workspace = 0, reserve = 0, space = 0;
    cudnn_.check(
        cudnn_.cudnnGetRNNTempSpaceSizes(cudnn_.handle(), rnn_.get(), CUDNN_FWD_MODE_INFERENCE,
                                         x_data_.get(), &workspace, &reserve),
        "workspace of a recurrent layer");
    cudnn_.check(cudnn_.cudnnGetRNNWeightSpaceSize(cudnn_.handle(), rnn_.get(), &space),
                 "weights of a recurrent layer");
    grow(workspace_, workspace);
    workspace_bytes_ = workspace;
    place_weights(space);
  }
  void enqueue() override {
    cudnn_.check(
        cudnn_.cudnnRNNForward(cudnn_.handle(), rnn_.get(), CUDNN_FWD_MODE_INFERENCE,
                               reinterpret_cast<const std::int32_t*>(device_lengths_.get()),
                               x_data_.get(), x_.get(), y_data_.get(), y_.get(), state_.get(),
                               nullptr, nullptr, state_.get(), nullptr, nullptr, space_.size(),
                               space_.get(), workspace_bytes_, workspace_.get(), 0, nullptr),
        "run of a recurrent layer");
  }
  std::vector<float> output() const override { return from_device(y_, y_type_); }

 private:
  void describe() {
    cudnn_.check(
        cudnn_.cudnnSetDropoutDescriptor(dropout_.get(), cudnn_.handle(), 0, nullptr, 0, 0),
        "no dropout");
    float zero = 0;
    for (const auto& [data, size] : {std::pair{x_data_.get(), static_cast<int>(features_)},
                                     std::pair{y_data_.get(), 2 * units_}})
      cudnn_.check(
          cudnn_.cudnnSetRNNDataDescriptor(
              data, cudnn_type(type_), CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED,
              static_cast<int>(steps_), static_cast<int>(batch_), size, lengths_.data(), &zero),
          "sequences");
    const int dims[] = {2, static_cast<int>(batch_), units_};
    const int strides[] = {dims[1] * units_, units_, 1};
    cudnn_.check(
        cudnn_.cudnnSetTensorNdDescriptor(state_.get(), cudnn_type(type_), 3, dims, strides),
        "states");
  }

  // cuDNN says where each gate's matrix and bias belong. Its gates are in PyTorch's order: of the
  // input first, of the state behind them.
  void place_weights(std::size_t bytes) {
    std::vector<std::byte> host(bytes);
    space_ = DeviceBuffer(bytes);
    const Owned<cudnnTensorDescriptor_t> matrix(cudnn_, cudnn_.cudnnCreateTensorDescriptor,
                                                cudnn_.cudnnDestroyTensorDescriptor);
    const Owned<cudnnTensorDescriptor_t> bias(cudnn_, cudnn_.cudnnCreateTensorDescriptor,
                                              cudnn_.cudnnDestroyTensorDescriptor);
    const auto put = [&](const void* at, const std::vector<float>& from, std::int64_t first,
                         std::int64_t count) {
      const auto begin = from.begin() + static_cast<std::ptrdiff_t>(first);
      const std::vector<std::byte> values =
          stored({begin, begin + static_cast<std::ptrdiff_t>(count)}, type_);
      const std::ptrdiff_t offset = static_cast<const std::byte*>(at) - space_.get();
      require(at != nullptr && offset >= 0 && offset + values.size() <= bytes,
              "cuDNN places a weight outside of its {} bytes", bytes);
      std::ranges::copy(values, host.begin() + offset);
    };
    for (int direction = 0; direction < 2; ++direction) {
      for (int gate = 0; gate < 2 * gates_; ++gate) {
        void* matrix_at = nullptr;
        void* bias_at = nullptr;
        cudnn_.check(cudnn_.cudnnGetRNNWeightParams(cudnn_.handle(), rnn_.get(), direction, bytes,
                                                    space_.get(), gate, matrix.get(), &matrix_at,
                                                    bias.get(), &bias_at),
                     "place of a weight");
        const bool recurrent = gate >= gates_;
        const std::int64_t columns = recurrent ? units_ : features_;
        const std::int64_t row = std::int64_t{gate % gates_} * units_;
        // weight_ih, weight_hh, bias_ih, bias_hh, and the same four in reverse.
        const std::size_t first = static_cast<std::size_t>(4 * direction + (recurrent ? 1 : 0));
        put(matrix_at, weights_[first], row * columns, units_ * columns);
        put(bias_at, weights_[first + 2], row, units_);
      }
    }
    space_ = on_device(host);
  }

  const Cudnn& cudnn_;
  int gates_, units_;
  Owned<cudnnRNNDescriptor_t> rnn_;
  Owned<cudnnDropoutDescriptor_t> dropout_;
  Owned<cudnnRNNDataDescriptor_t> x_data_, y_data_;
  Owned<cudnnTensorDescriptor_t> state_;
  Precision precision_;
  DType type_;
  bool lstm_;
  std::int64_t features_ = 0, steps_ = 0, batch_ = 0;
  std::vector<int> lengths_;
  std::vector<std::vector<float>> weights_;
  TensorType y_type_;
  DeviceBuffer x_, y_, device_lengths_, space_, workspace_;
  std::size_t workspace_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Peer> peer_of(const BiRnn& op, const PeerSetup& setup) {
  return std::make_unique<CudnnRnn>(op, setup);
}

}  // namespace tessera
