// One step of an optimiser on all tensors of a model, and the squares of its gradients.
//
// Layout: each tensor and its state are flat f32 arrays; a table cuts them into pieces. A block
// takes a piece, a thread 16 bytes of each array at a time where they are aligned to it, so that
// many small tensors cost no launch each. Multiplications and additions are fused, and square roots
// and quotients rounded, as the CPU does (update.cpp). Squares are added in double: by the threads
// of a block, in a tree, then by one block per tensor over its pieces.
// Roofline: memory; 12 bytes per weight for SGD, 20 with momentum, 28 for Adam, 4 for squares.
// Share of it: not measured yet.
// Oracle: update.cpp, to the byte; sum_of_squares.
#include "kernels/cuda/element.cuh"
#include "kernels/train/optimiser/cuda.h"

namespace tessera {

namespace {

constexpr int kThreads = 256;
constexpr int kWide = 4;  // floats of 16 bytes

// What a thread has of each array.
template <int kCount>
struct Values {
  float weight[kCount], gradient[kCount], first[kCount], second[kCount];
};

struct Sgd {
  using Update = SgdUpdate;
  static __device__ bool has_first(const Update& update) { return update.momentum != 0; }
  static constexpr bool kHasSecond = false;

  template <int kCount>
  static __device__ void apply(const Update& update, int i, Values<kCount>& v) {
    float gradient = fmaf(update.decay, v.weight[i], update.gradient_scale * v.gradient[i]);
    if (update.momentum != 0) {
      const float velocity = fmaf(update.momentum, v.first[i], gradient);
      v.first[i] = velocity;
      gradient = update.nesterov ? fmaf(update.momentum, velocity, gradient) : velocity;
    }
    v.weight[i] = fmaf(-update.rate, gradient, v.weight[i]);
  }
};

struct Adam {
  using Update = AdamUpdate;
  static __device__ bool has_first(const Update&) { return true; }
  static constexpr bool kHasSecond = true;

