// Every feature of the kernel language against plain loops. Nothing here knows of the emulator: the
// same file, linked with features.cu as nvcc builds it, holds the emulator's rules against a GPU.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/simt/device_array.h"
#include "tests/simt/kernels.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaLanguage = CudaTest;

int capability() {
  int major = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  return major;
}

#define REQUIRE_SM90() \
  if (capability() < 9) GTEST_SKIP() << "needs compute capability 9.0"

// Small numbers whose products and sums are exact in all the formats that are used here.
std::vector<float> small_numbers(std::size_t size) {
  std::vector<float> values(size);
  unsigned state = 1;
  for (float& x : values) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(static_cast<int>(state >> 28) - 8);
  }
  return values;
}

template <class T>
std::vector<T> as(const std::vector<float>& values) {
  std::vector<T> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = T(values[i]);
  return result;
}

TEST_F(CudaLanguage, WarpOperations) {
  DeviceArray<int> results(kWarpResults * 32);
  run_warp_operations(results.get());
  const auto got = results.values();
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; lane += 5) ballot |= 1u << lane;
  int sum = 0;
  for (int lane = 0; lane < 32; ++lane) sum += lane * lane;
  for (int lane = 0; lane < 32; ++lane) {
    SCOPED_TRACE(lane);
    const auto result = [&](WarpResult which) {
      return got[static_cast<std::size_t>(which * 32 + lane)];
    };
    const auto square = [](int x) { return x * x; };
    EXPECT_EQ(result(kShuffleIndex), 25);
    EXPECT_EQ(result(kShuffleUp), square(lane < 3 ? lane : lane - 3));
    EXPECT_EQ(result(kShuffleDown), square(lane > 28 ? lane : lane + 3));
    EXPECT_EQ(result(kShuffleXor), square(lane ^ 9));
    EXPECT_EQ(result(kShuffleHalves), square(lane % 16 > 11 ? lane : lane + 4));
    EXPECT_EQ(static_cast<unsigned>(result(kBallot)), ballot);
    EXPECT_EQ(result(kAny), 1);
    EXPECT_EQ(result(kAll), 0);
    EXPECT_EQ(result(kReduceAdd), sum);
    EXPECT_EQ(result(kReduceMin), -24);
    EXPECT_EQ(result(kReduceMax), 7);
  }
}

TEST_F(CudaLanguage, BlockOperations) {
  DeviceArray<int> results(kBlockResults * 64);
  run_block_operations(results.get());
  const auto got = results.values();
  for (std::size_t t = 0; t < 64; ++t) {
    EXPECT_EQ(got[kReversed * 64 + t], 63 - static_cast<int>(t));
    EXPECT_EQ(got[kCount * 64 + t], 22);
    EXPECT_EQ(got[kAnd * 64 + t] != 0, false);
    EXPECT_EQ(got[kOr * 64 + t] != 0, true);
  }
}

TEST_F(CudaLanguage, NamedBarriers) {
  constexpr int kRounds = 10;
  const auto x = small_numbers(kRounds * 32);
  DeviceArray<float> d_x(x), d_y(x.size());
  run_ping_pong(d_x.get(), d_y.get(), kRounds);
  const auto y = d_y.values();
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(y[i], 2 * x[i / 32 * 32 + 31 - i % 32]) << i;
}

TEST_F(CudaLanguage, CopyAsyncFillsWithZeros) {
  std::vector<std::uint8_t> x(3 * 64);
  std::iota(x.begin(), x.end(), std::uint8_t{1});
  for (const int bytes : {0, 1, 4, 7, 8, 13, 16}) {
    SCOPED_TRACE(bytes);
    DeviceArray<std::uint8_t> d_x(x), d_y(x.size());
    run_copy_async(d_x.get(), d_y.get(), bytes);
    const auto y = d_y.values();
    for (std::size_t i = 0; i < x.size(); ++i)
      EXPECT_EQ(y[i], static_cast<int>(i % 16) < bytes ? x[i] : 0) << i;
  }
}

