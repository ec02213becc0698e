// One small kernel per feature of the kernel language that Tessera uses. device_test.cpp checks
// them, on the emulator and, built by nvcc, on a GPU: what the two agree on is what the emulator
// may be believed in.
#include "kernels/cuda/grid_sync.h"
#include "tests/simt/kernels.h"

namespace tessera::test {
namespace {

__global__ void warp_operations_kernel(int* results) {
  const int lane = static_cast<int>(threadIdx.x);
  const auto put = [&](WarpResult which, int value) { results[which * 32 + lane] = value; };
  const int value = lane * lane;
  put(kShuffleIndex, __shfl_sync(~0u, value, 5));
  put(kShuffleUp, __shfl_up_sync(~0u, value, 3));
  put(kShuffleDown, __shfl_down_sync(~0u, value, 3));
  put(kShuffleXor, __shfl_xor_sync(~0u, value, 9));
  put(kShuffleHalves, __shfl_down_sync(~0u, value, 4, 16));
  put(kBallot, static_cast<int>(__ballot_sync(~0u, lane % 5 == 0)));
  put(kAny, __any_sync(~0u, lane == 31));
  put(kAll, __all_sync(~0u, lane < 31));
  put(kReduceAdd, __reduce_add_sync(~0u, value));
  put(kReduceMin, __reduce_min_sync(~0u, 7 - lane));
  put(kReduceMax, __reduce_max_sync(~0u, 7 - lane));
}

__global__ void block_operations_kernel(int* results) {
  SIMT_SHARED(int, values, [64]);
  const int t = static_cast<int>(threadIdx.x);
  const int predicate = t % 3 == 0;
  values[t] = t;
  results[kCount * 64 + t] = __syncthreads_count(predicate);
  results[kReversed * 64 + t] = values[63 - t];
  results[kAnd * 64 + t] = __syncthreads_and(predicate);
  results[kOr * 64 + t] = __syncthreads_or(predicate);
}

__global__ void ping_pong_kernel(const float* x, float* y, int rounds) {
  SIMT_SHARED(float, buffer, [32]);
  constexpr int kFull = 1, kEmpty = 2;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x < 32) {
    for (int i = 0; i < rounds; ++i) {
      if (i > 0) ptx::bar_sync(kEmpty, 64);
      buffer[lane] = x[i * 32 + lane];
      ptx::bar_arrive(kFull, 64);
    }
  } else {
    for (int i = 0; i < rounds; ++i) {
      ptx::bar_sync(kFull, 64);
      y[i * 32 + lane] = 2 * buffer[31 - lane];
      if (i + 1 < rounds) ptx::bar_arrive(kEmpty, 64);
    }
  }
}

template <int Bytes>
__device__ void copy_row(const std::uint8_t* x, std::uint8_t* buffer, int bytes) {
  for (int at = 0; at < 64; at += Bytes) {
    const int left = min(max(bytes - at % 16, 0), Bytes);
    ptx::cp_async<Bytes>(buffer + at, x + at, left);
  }
  ptx::cp_async_commit();
}

__global__ void copy_async_kernel(const std::uint8_t* x, std::uint8_t* y, int bytes) {
  SIMT_DYN_SHARED(std::uint8_t, buffer, 16);
  if (threadIdx.x == 0) {
    copy_row<4>(x, buffer, bytes);
    copy_row<8>(x + 64, buffer + 64, bytes);
    copy_row<16>(x + 128, buffer + 128, bytes);
    ptx::cp_async_wait<0>();
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 3 * 64; i += 32) y[i] = buffer[i];
}

__global__ void load_matrix_kernel(const std::uint16_t* x, std::uint32_t* registers,
                                   bool transpose) {
  SIMT_DYN_SHARED(std::uint16_t, tile, 16);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) tile[lane * 8 + i] = x[lane * 8 + i];
  __syncwarp();
  std::uint32_t four[4], two[2], one[1];
  if (transpose) {
    ptx::ldmatrix_x4_trans(four, tile + lane * 8);
    ptx::ldmatrix_x2_trans(two, tile + lane % 16 * 8);
    ptx::ldmatrix_x1_trans(one, tile + lane % 8 * 8);
  } else {
    ptx::ldmatrix_x4(four, tile + lane * 8);
    ptx::ldmatrix_x2(two, tile + lane % 16 * 8);
    ptx::ldmatrix_x1(one, tile + lane % 8 * 8);
  }
  for (int i = 0; i < 4; ++i) registers[i * 32 + lane] = four[i];
  for (int i = 0; i < 2; ++i) registers[(4 + i) * 32 + lane] = two[i];
  registers[6 * 32 + lane] = one[0];
}

