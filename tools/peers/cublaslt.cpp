// Products of matrices: y (rows, units) = x (rows, features) W^T + b, with W (units, features).
// cuBLASLt's matrices lie column by column, so it computes y^T = W x^T, of the same memory.
#include "tools/peers/cublaslt.h"

#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/error.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "kernels/ops/linear/linear.h"
#include "tools/peers/peer.h"

namespace tessera {

CublasLt::CublasLt(const std::string& folders)
    : library_({.title = "cuBLASLt",
                .files = {"libcublasLt.so.13", "libcublasLt.so.12"},
                .package = "nvidia-cublas"},
               folders) {
#define TESSERA_FIND(function) library_.find(function, #function);
  TESSERA_CUBLASLT(TESSERA_FIND)
#undef TESSERA_FIND
}

CublasLt::~CublasLt() {
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

void CublasLt::use_device() {
  check(cublasLtCreate(&handle_), "opening the GPU");
}

void CublasLt::check(cublasStatus_t status, const char* what) const {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail("cuBLASLt: {}: {}", what, cublasLtGetStatusString(status));
}

std::string CublasLt::name() const {
  const std::size_t version = cublasLtGetVersion();
  return fmt::format("cuBLASLt {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

namespace {

cudaDataType_t cuda_type(DType type) {
  switch (type) {
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

// y = x W^T + b, then ReLU.
struct Product {
  std::int64_t rows, units, features;
  DType in, out;               // of x and W; of y and b
  std::vector<float> x, w, b;  // b: (units), or empty
  bool relu = false;
};

// cuBLASLt's descriptors of one product. The functions' table outlives it.
class Descriptors {
 public:
  Descriptors(const CublasLt& lt, const Product& p, Precision precision, const void* bias)
      : lt_(lt) {
    const cublasComputeType_t compute =
        precision == Precision::kTf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    lt.check(lt.cublasLtMatmulDescCreate(&product_, compute, CUDA_R_32F), "product");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    cublasLtEpilogue_t epilogue = p.relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
    if (bias != nullptr) {
      epilogue = p.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, cuda_type(p.out));
    }
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    const auto features = static_cast<std::uint64_t>(p.features),
               units = static_cast<std::uint64_t>(p.units),
               rows = static_cast<std::uint64_t>(p.rows);
    layout(w_, p.in, features, units);
    layout(x_, p.in, features, rows);
    layout(y_, p.out, units, rows);
    lt.check(lt.cublasLtMatmulPreferenceCreate(&preference_), "preference");
    lt.check(
        lt.cublasLtMatmulPreferenceSetAttribute(
            preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof(kWorkspace)),
        "workspace");
  }
  ~Descriptors() {
    if (preference_ != nullptr) lt_.cublasLtMatmulPreferenceDestroy(preference_);
    for (const cublasLtMatrixLayout_t layout : {w_, x_, y_})
      if (layout != nullptr) lt_.cublasLtMatrixLayoutDestroy(layout);
    if (product_ != nullptr) lt_.cublasLtMatmulDescDestroy(product_);
  }
  Descriptors(const Descriptors&) = delete;

  static constexpr std::uint64_t kWorkspace = std::uint64_t{32} << 20;

  std::vector<cublasLtMatmulHeuristicResult_t> algorithms() const {
    constexpr int kMost = 16;
    std::vector<cublasLtMatmulHeuristicResult_t> found(kMost);
    int count = 0;
    lt_.check(lt_.cublasLtMatmulAlgoGetHeuristic(lt_.handle(), product_, w_, x_, y_, y_,
                                                 preference_, kMost, found.data(), &count),
              "choice of an algorithm");
    found.resize(static_cast<std::size_t>(count));
    return found;
  }
  void enqueue(const void* w, const void* x, void* y, const cublasLtMatmulAlgo_t& algorithm,
               std::byte* workspace, CudaStream stream) const {
    const float one = 1, zero = 0;
    lt_.check(lt_.cublasLtMatmul(lt_.handle(), product_, &one, w, w_, x, x_, &zero, y, y_, y, y_,
                                 &algorithm, workspace, kWorkspace, stream),
              "product");
  }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t name, const T& value) {
    lt_.check(lt_.cublasLtMatmulDescSetAttribute(product_, name, &value, sizeof(value)),
              "attribute of a product");
  }
  void layout(cublasLtMatrixLayout_t& matrix, DType type, std::uint64_t rows,
              std::uint64_t columns) {
    lt_.check(lt_.cublasLtMatrixLayoutCreate(&matrix, cuda_type(type), rows, columns,
                                             static_cast<std::int64_t>(rows)),
              "matrix");
  }

  const CublasLt& lt_;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr, x_ = nullptr, y_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
};

class CublasProduct : public Peer {
 public:
  CublasProduct(const Product& p, const PeerSetup& setup)
      : type_{p.out, {p.rows, p.units}},
        x_(on_device(stored(p.x, p.in))),
        w_(on_device(stored(p.w, p.in))),
        b_(on_device(stored(p.b, p.out))),
        y_(type_.bytes()),
        workspace_(Descriptors::kWorkspace),
        stream_(setup.stream),
        lt_(*setup.cublas),
        descriptors_(lt_, p, setup.precision, b_.get()),
        algorithms_(descriptors_.algorithms()) {
    require(!algorithms_.empty(), "cuBLASLt names no algorithm for it");
  }

  std::size_t ways() const override { return algorithms_.size(); }
  std::string way(std::size_t i) const override {
    std::int32_t id = 0;
    std::size_t written = 0;
    lt_.check(lt_.cublasLtMatmulAlgoConfigGetAttribute(
                  &algorithms_[i].algo, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof(id), &written),
              "number of an algorithm");
    return fmt::format("algorithm {}, choice {}", id, i + 1);
  }
  void take(std::size_t i) override {
    lt_.check(algorithms_[i].state, "algorithm");
    way_ = i;
  }
  void enqueue() override {
    descriptors_.enqueue(w_.get(), x_.get(), y_.get(), algorithms_[way_].algo, workspace_.get(),
                         stream_);
  }
  std::vector<float> output() const override { return from_device(y_, type_); }

 private:
  TensorType type_;
  DeviceBuffer x_, w_, b_, y_, workspace_;
  CudaStream stream_;
  const CublasLt& lt_;
  Descriptors descriptors_;
  std::vector<cublasLtMatmulHeuristicResult_t> algorithms_;
  std::size_t way_ = 0;
};

// Of 2 x 2 taps, which do not overlap: what each pixel gives its four, before they go to their
// places.
class CublasTranspose : public CublasProduct {
 public:
  CublasTranspose(const Product& p, const PeerSetup& setup, const Shape& x)
      : CublasProduct(p, setup), n_(x[0]), h_(x[1]), w_(x[2]), c_(p.units / 4) {
    add_note("without the shuffle of pixels");
  }
  std::vector<float> output() const override {
    const std::vector<float> quads = CublasProduct::output();
    std::vector<float> y(quads.size());
    for (std::int64_t i = 0; i < n_ * h_; ++i)
      for (std::int64_t j = 0; j < w_; ++j)
        for (std::int64_t tap = 0; tap < 4; ++tap)
          std::copy_n(quads.begin() + ((i * w_ + j) * 4 + tap) * c_, c_,
                      y.begin() + ((2 * i + tap / 2) * 2 * w_ + 2 * j + tap % 2) * c_);
    return y;
  }

 private:
  std::int64_t n_, h_, w_, c_;
};

}  // namespace

std::unique_ptr<Peer> peer_of(const Linear& op, const PeerSetup& setup) {
  const Shape& shape = setup.inputs[0].shape();
  const std::int64_t features = shape[-1];
  // f32 tensors, rounded before a product as the precision says.
  const DType in = setup.precision == Precision::kBf16   ? DType::kBF16
                   : setup.precision == Precision::kFp16 ? DType::kF16
                                                         : DType::kF32;
  Product p{.rows = shape.elements() / features,
            .units = op.units,
            .features = features,
            .in = in,
            .out = DType::kF32,
            .x = to_f32(setup.inputs[0]),
            .w = to_f32(setup.weights[0]),
            .b = {}};
  if (op.bias) p.b = to_f32(setup.weights[1]);
  return std::make_unique<CublasProduct>(p, setup);
}

std::unique_ptr<Peer> peer_of(const ConvTranspose& op, const PeerSetup& setup) {
  require(op.kernel == 2, "a transposed convolution is one product of matrices only of 2 x 2 taps");
  const Shape& x = setup.inputs[0].shape();
  const std::int64_t c_in = x[-1];
  const std::vector<float> weight = to_f32(setup.weights[0]);  // (c_in, c_out, 2, 2)
  Product p{.rows = x[0] * x[1] * x[2],
            .units = std::int64_t{4} * op.c_out,
            .features = c_in,
            .in = setup.inputs[0].type.dtype,
            .out = op.dtype,
            .x = to_f32(setup.inputs[0]),
            .w = {},
            .b = {},
            .relu = op.relu};
  for (std::int64_t tap = 0; tap < 4; ++tap)
    for (std::int64_t o = 0; o < op.c_out; ++o)
      for (std::int64_t i = 0; i < c_in; ++i)
        p.w.push_back(weight[static_cast<std::size_t>((i * op.c_out + o) * 4 + tap)]);
  if (op.bias)
    for (int tap = 0; tap < 4; ++tap)
      for (const float value : to_f32(setup.weights[1])) p.b.push_back(value);
  return std::make_unique<CublasTranspose>(p, setup, x);
}

}  // namespace tessera