TEST_F(CudaLanguage, LoadMatrix) {
  std::vector<std::uint16_t> x(32 * 8);
  std::iota(x.begin(), x.end(), std::uint16_t{0});
  for (const bool transpose : {false, true}) {
    SCOPED_TRACE(transpose);
    DeviceArray<std::uint16_t> d_x(x);
    DeviceArray<std::uint32_t> d_r(7 * 32);
    run_load_matrix(d_x.get(), d_r.get(), transpose);
    const auto r = d_r.values();
    for (unsigned row = 0; row < 7; ++row)
      for (unsigned lane = 0; lane < 32; ++lane) {
        const unsigned matrix = row < 4 ? row : row < 6 ? row - 4 : 0;
        const unsigned i = lane / 4, k = lane % 4 * 2;
        const unsigned low = transpose ? k * 8 + i : i * 8 + k;
        const unsigned high = low + (transpose ? 8 : 1);
        EXPECT_EQ(r[row * 32 + lane], (matrix * 64 + low) | (matrix * 64 + high) << 16)
            << "register " << row << ", lane " << lane;
      }
  }
}

TEST_F(CudaLanguage, StoreMatrixInvertsLoadMatrix) {
  REQUIRE_SM90();
  std::vector<std::uint16_t> x(32 * 8);
  std::iota(x.begin(), x.end(), std::uint16_t{0});
  for (const bool transpose : {false, true}) {
    DeviceArray<std::uint16_t> d_x(x), d_y(x.size());
    DeviceArray<std::uint32_t> d_r(7 * 32);
    run_load_matrix(d_x.get(), d_r.get(), transpose);
    run_store_matrix(d_r.get(), d_y.get(), transpose);
    EXPECT_EQ(d_y.values(), x) << transpose;
  }
}

template <class T>
void check_mma(std::size_t depth) {
  const auto a = small_numbers(16 * depth), b = small_numbers(depth * 8);
  DeviceArray<T> d_a(as<T>(a)), d_b(as<T>(b));
  DeviceArray<float> d_d(16 * 8);
  run_mma<T>(d_a.get(), d_b.get(), d_d.get());
  const auto d = d_d.values();
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t j = 0; j < 8; ++j) {
      float sum = 1;
      for (std::size_t k = 0; k < depth; ++k) sum += a[i * depth + k] * b[k * 8 + j];
      EXPECT_EQ(d[i * 8 + j], sum) << i << ' ' << j;
    }
}
TEST_F(CudaLanguage, MmaBf16) {
  check_mma<__nv_bfloat16>(16);
}
TEST_F(CudaLanguage, MmaF16) {
  check_mma<__half>(16);
}
TEST_F(CudaLanguage, MmaTf32) {
  check_mma<float>(8);
}

// Where a swizzle puts byte `offset` of a box whose rows are as long as the swizzle spans (CUTLASS:
// Swizzle<1..3, 4, 3>).
std::size_t swizzled(std::size_t offset, CUtensorMapSwizzle swizzle) {
  const std::size_t rows = (std::size_t{1} << swizzle) - 1;
  return offset ^ (offset >> 7 & rows) << 4;
}

TEST_F(CudaLanguage, TensorLoadSwizzlesAndFillsWithZeros) {
  REQUIRE_SM90();
  constexpr std::size_t kRows = 40, kColumns = 100;  // 2-byte elements
  std::vector<std::uint16_t> x(kRows * kColumns);
  std::iota(x.begin(), x.end(), std::uint16_t{1});
  DeviceArray<std::uint16_t> d_x(kRows * 104);  // rows of 208 bytes, a multiple of 16
  std::vector<std::uint16_t> padded(kRows * 104, 0);
  for (std::size_t r = 0; r < kRows; ++r) std::copy_n(&x[r * kColumns], kColumns, &padded[r * 104]);
  ASSERT_EQ(cudaMemcpy(d_x.get(), padded.data(), padded.size() * 2, cudaMemcpyHostToDevice),
            cudaSuccess);
  for (const auto swizzle : {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
                             CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B}) {
    SCOPED_TRACE(swizzle);
    const std::size_t columns = swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 24 : 8u << swizzle;
    constexpr std::size_t kBoxRows = 16;
    const auto map = tiled_map(d_x.get(), CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, {104, kRows},
                               {static_cast<cuuint32_t>(columns), kBoxRows}, swizzle);
    for (const auto& [c0, c1] : {std::pair{8, 3}, {-5, -7}, {90, 30}}) {
      const std::size_t bytes = columns * kBoxRows * 2;
      DeviceArray<std::uint8_t> d_y(bytes);
      run_tensor_load(map, d_y.get(), static_cast<int>(bytes), 2, {c0, c1});
      const auto y = d_y.values();
      for (std::size_t r = 0; r < kBoxRows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
          const int row = c1 + static_cast<int>(r), column = c0 + static_cast<int>(c);
          const bool inside =
              row >= 0 && row < static_cast<int>(kRows) && column >= 0 && column < 104;
          const std::uint16_t want =
              inside
                  ? padded[static_cast<std::size_t>(row) * 104 + static_cast<std::size_t>(column)]
                  : std::uint16_t{0};
          std::uint16_t got;
          std::memcpy(&got, &y[swizzled((r * columns + c) * 2, swizzle)], 2);
          ASSERT_EQ(got, want) << "row " << r << ", column " << c << " at " << c0 << ", " << c1;
        }
    }
  }
}