__global__ void store_matrix_kernel(const std::uint32_t* registers, std::uint16_t* y,
                                    bool transpose) {
  SIMT_DYN_SHARED(std::uint16_t, tile, 16);
  const int lane = static_cast<int>(threadIdx.x);
  const std::uint32_t r[4] = {registers[lane], registers[32 + lane], registers[64 + lane],
                              registers[96 + lane]};
  if (transpose)
    ptx::stmatrix_x4_trans(tile + lane * 8, r);
  else
    ptx::stmatrix_x4(tile + lane * 8, r);
  __syncwarp();
  for (int i = 0; i < 8; ++i) y[lane * 8 + i] = tile[lane * 8 + i];
}

// a and b straight from global memory, by the fragment layouts of the PTX ISA.
template <class T>
__global__ void mma_kernel(const T* a, const T* b, float* d) {
  const int lane = static_cast<int>(threadIdx.x), group = lane / 4, member = lane % 4;
  float sum[4] = {1, 1, 1, 1};
  std::uint32_t r_a[4], r_b[2];
  if constexpr (sizeof(T) == 4) {
    for (int i = 0; i < 4; ++i)
      r_a[i] = ptx::to_tf32(a[(group + i % 2 * 8) * 8 + member + i / 2 * 4]);
    for (int i = 0; i < 2; ++i) r_b[i] = ptx::to_tf32(b[(member + i * 4) * 8 + group]);
    ptx::mma_m16n8k8_tf32(sum, r_a, r_b, sum);
  } else {
    const auto pair = [](T low, T high) {
      union {
        T halves[2];
        std::uint32_t bits;
      } both = {{low, high}};
      return both.bits;
    };
    for (int i = 0; i < 4; ++i) {
      const T* row = a + (group + i % 2 * 8) * 16 + member * 2 + i / 2 * 8;
      r_a[i] = pair(row[0], row[1]);
    }
    for (int i = 0; i < 2; ++i) {
      const T* column = b + (member * 2 + i * 8) * 8 + group;
      r_b[i] = pair(column[0], column[8]);
    }
    ptx::mma_m16n8k16<T>(sum, r_a, r_b, sum);
  }
  for (int i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + member * 2 + i % 2] = sum[i];
}

struct Coordinates {
  int at[5];
};

// Waits for a load of `bytes` that `load` issues into `tile`, and copies them out.
template <class Load>
__device__ void load_and_dump(std::uint8_t* tile, std::uint64_t* barrier, std::uint8_t* y,
                              int bytes, Load load) {
  if (threadIdx.x == 0) {
    ptx::mbar_init(barrier, 1);
    ptx::fence_mbar_init();
    ptx::mbar_arrive_expect_tx(barrier, bytes);
    load();
  }
  __syncthreads();  // the barrier's init before its first wait
  ptx::mbar_wait(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += 32) y[i] = tile[i];
}

__global__ void tensor_load_kernel(const __grid_constant__ CUtensorMap map, std::uint8_t* y,
                                   int bytes, int rank, Coordinates c) {
  SIMT_DYN_SHARED(std::uint8_t, tile, 1024);
  SIMT_SHARED(std::uint64_t, barrier, );
  load_and_dump(tile, &barrier, y, bytes, [&] {
    if (rank == 2) ptx::tma_load(tile, &map, &barrier, c.at[0], c.at[1]);
    if (rank == 3) ptx::tma_load(tile, &map, &barrier, c.at[0], c.at[1], c.at[2]);
    if (rank == 4) ptx::tma_load(tile, &map, &barrier, c.at[0], c.at[1], c.at[2], c.at[3]);
    if (rank == 5) ptx::tma_load(tile, &map, &barrier, c.at[0], c.at[1], c.at[2], c.at[3], c.at[4]);
  });
}

__global__ void tensor_load_im2col_kernel(const __grid_constant__ CUtensorMap map, std::uint8_t* y,
                                          int bytes, int c, int w, int h, int n, int offset_w,
                                          int offset_h) {
  SIMT_DYN_SHARED(std::uint8_t, tile, 1024);
  SIMT_SHARED(std::uint64_t, barrier, );
  load_and_dump(tile, &barrier, y, bytes, [&] {
    ptx::tma_load_im2col(tile, &map, &barrier, c, w, h, n, offset_w, offset_h);
  });
}