  template <int kCount>
  static __device__ void apply(const Update& update, int i, Values<kCount>& v) {
    const float old = v.weight[i];
    const float gradient = fmaf(update.decay, old, update.gradient_scale * v.gradient[i]);
    const float mean = fmaf(update.beta1, v.first[i], update.one_minus_beta1 * gradient);
    const float squared = gradient * gradient;
    const float square = fmaf(update.beta2, v.second[i], update.one_minus_beta2 * squared);
    v.first[i] = mean;
    v.second[i] = square;
    const float denominator = sqrtf(square) / update.root_correction + update.eps;
    v.weight[i] = fmaf(-update.step_size, mean / denominator, update.weight_scale * old);
  }
};

// `kCount` elements from `at` on.
template <class Rule, int kCount>
__device__ inline void update_elements(const OptimiserTensor& tensor, std::int64_t at,
                                       const typename Rule::Update& update) {
  const bool has_first = Rule::has_first(update);
  Values<kCount> v{};
  load_elements(tensor.weight + at, v.weight);
  load_elements(tensor.gradient + at, v.gradient);
  if (has_first) load_elements(tensor.first + at, v.first);
  if constexpr (Rule::kHasSecond) load_elements(tensor.second + at, v.second);
#pragma unroll
  for (int i = 0; i < kCount; ++i) Rule::apply(update, i, v);
  store_elements(v.weight, tensor.weight + at);
  if (has_first) store_elements(v.first, tensor.first + at);
  if constexpr (Rule::kHasSecond) store_elements(v.second, tensor.second + at);
}

// Whether 16 bytes from element `begin` on may be read at once; of a null pointer, too.
__device__ inline bool is_aligned(const float* array, std::int64_t begin) {
  return array == nullptr || reinterpret_cast<std::uintptr_t>(array + begin) % 16 == 0;
}

template <class Rule>
__global__ void __launch_bounds__(kThreads)
    update_kernel(const OptimiserTensor* __restrict__ tensors,
                  const OptimiserPiece* __restrict__ pieces,
                  const typename Rule::Update* __restrict__ updates) {
  const OptimiserPiece piece = pieces[blockIdx.x];
  const OptimiserTensor tensor = tensors[piece.tensor];
  const typename Rule::Update update = updates[piece.tensor];
  const bool aligned =
      is_aligned(tensor.weight, piece.begin) && is_aligned(tensor.gradient, piece.begin) &&
      is_aligned(tensor.first, piece.begin) && is_aligned(tensor.second, piece.begin);
  const int thread = static_cast<int>(threadIdx.x);
  const int wide = aligned ? piece.count / kWide : 0;
  for (int i = thread; i < wide; i += kThreads)
    update_elements<Rule, kWide>(tensor, piece.begin + i * kWide, update);
  for (int i = wide * kWide + thread; i < piece.count; i += kThreads)
    update_elements<Rule, 1>(tensor, piece.begin + i, update);
}

// To thread 0 the sum over the block's threads, in one fixed order.
__device__ inline double sum_of_block(double value, double (&s_values)[kThreads]) {
  const int thread = static_cast<int>(threadIdx.x);
  s_values[thread] = value;
  for (int distance = kThreads / 2; distance > 0; distance /= 2) {
    __syncthreads();  // the values of the step before
    if (thread < distance) s_values[thread] += s_values[thread + distance];
  }
  return thread == 0 ? s_values[0] : 0;  // which the last step wrote for itself alone
}

__global__ void __launch_bounds__(kThreads)
    squares_of_pieces_kernel(const OptimiserTensor* __restrict__ tensors,
                             const OptimiserPiece* __restrict__ pieces,
                             double* __restrict__ partial) {
  SIMT_SHARED(double, s_values, [kThreads]);
  const OptimiserPiece piece = pieces[blockIdx.x];
  const float* gradient = tensors[piece.tensor].gradient + piece.begin;
  const int thread = static_cast<int>(threadIdx.x);
  // The square of an f32 is exact in double. Which thread adds which elements does not depend on
  // the alignment of the tensor.
  const int wide = piece.count / kWide;
  const bool aligned = is_aligned(gradient, 0);
  double sum = 0;
  for (int i = thread; i < wide; i += kThreads) {
    float values[kWide];
    if (aligned) {
      load_elements(gradient + i * kWide, values);
    } else {
#pragma unroll
      for (int k = 0; k < kWide; ++k) values[k] = gradient[i * kWide + k];
    }
#pragma unroll
    for (int k = 0; k < kWide; ++k) {
      const double value = values[k];
      sum = fma(value, value, sum);
    }
  }
  for (int i = wide * kWide + thread; i < piece.count; i += kThreads) {
    const double value = gradient[i];
    sum = fma(value, value, sum);
  }
  sum = sum_of_block(sum, s_values);
  if (thread == 0) partial[blockIdx.x] = sum;
}

// The first piece of a tensor, or of a later one where it has none.
__device__ inline std::int64_t first_piece(const OptimiserPiece* pieces, std::int64_t count,
                                           int tensor) {
  std::int64_t begin = 0, end = count;
  while (begin < end) {
    const std::int64_t middle = begin + (end - begin) / 2;
    if (pieces[middle].tensor < tensor) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

__global__ void __launch_bounds__(kThreads)
    squares_of_tensors_kernel(const OptimiserPiece* __restrict__ pieces, std::int64_t piece_count,
                              const double* __restrict__ partial, double* __restrict__ sums) {
  SIMT_SHARED(double, s_values, [kThreads]);
  const int tensor = static_cast<int>(blockIdx.x);
  const std::int64_t begin = first_piece(pieces, piece_count, tensor);
  const std::int64_t end = first_piece(pieces, piece_count, tensor + 1);
  double sum = 0;
  for (std::int64_t piece = begin + threadIdx.x; piece < end; piece += kThreads)
    sum += partial[piece];
  sum = sum_of_block(sum, s_values);
  if (threadIdx.x == 0) sums[tensor] = sum;
}

template <class Rule>
void update(const OptimiserTensor* tensors, const OptimiserPiece* pieces, std::int64_t piece_count,
            const typename Rule::Update* updates, CudaStream stream) {
  if (piece_count == 0) return;
  simt::launch(update_kernel<Rule>, dim3(static_cast<unsigned>(piece_count)), dim3(kThreads), 0,
               stream, tensors, pieces, updates);
}

}  // namespace

void sgd_cuda(const OptimiserTensor* tensors, const OptimiserPiece* pieces,
              std::int64_t piece_count, const SgdUpdate* updates, CudaStream stream) {
  update<Sgd>(tensors, pieces, piece_count, updates, stream);
}

void adam_cuda(const OptimiserTensor* tensors, const OptimiserPiece* pieces,
               std::int64_t piece_count, const AdamUpdate* updates, CudaStream stream) {
  update<Adam>(tensors, pieces, piece_count, updates, stream);
}

void squares_cuda(const OptimiserTensor* tensors, const OptimiserPiece* pieces,
                  std::int64_t piece_count, int tensor_count, double* partial, double* sums,
                  CudaStream stream) {
  if (tensor_count == 0) return;
  if (piece_count > 0)
    simt::launch(squares_of_pieces_kernel, dim3(static_cast<unsigned>(piece_count)), dim3(kThreads),
                 0, stream, tensors, pieces, partial);
  simt::launch(squares_of_tensors_kernel, dim3(static_cast<unsigned>(tensor_count)), dim3(kThreads),
               0, stream, pieces, piece_count, partial, sums);
}

}  // namespace tessera