// Axes (e, d, c, b, a) of which the first `rank` innermost are used, through a box in their middle.
TEST_F(CudaLanguage, TensorCopiesOfEveryRank) {
  REQUIRE_SM90();
  constexpr std::array<std::size_t, 5> kExtent = {16, 5, 4, 3, 2}, kBox = {8, 3, 2, 2, 2};
  for (std::size_t rank = 2; rank <= 5; ++rank) {
    SCOPED_TRACE(rank);
    std::vector<cuuint64_t> extent(kExtent.begin(), kExtent.begin() + static_cast<int>(rank));
    std::vector<cuuint32_t> box(kBox.begin(), kBox.begin() + static_cast<int>(rank));
    std::size_t size = 1, elements = 1;
    for (std::size_t i = 0; i < rank; ++i) {
      size *= kExtent[i];
      elements *= kBox[i];
    }
    std::vector<float> x(size);
    std::iota(x.begin(), x.end(), 1.0f);
    DeviceArray<float> d_x(x), d_z(std::vector<float>(size, -1));
    DeviceArray<std::uint8_t> d_y(elements * 4);
    const int at[5] = {8, 3, 1, 2, 1};  // the box sticks out of axes 1 and, from rank 4 on, 3 and 4
    const auto from = tiled_map(d_x.get(), CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, extent, box,
                                CU_TENSOR_MAP_SWIZZLE_NONE);
    const auto to = tiled_map(d_z.get(), CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, extent, box,
                              CU_TENSOR_MAP_SWIZZLE_NONE);
    run_tensor_load(from, d_y.get(), static_cast<int>(elements * 4), static_cast<int>(rank), at);
    run_tensor_store(to, static_cast<int>(elements), static_cast<int>(rank), at);
    const auto y = d_y.values();
    std::vector<float> z(size, -1);
    for (std::size_t e = 0; e < elements; ++e) {
      std::size_t rest = e, index = 0, stride = 1;
      bool inside = true;
      for (std::size_t i = 0; i < rank; ++i) {
        const std::size_t position = static_cast<std::size_t>(at[i]) + rest % kBox[i];
        rest /= kBox[i];
        inside = inside && position < kExtent[i];
        index += position * stride;
        stride *= kExtent[i];
      }
      float got;
      std::memcpy(&got, &y[e * 4], 4);
      EXPECT_EQ(got, inside ? x[index] : 0) << e;
      if (inside) z[index] = static_cast<float>(e);
    }
    EXPECT_EQ(d_z.values(), z);
  }
}

TEST_F(CudaLanguage, TensorLoadIm2col) {
  REQUIRE_SM90();
  constexpr int kN = 2, kH = 6, kW = 7, kC = 16, kPixels = 32, kPad = 1, kTaps = 3;
  std::vector<std::uint16_t> x(kN * kH * kW * kC);
  std::iota(x.begin(), x.end(), std::uint16_t{1});
  DeviceArray<std::uint16_t> d_x(x);
  CUtensorMap map;
  const cuuint64_t extent[] = {kC, kW, kH, kN};
  const cuuint64_t stride[] = {kC * 2, kW * kC * 2, kH * kW * kC * 2};
  // The corner of a 3 x 3 filter moves from -pad to extent - 1 + pad - 2.
  const int lower[] = {-kPad, -kPad}, upper[] = {kPad - (kTaps - 1), kPad - (kTaps - 1)};
  const cuuint32_t step[] = {1, 1, 1, 1};
  ASSERT_EQ(driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col")(
                &map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, d_x.get(), extent, stride, lower, upper,
                kC, kPixels, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
                CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
            CUDA_SUCCESS);
  // Output pixels from (image 0, row 3, column 2) on, into the second image.
  constexpr int kFirst = 3 * kW + 2;
  for (int tap = 0; tap < kTaps * kTaps; ++tap) {
    DeviceArray<std::uint8_t> d_y(kPixels * kC * 2);
    run_tensor_load_im2col(map, d_y.get(), kPixels * kC * 2, 0, 2 - kPad, 3 - kPad, 0, tap % kTaps,
                           tap / kTaps);
    const auto y = d_y.values();
    for (int p = 0; p < kPixels; ++p)
      for (int c = 0; c < kC; ++c) {
        const int pixel = kFirst + p, n = pixel / (kH * kW);
        const int row = pixel / kW % kH + tap / kTaps - kPad,
                  column = pixel % kW + tap % kTaps - kPad;
        const bool inside = row >= 0 && row < kH && column >= 0 && column < kW;
        const auto want = static_cast<std::uint16_t>(
            inside ? x[static_cast<std::size_t>(((n * kH + row) * kW + column) * kC + c)] : 0);
        std::uint16_t got;
        std::memcpy(
            &got, &y[swizzled(static_cast<std::size_t>(p * kC + c) * 2, CU_TENSOR_MAP_SWIZZLE_32B)],
            2);
        ASSERT_EQ(got, want) << "tap " << tap << ", pixel " << p << ", channel " << c;
      }
  }
}