__global__ void tensor_store_kernel(const __grid_constant__ CUtensorMap map, int elements, int rank,
                                    Coordinates c) {
  SIMT_DYN_SHARED(float, tile, 128);
  for (int i = static_cast<int>(threadIdx.x); i < elements; i += 32)
    tile[i] = static_cast<float>(i);
  ptx::fence_proxy_async();  // this thread's stores, to the copy that follows the barrier
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (rank == 2) ptx::tma_store(&map, tile, c.at[0], c.at[1]);
  if (rank == 3) ptx::tma_store(&map, tile, c.at[0], c.at[1], c.at[2]);
  if (rank == 4) ptx::tma_store(&map, tile, c.at[0], c.at[1], c.at[2], c.at[3]);
  if (rank == 5) ptx::tma_store(&map, tile, c.at[0], c.at[1], c.at[2], c.at[3], c.at[4]);
  ptx::tma_store_commit();
  ptx::tma_store_wait<0>();
}

// Matrix descriptor of 64 x 64 16-bit elements in rows of 128 bytes, swizzled by as much.
__device__ std::uint64_t describe(const void* tile) {
  constexpr std::uint64_t kSwizzle128 = 1, kEightRows = 1024 >> 4, kUnused = 1;
  return (ptx::smem_u32(tile) & 0x3ffff) >> 4 | kUnused << 16 | kEightRows << 32 |
         kSwizzle128 << 62;
}

template <class T, int N, int TransposeB>
__global__ void wgmma_kernel(const __grid_constant__ CUtensorMap map_a,
                             const __grid_constant__ CUtensorMap map_b, float* d) {
  SIMT_DYN_SHARED(std::uint8_t, s_a, 1024);
  SIMT_SHARED(std::uint64_t, barrier, );
  constexpr int kTile = 64 * 128;  // bytes of 64 rows
  std::uint8_t* s_b = s_a + kTile;
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) {
    ptx::mbar_init(&barrier, 1);
    ptx::fence_mbar_init();
    ptx::mbar_arrive_expect_tx(&barrier, kTile + N / 64 * kTile);
    ptx::tma_load(s_a, &map_a, &barrier, 0, 0);
    for (int tile = 0; tile < N / 64; ++tile)
      ptx::tma_load(s_b + tile * kTile, &map_b, &barrier, 0, tile * 64);
  }
  __syncthreads();  // the barrier's init before its first wait
  ptx::mbar_wait(&barrier, 0);
  float sum[N / 2];
  for (float& x : sum) x = 0;
  ptx::wgmma_fence();
  for (int k = 0; k < 4; ++k) {
    // 16 further along k: 32 bytes within a swizzled row, or 16 rows.
    const std::uint64_t step_a = 32 >> 4, step_b = (TransposeB != 0 ? 16 * 128 : 32) >> 4;
    ptx::wgmma<T, 0, TransposeB>(sum, describe(s_a) + k * step_a, describe(s_b) + k * step_b,
                                 k > 0);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  for (int i = 0; i < N / 2; ++i)
    d[(t / 32 * 16 + t % 32 / 4 + (i & 2) * 4) * N + i / 4 * 8 + t % 4 * 2 + i % 2] = sum[i];
}

__global__ void cluster_exchange_kernel(const float* x, float* y) {
  SIMT_SHARED(float, mine, [32]);
  SIMT_SHARED(float, sent, [32]);
  SIMT_SHARED(std::uint64_t, barrier, );
  const unsigned t = threadIdx.x, i = blockIdx.x * 32 + t;
  const unsigned rank = ptx::cluster_rank(), size = ptx::cluster_size();
  if (t == 0) {
    ptx::mbar_init(&barrier, 1);
    ptx::fence_mbar_init();
  }
  mine[t] = x[i];
  ptx::cluster_sync();
  const float next = ptx::ld(ptx::map_shared(mine, (rank + 1) % size) + t);
  y[i] = next;
  const unsigned before = (rank + size - 1) % size;
  ptx::st(ptx::map_shared(sent, before) + t, 2 * next);
  __syncwarp();  // puts the warp's stores before its arrival
  if (t == 0) ptx::mbar_release_at(ptx::barriers_of(&barrier, before));
  ptx::mbar_wait_cluster(&barrier, 0);
  y[gridDim.x * 32 + i] = mine[t] + sent[t];
  ptx::cluster_sync();
}