template <class T>
void check_wgmma(CUtensorMapDataType type, std::size_t n, bool transpose_b) {
  constexpr std::size_t kM = 64, kK = 64;
  const auto a = small_numbers(kM * kK), b = small_numbers(n * kK);
  DeviceArray<T> d_a(as<T>(a)), d_b(as<T>(b));
  DeviceArray<float> d_d(kM * n);
  const auto map = [&](T* p, std::size_t rows) {
    return tiled_map(p, type, sizeof(T), {64, rows}, {64, 64}, CU_TENSOR_MAP_SWIZZLE_128B);
  };
  run_wgmma<T>(map(d_a.get(), kM), map(d_b.get(), transpose_b ? kK : n), d_d.get(),
               static_cast<int>(n), transpose_b);
  const auto d = d_d.values();
  for (std::size_t i = 0; i < kM; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < kK; ++k)
        sum += a[i * kK + k] * (transpose_b ? b[k * n + j] : b[j * kK + k]);
      ASSERT_EQ(d[i * n + j], sum) << i << ' ' << j;
    }
}
TEST_F(CudaLanguage, Wgmma) {
  REQUIRE_SM90();
  for (const std::size_t n : {64, 128, 256}) {
    SCOPED_TRACE(n);
    check_wgmma<__nv_bfloat16>(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, n, false);
    check_wgmma<__half>(CU_TENSOR_MAP_DATA_TYPE_FLOAT16, n, false);
  }
  check_wgmma<__nv_bfloat16>(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 64, true);
}

TEST_F(CudaLanguage, ClustersExchangeSharedMemory) {
  REQUIRE_SM90();
  for (const int cluster : {1, 2, 4, 8}) {
    SCOPED_TRACE(cluster);
    constexpr int kClusters = 3;
    const auto size = static_cast<std::size_t>(kClusters * cluster * 32);
    const auto x = small_numbers(size);
    DeviceArray<float> d_x(x), d_y(2 * size);
    run_cluster_exchange(d_x.get(), d_y.get(), kClusters, cluster);
    const auto y = d_y.values();
    const auto of_cluster = static_cast<std::size_t>(cluster * 32);
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t first = i / of_cluster * of_cluster;
      EXPECT_EQ(y[i], x[first + (i - first + 32) % of_cluster]) << i;
      EXPECT_EQ(y[size + i], x[i] + 2 * x[first + (i - first + 64) % of_cluster]) << i;
    }
  }
}

TEST_F(CudaLanguage, TensorLoadToAllBlocksOfACluster) {
  REQUIRE_SM90();
  constexpr std::size_t kRows = 8, kColumns = 32, kBoxRows = 2;
  const auto x = small_numbers(kRows * kColumns);
  DeviceArray<float> d_x(x);
  const auto map = tiled_map(d_x.get(), CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, {kColumns, kRows},
                             {kColumns, kBoxRows}, CU_TENSOR_MAP_SWIZZLE_NONE);
  for (const int cluster : {2, 4}) {
    SCOPED_TRACE(cluster);
    constexpr std::size_t kBytes = kBoxRows * kColumns * sizeof(float);
    const auto blocks = static_cast<std::size_t>(cluster);
    DeviceArray<std::uint8_t> d_y(blocks * blocks * kBytes);
    run_tensor_multicast(map, d_y.get(), kBytes, kBoxRows, cluster);
    const auto y = d_y.values();
    for (std::size_t block = 0; block < blocks; ++block)
      EXPECT_EQ(std::memcmp(&y[block * blocks * kBytes], x.data(), blocks * kBytes), 0) << block;
  }
}