__global__ void tensor_multicast_kernel(const __grid_constant__ CUtensorMap map, std::uint8_t* y,
                                        int bytes, int box_rows) {
  SIMT_DYN_SHARED(std::uint8_t, tile, 128);
  SIMT_SHARED(std::uint64_t, barrier, );
  const int size = static_cast<int>(ptx::cluster_size()),
            rank = static_cast<int>(ptx::cluster_rank());
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) {
    ptx::mbar_init(&barrier, 1);
    ptx::fence_mbar_init();
  }
  ptx::cluster_sync();
  if (t == 0) {
    ptx::mbar_arrive_expect_tx(&barrier, size * bytes);
    ptx::tma_load_multicast(tile + rank * bytes, &map, &barrier, (1u << size) - 1, 0,
                            rank * box_rows);
  }
  ptx::mbar_wait(&barrier, 0);
  for (int i = t; i < size * bytes; i += 32) y[rank * size * bytes + i] = tile[i];
  ptx::cluster_sync();
}

__global__ void grid_sync_kernel(float* x, float* y) {
  const unsigned i = blockIdx.x * 32 + threadIdx.x;
  x[i] = static_cast<float>(i);
  simt::grid_sync();
  y[i] = x[(i + 32) % (gridDim.x * 32)];
}

__global__ void histogram_kernel(const int* x, unsigned* counts, int size) {
  SIMT_SHARED(unsigned, bins, [64]);
  if (threadIdx.x < 64) bins[threadIdx.x] = 0;
  __syncthreads();
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < static_cast<unsigned>(size);
       i += gridDim.x * blockDim.x)
    atomicAdd(&bins[x[i] & 63], 1u);
  __syncthreads();
  if (threadIdx.x < 64) atomicAdd(&counts[threadIdx.x], bins[threadIdx.x]);
}

__global__ void last_block_sum_kernel(const float* x, float* partial, unsigned* arrived,
                                      float* sum) {
  SIMT_SHARED(float, values, [64]);
  SIMT_SHARED(bool, last, );
  const unsigned t = threadIdx.x;
  values[t] = x[blockIdx.x * 64 + t];
  __syncthreads();
  if (t == 0) {
    float total = 0;
    for (int i = 0; i < 64; ++i) total += values[i];
    partial[blockIdx.x] = total;
    __threadfence();  // the block's sum before its arrival
    last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last || t != 0) return;
  __threadfence();  // the last arrival before the other blocks' sums
  float total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += __ldcg(partial + i);
  *sum = total;
}

__global__ void math_kernel(const float* x, float* y, int size) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= size) return;
  y[kTF32 * size + i] = __uint_as_float(ptx::to_tf32(x[i]));
  y[kTanh * size + i] = ptx::tanh_approx(x[i]);
  y[kExp2 * size + i] = ptx::ex2_approx(x[i]);
  y[kReciprocal * size + i] = ptx::rcp_approx(x[i]);
  const __nv_bfloat162 v = __float2bfloat162_rn(x[i]);
  y[kFma * size + i] = __low2float(__hfma2(v, v, v));
}

template <int Pitch>
__global__ void transpose_kernel(const float* x, float* y, int n) {
  SIMT_SHARED(float, tile, [32][Pitch]);
  const unsigned column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
  tile[threadIdx.y][threadIdx.x] = x[row * n + column];
  __syncthreads();
  y[(blockIdx.x * 32 + threadIdx.y) * n + blockIdx.y * 32 + threadIdx.x] =
      tile[threadIdx.x][threadIdx.y];
}

template <class T, int N, int TransposeB>
void launch_wgmma(const CUtensorMap& a, const CUtensorMap& b, float* d) {
  simt::launch(wgmma_kernel<T, N, TransposeB>, 1, 128, 64 * 128 * (1 + N / 64), nullptr, a, b, d);
}

}  // namespace