TEST_F(CudaLanguage, GridSync) {
  DeviceArray<float> x(8 * 32), y(8 * 32);
  run_grid_sync(x.get(), y.get());
  const auto got = y.values();
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(got[i], static_cast<float>((i + 32) % got.size()));
}

TEST_F(CudaLanguage, AtomicHistogram) {
  std::vector<int> x(5000);
  std::vector<unsigned> want(64);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<int>(i * i % 97);
    ++want[static_cast<std::size_t>(x[i] % 64)];
  }
  DeviceArray<int> d_x(x);
  DeviceArray<unsigned> counts(std::vector<unsigned>(64, 0));
  run_histogram(d_x.get(), counts.get(), static_cast<int>(x.size()));
  EXPECT_EQ(counts.values(), want);
}

TEST_F(CudaLanguage, LastBlockSum) {
  const auto x = small_numbers(7 * 64);
  DeviceArray<float> d_x(x), partial(7), sum(1);
  DeviceArray<unsigned> arrived(std::vector<unsigned>(1, 0));
  run_last_block_sum(d_x.get(), partial.get(), arrived.get(), sum.get(), 7);
  EXPECT_EQ(sum.values()[0], std::accumulate(x.begin(), x.end(), 0.0f));
  EXPECT_EQ(arrived.values()[0], 0u);
}

TEST_F(CudaLanguage, Math) {
  const std::vector<float> x = {0.0f, 1.0f, -1.0f, 0.3f, -2.7f, 1e-3f, 4.0f, 1.00048828125f};
  DeviceArray<float> d_x(x), d_y(kMathResults * x.size());
  run_math(d_x.get(), d_y.get(), static_cast<int>(x.size()));
  const auto y = d_y.values();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto result = [&](MathResult which) { return y[which * x.size() + i]; };
    const auto bits = std::bit_cast<std::uint32_t>(result(kTF32));
    EXPECT_EQ(bits & 0x1fffu, 0u);
    EXPECT_LE(std::abs(result(kTF32) - x[i]), std::ldexp(std::abs(x[i]), -11));
    EXPECT_LE(std::abs(result(kTanh) - std::tanh(x[i])),
              std::ldexp(std::abs(std::tanh(x[i])), -10));
    EXPECT_LE(std::abs(result(kExp2) - std::exp2(x[i])), std::ldexp(std::exp2(x[i]), -21));
    if (x[i] != 0) {
      EXPECT_LE(std::abs(result(kReciprocal) - 1 / x[i]), std::ldexp(std::abs(1 / x[i]), -22));
    }
    const float v = static_cast<float>(__nv_bfloat16(x[i]));
    EXPECT_EQ(result(kFma), static_cast<float>(__nv_bfloat16(std::fma(v, v, v))));
  }
  // A tie of the tenth bit goes away from zero.
  EXPECT_EQ(y[kTF32 * x.size() + 7], 1.0009765625f);
}

TEST_F(CudaLanguage, GraphReplaysItsCapture) {
  const auto x = small_numbers(64 * 64);
  DeviceArray<float> d_x(x), d_y(x.size()), d_z(x.size());
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  cudaStreamCaptureStatus status;
  EXPECT_EQ(cudaStreamIsCapturing(stream, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  EXPECT_EQ(cudaMemsetAsync(d_z.get(), 0, x.size() * 4, stream), cudaSuccess);
  run_transpose(d_x.get(), d_y.get(), 64, true, stream);
  EXPECT_EQ(cudaMemcpyAsync(d_z.get(), d_y.get(), 64 * 4, cudaMemcpyDeviceToDevice, stream),
            cudaSuccess);
  cudaGraph_t graph;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphExec_t executable;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  for (int round = 0; round < 2; ++round) {
    std::vector<float> input(x);
    for (float& v : input) v += static_cast<float>(round);
    ASSERT_EQ(cudaMemcpy(d_x.get(), input.data(), input.size() * 4, cudaMemcpyHostToDevice),
              cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);  // `stream` does not wait for it
    ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    const auto z = d_z.values();
    for (std::size_t i = 0; i < z.size(); ++i) EXPECT_EQ(z[i], i < 64 ? input[i * 64] : 0) << i;
  }
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

}  // namespace
}  // namespace tessera::test