void run_warp_operations(int* results) {
  simt::launch(warp_operations_kernel, 1, 32, 0, nullptr, results);
}
void run_block_operations(int* results) {
  simt::launch(block_operations_kernel, 1, 64, 0, nullptr, results);
}
void run_ping_pong(const float* x, float* y, int rounds) {
  simt::launch(ping_pong_kernel, 1, 64, 0, nullptr, x, y, rounds);
}
void run_copy_async(const std::uint8_t* x, std::uint8_t* y, int bytes) {
  simt::launch(copy_async_kernel, 1, 32, 3 * 64, nullptr, x, y, bytes);
}
void run_load_matrix(const std::uint16_t* x, std::uint32_t* registers, bool transpose) {
  simt::launch(load_matrix_kernel, 1, 32, 32 * 16, nullptr, x, registers, transpose);
}
void run_store_matrix(const std::uint32_t* registers, std::uint16_t* y, bool transpose) {
  simt::launch(store_matrix_kernel, 1, 32, 32 * 16, nullptr, registers, y, transpose);
}

template <class T>
void run_mma(const T* a, const T* b, float* d) {
  simt::launch(mma_kernel<T>, 1, 32, 0, nullptr, a, b, d);
}
template void run_mma(const __nv_bfloat16*, const __nv_bfloat16*, float*);
template void run_mma(const __half*, const __half*, float*);
template void run_mma(const float*, const float*, float*);

void run_tensor_load(const CUtensorMap& map, std::uint8_t* y, int bytes, int rank,
                     const int (&at)[5]) {
  const Coordinates c = {{at[0], at[1], at[2], at[3], at[4]}};
  simt::launch(tensor_load_kernel, 1, 32, bytes, nullptr, map, y, bytes, rank, c);
}
void run_tensor_load_im2col(const CUtensorMap& map, std::uint8_t* y, int bytes, int c, int w, int h,
                            int n, int offset_w, int offset_h) {
  simt::launch(tensor_load_im2col_kernel, 1, 32, bytes, nullptr, map, y, bytes, c, w, h, n,
               offset_w, offset_h);
}
void run_tensor_store(const CUtensorMap& map, int elements, int rank, const int (&at)[5]) {
  const Coordinates c = {{at[0], at[1], at[2], at[3], at[4]}};
  simt::launch(tensor_store_kernel, 1, 32, elements * sizeof(float), nullptr, map, elements, rank,
               c);
}

template <class T>
void run_wgmma(const CUtensorMap& a, const CUtensorMap& b, float* d, int n, bool transpose_b) {
  if (transpose_b) launch_wgmma<T, 64, 1>(a, b, d);
  if (!transpose_b && n == 64) launch_wgmma<T, 64, 0>(a, b, d);
  if (!transpose_b && n == 128) launch_wgmma<T, 128, 0>(a, b, d);
  if (!transpose_b && n == 256) launch_wgmma<T, 256, 0>(a, b, d);
}
template void run_wgmma<__nv_bfloat16>(const CUtensorMap&, const CUtensorMap&, float*, int, bool);
template void run_wgmma<__half>(const CUtensorMap&, const CUtensorMap&, float*, int, bool);

void run_cluster_exchange(const float* x, float* y, int clusters, int cluster) {
  simt::launch_clusters(static_cast<unsigned>(cluster), cluster_exchange_kernel,
                        static_cast<unsigned>(clusters * cluster), 32, 0, nullptr, x, y);
}
void run_tensor_multicast(const CUtensorMap& map, std::uint8_t* y, int bytes, int box_rows,
                          int cluster) {
  simt::launch_clusters(static_cast<unsigned>(cluster), tensor_multicast_kernel,
                        static_cast<unsigned>(cluster), 32, cluster * bytes, nullptr, map, y, bytes,
                        box_rows);
}
void run_grid_sync(float* x, float* y) {
  simt::launch_ex(true, grid_sync_kernel, 8, 32, 0, nullptr, x, y);
}
void run_histogram(const int* x, unsigned* counts, int size) {
  simt::launch(histogram_kernel, 4, 128, 0, nullptr, x, counts, size);
}
void run_last_block_sum(const float* x, float* partial, unsigned* arrived, float* sum, int blocks) {
  simt::launch(last_block_sum_kernel, static_cast<unsigned>(blocks), 64, 0, nullptr, x, partial,
               arrived, sum);
}
void run_math(const float* x, float* y, int size) {
  simt::launch(math_kernel, 1, 256, 0, nullptr, x, y, size);
}
void run_transpose(const float* x, float* y, int n, bool padded, cudaStream_t stream) {
  const auto tiles = static_cast<unsigned>(n / 32);
  simt::launch(padded ? transpose_kernel<33> : transpose_kernel<32>, dim3(tiles, tiles),
               dim3(32, 32), 0, stream, x, y, n);
}

}  // namespace tessera::test
