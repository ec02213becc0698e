// The device half of kernel.h, for nvcc: shared memory, launches, and each PTX instruction that the
// kernels use as a named function. Instructions of sm_90a trap where the code is compiled for an
// older architecture; which kernel runs is chosen by the launcher.
//
// fmt, and so kernels/error.h, does not compile under nvcc with C++20: errors go through
// cuda_check.
#pragma once

#include <type_traits>
#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/shared_memory.h"

#define SIMT_SHARED(T, name, dims) __shared__ T name dims
// `align` must be a literal: blocks of one kernel that ask for different alignments are different
// symbols at one address.
#define SIMT_DYN_SHARED(T, name, align)    \
  extern __shared__ __align__(align)       \
  unsigned char simt_dyn_shared_##align[]; \
  T* const name = reinterpret_cast<T*>(simt_dyn_shared_##align)

#define PTX_INLINE __device__ __forceinline__

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PTX_SM90(...) __VA_ARGS__
#else
#define PTX_SM90(...) __trap()
#endif

namespace ptx {

// ---- Memory and numbers

// The address of shared memory as the instructions below take it.
PTX_INLINE uint32_t smem_u32(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// One access of sizeof(V) bytes.
template <class V>
PTX_INLINE V ld(const V* p) {
  return *p;
}
template <class V>
PTX_INLINE void st(V* p, std::type_identity_t<V> value) {
  *p = value;
}

// Rounded to 10 bits of mantissa, ties away from zero.
PTX_INLINE uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
// Relative error of at most 2^-11.
PTX_INLINE float tanh_approx(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 2^x, with a relative error of at most 2^-22.
PTX_INLINE float ex2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 1 / x, within 1 ulp.
PTX_INLINE float rcp_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// ---- sm_80

// Copies `src_bytes` of global memory to shared memory and zeroes the rest of `Bytes`. `src` may be
// any address where `src_bytes` is 0.
template <int Bytes = 16>
PTX_INLINE void cp_async(void* dst, const void* src, int src_bytes = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_u32(dst)), "l"(src),
                 "r"(src_bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(smem_u32(dst)), "l"(src),
                 "n"(Bytes), "r"(src_bytes)
                 : "memory");
}
PTX_INLINE void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most the last N groups that this thread committed are under way.
template <int N>
PTX_INLINE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// 8 x 8 matrices of 16-bit elements: lane 8 i + r gives the address of row r of matrix i; lane
// 4 r + c gets elements 2 c and 2 c + 1 of row r (of column r, _trans).
#define PTX_LDMATRIX(suffix, trans)                                                          \
  PTX_INLINE void ldmatrix_x1##suffix(uint32_t(&r)[1], const void* row) {                    \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 {%0}, [%1];"             \
                 : "=r"(r[0])                                                                \
                 : "r"(smem_u32(row))                                                        \
                 : "memory");                                                                \
  }                                                                                          \
  PTX_INLINE void ldmatrix_x2##suffix(uint32_t(&r)[2], const void* row) {                    \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 {%0, %1}, [%2];"         \
                 : "=r"(r[0]), "=r"(r[1])                                                    \
                 : "r"(smem_u32(row))                                                        \
                 : "memory");                                                                \
  }                                                                                          \
  PTX_INLINE void ldmatrix_x4##suffix(uint32_t(&r)[4], const void* row) {                    \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                            \
                 : "r"(smem_u32(row))                                                        \
                 : "memory");                                                                \
  }
PTX_LDMATRIX(, "")
PTX_LDMATRIX(_trans, ".trans")
#undef PTX_LDMATRIX

// d = a b + c; a (16, k) row-major, b (k, 8) column-major. T is __nv_bfloat16 or __half.
#define PTX_MMA(shape_and_types)                                                              \
  asm volatile("mma.sync.aligned." shape_and_types                                            \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"         \
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])                               \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), \
                 "f"(c[1]), "f"(c[2]), "f"(c[3]))
template <class T>
PTX_INLINE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             const float (&c)[4]) {
  if constexpr (std::is_same_v<T, __half>)
    PTX_MMA("m16n8k16.row.col.f32.f16.f16.f32");
  else
    PTX_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}
PTX_INLINE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                 const float (&c)[4]) {
  PTX_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}
#undef PTX_MMA

// Named barriers 1..15 (0 is __syncthreads): of `threads` threads, a multiple of 32.
PTX_INLINE void bar_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
PTX_INLINE void bar_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- sm_90: barriers in shared memory that count arrivals and bytes

PTX_INLINE void mbar_init(uint64_t* bar, int count) {
  PTX_SM90(asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_u32(bar)), "r"(count)
                        : "memory"));
}
PTX_INLINE void mbar_arrive(uint64_t* bar) {
  PTX_SM90(asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_u32(bar))
                        : "memory"));
}
// Arrives, and lets the phase end only once `bytes` more have been copied.
PTX_INLINE void mbar_arrive_expect_tx(uint64_t* bar, int bytes) {
  PTX_SM90(asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_u32(bar)), "r"(bytes)
      : "memory"));
}
// Has the phase of this parity ended?
PTX_INLINE bool mbar_test_wait(uint64_t* bar, int parity) {
  uint32_t ended = 0;
  PTX_SM90(
      asm volatile("{\n.reg .pred p;\n"
                   "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                   "selp.u32 %0, 1, 0, p;\n}"
                   : "=r"(ended)
                   : "r"(smem_u32(bar)), "r"(parity)
                   : "memory"));
  return ended != 0;
}
PTX_INLINE void mbar_wait(uint64_t* bar, int parity) {
  while (!mbar_test_wait(bar, parity)) {
  }
}
// The same, for other blocks' arrivals by mbar_release_at(): what they stored before is then seen.
PTX_INLINE void mbar_wait_cluster(uint64_t* bar, int parity) {
  uint32_t ended = 0;
  while (ended == 0)
    PTX_SM90(
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(ended)
                     : "r"(smem_u32(bar)), "r"(parity)
                     : "memory"));
}
// Barriers that lie behind each other, in block `rank` of the cluster, which may be this one.
struct ClusterBarriers {
  uint32_t first;
};
PTX_INLINE ClusterBarriers barriers_of(uint64_t* bars, unsigned rank) {
  ClusterBarriers there{smem_u32(bars)};
  PTX_SM90(asm("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(there.first)
               : "r"(smem_u32(bars)), "r"(rank)));
  return there;
}
// Says that the thread has read what it had to, and no more: a release to the cluster, which waits
// for all its stores, is ten times the instructions.
PTX_INLINE void mbar_arrive_at(ClusterBarriers bars, int i = 0) {
  PTX_SM90(asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(bars.first + 8 * i)
                        : "memory"));
}
// The same, and makes the thread's stores visible to those that mbar_wait_cluster() for it.
PTX_INLINE void mbar_release_at(ClusterBarriers bars, int i = 0) {
  PTX_SM90(asm volatile(
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(bars.first + 8 * i)
      : "memory"));
}
// Makes an mbar_init visible to the copies that will signal the barrier.
PTX_INLINE void fence_mbar_init() {
  PTX_SM90(asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"));
}
// Makes this thread's stores to shared memory visible to wgmma and TMA.
PTX_INLINE void fence_proxy_async() {
  PTX_SM90(asm volatile("fence.proxy.async.shared::cta;" ::: "memory"));
}

// ---- sm_90: tensor copies (TMA). Coordinates innermost first, as in the tensor map.

PTX_INLINE void tma_prefetch(const CUtensorMap* map) {
  PTX_SM90(asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"));
}

// The box at these coordinates, zeros outside the tensor, to shared memory; `bar` counts its bytes.
#define PTX_TMA_LOAD(dims, coordinates, ...)                                                      \
  PTX_SM90(                                                                                       \
      asm volatile("cp.async.bulk.tensor." dims                                                   \
                   ".shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, " coordinates \
                   "], [%2];" ::"r"(smem_u32(dst)),                                               \
                   "l"(map), "r"(smem_u32(bar)), __VA_ARGS__                                      \
                   : "memory"))
PTX_INLINE void tma_load(void* dst, const CUtensorMap* map, uint64_t* bar, int c0, int c1) {
  PTX_TMA_LOAD("2d", "{%3, %4}", "r"(c0), "r"(c1));
}
PTX_INLINE void tma_load(void* dst, const CUtensorMap* map, uint64_t* bar, int c0, int c1, int c2) {
  PTX_TMA_LOAD("3d", "{%3, %4, %5}", "r"(c0), "r"(c1), "r"(c2));
}
PTX_INLINE void tma_load(void* dst, const CUtensorMap* map, uint64_t* bar, int c0, int c1, int c2,
                         int c3) {
  PTX_TMA_LOAD("4d", "{%3, %4, %5, %6}", "r"(c0), "r"(c1), "r"(c2), "r"(c3));
}
PTX_INLINE void tma_load(void* dst, const CUtensorMap* map, uint64_t* bar, int c0, int c1, int c2,
                         int c3, int c4) {
  PTX_TMA_LOAD("5d", "{%3, %4, %5, %6, %7}", "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4));
}
#undef PTX_TMA_LOAD

// The same to each block of `ranks`, a bit each: at `dst` and `bar` as they lie in that block.
#define PTX_TMA_MULTICAST(dims, coordinates, ...)                                                  \
  PTX_SM90(asm volatile("cp.async.bulk.tensor." dims                                               \
                        ".shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster " \
                        "[%0], [%1, " coordinates "], [%2], %3;" ::"r"(smem_u32(dst)),             \
                        "l"(map), "r"(smem_u32(bar)), "h"(static_cast<short>(ranks)), __VA_ARGS__  \
                        : "memory"))
PTX_INLINE void tma_load_multicast(void* dst, const CUtensorMap* map, uint64_t* bar, unsigned ranks,
                                   int c0, int c1) {
  PTX_TMA_MULTICAST("2d", "{%4, %5}", "r"(c0), "r"(c1));
}
PTX_INLINE void tma_load_multicast(void* dst, const CUtensorMap* map, uint64_t* bar, unsigned ranks,
                                   int c0, int c1, int c2) {
  PTX_TMA_MULTICAST("3d", "{%4, %5, %6}", "r"(c0), "r"(c1), "r"(c2));
}
#undef PTX_TMA_MULTICAST

// Successive pixels of the map's bounding box from (w, h, n) on, each moved by the offsets of the
// filter tap; channels from c on.
PTX_INLINE void tma_load_im2col(void* dst, const CUtensorMap* map, uint64_t* bar, int c, int w,
                                int h, int n, int offset_w, int offset_h) {
  PTX_SM90(asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(smem_u32(dst)),
      "l"(map), "r"(smem_u32(bar)), "r"(c), "r"(w), "r"(h), "r"(n),
      "h"(static_cast<short>(offset_w)), "h"(static_cast<short>(offset_h))
      : "memory"));
}

// A box of shared memory to global memory; what lies outside the tensor is not written.
#define PTX_TMA_STORE(dims, coordinates, ...)                                                     \
  PTX_SM90(asm volatile("cp.async.bulk.tensor." dims                                              \
                        ".global.shared::cta.bulk_group [%0, " coordinates "], [%1];" ::"l"(map), \
                        "r"(smem_u32(src)), __VA_ARGS__                                           \
                        : "memory"))
PTX_INLINE void tma_store(const CUtensorMap* map, const void* src, int c0, int c1) {
  PTX_TMA_STORE("2d", "{%2, %3}", "r"(c0), "r"(c1));
}
PTX_INLINE void tma_store(const CUtensorMap* map, const void* src, int c0, int c1, int c2) {
  PTX_TMA_STORE("3d", "{%2, %3, %4}", "r"(c0), "r"(c1), "r"(c2));
}
PTX_INLINE void tma_store(const CUtensorMap* map, const void* src, int c0, int c1, int c2, int c3) {
  PTX_TMA_STORE("4d", "{%2, %3, %4, %5}", "r"(c0), "r"(c1), "r"(c2), "r"(c3));
}
PTX_INLINE void tma_store(const CUtensorMap* map, const void* src, int c0, int c1, int c2, int c3,
                          int c4) {
  PTX_TMA_STORE("5d", "{%2, %3, %4, %5, %6}", "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4));
}
#undef PTX_TMA_STORE
PTX_INLINE void tma_store_commit() {
  PTX_SM90(asm volatile("cp.async.bulk.commit_group;" ::: "memory"));
}
// Until at most the last N committed groups of stores still read shared memory. What the others
// wrote is seen by the kernels behind this one.
template <int N>
PTX_INLINE void tma_store_wait() {
  PTX_SM90(asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory"));
}

// ---- sm_90: clusters of blocks (simt::launch_clusters), which reach each other's shared memory

PTX_INLINE unsigned cluster_rank() {  // of this block in its cluster
  uint32_t rank = 0;
  PTX_SM90(asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank)));
  return rank;
}
PTX_INLINE unsigned cluster_size() {
  uint32_t size = 1;
  PTX_SM90(asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size)));
  return size;
}
// A barrier of all threads of the cluster, in two steps. Without .aligned: the threads of a warp
// may come to it one by one.
PTX_INLINE void cluster_arrive() {
  PTX_SM90(asm volatile("barrier.cluster.arrive.release;" ::: "memory"));
}
PTX_INLINE void cluster_wait() {
  PTX_SM90(asm volatile("barrier.cluster.wait.acquire;" ::: "memory"));
}
// Comes before the first use of another block's shared memory, which may not have begun, and behind
// the last one, which may end.
PTX_INLINE void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}
// The address in block `rank` of the cluster of what lies at `p` in this block's shared memory.
template <class T>
PTX_INLINE T* map_shared(T* p, unsigned rank) {
  uint64_t there = 0;
  PTX_SM90(asm volatile("mapa.u64 %0, %1, %2;"
                        : "=l"(there)
                        : "l"(reinterpret_cast<uint64_t>(p)), "r"(rank)));
  return reinterpret_cast<T*>(there);
}

// ---- sm_90: ldmatrix the other way round

#define PTX_STMATRIX(suffix, trans)                                                   \
  PTX_INLINE void stmatrix_x1##suffix(void* row, const uint32_t(&r)[1]) {             \
    PTX_SM90(asm volatile("stmatrix.sync.aligned.m8n8.x1" trans                       \
                          ".shared.b16 [%0], {%1};" ::"r"(smem_u32(row)),             \
                          "r"(r[0])                                                   \
                          : "memory"));                                               \
  }                                                                                   \
  PTX_INLINE void stmatrix_x2##suffix(void* row, const uint32_t(&r)[2]) {             \
    PTX_SM90(asm volatile("stmatrix.sync.aligned.m8n8.x2" trans                       \
                          ".shared.b16 [%0], {%1, %2};" ::"r"(smem_u32(row)),         \
                          "r"(r[0]), "r"(r[1])                                        \
                          : "memory"));                                               \
  }                                                                                   \
  PTX_INLINE void stmatrix_x4##suffix(void* row, const uint32_t(&r)[4]) {             \
    PTX_SM90(asm volatile("stmatrix.sync.aligned.m8n8.x4" trans                       \
                          ".shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(smem_u32(row)), \
                          "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])                  \
                          : "memory"));                                               \
  }
PTX_STMATRIX(, "")
PTX_STMATRIX(_trans, ".trans")
#undef PTX_STMATRIX

// ---- sm_90: products of a warpgroup (four warps)

// Orders the accumulators' earlier uses before the products that follow.
PTX_INLINE void wgmma_fence() {
  PTX_SM90(asm volatile("wgmma.fence.sync.aligned;" ::: "memory"));
}
PTX_INLINE void wgmma_commit() {
  PTX_SM90(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"));
}
// Until at most the last N committed groups are under way.
template <int N>
PTX_INLINE void wgmma_wait() {
  PTX_SM90(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"));
}

// Accumulators d[8 i ..]: as text of the instruction, and as its operands.
#define PTX_D0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define PTX_D1 "%8, %9, %10, %11, %12, %13, %14, %15"
#define PTX_D2 "%16, %17, %18, %19, %20, %21, %22, %23"
#define PTX_D3 "%24, %25, %26, %27, %28, %29, %30, %31"
#define PTX_D4 "%32, %33, %34, %35, %36, %37, %38, %39"
#define PTX_D5 "%40, %41, %42, %43, %44, %45, %46, %47"
#define PTX_D6 "%48, %49, %50, %51, %52, %53, %54, %55"
#define PTX_D7 "%56, %57, %58, %59, %60, %61, %62, %63"
#define PTX_D8 "%64, %65, %66, %67, %68, %69, %70, %71"
#define PTX_D9 "%72, %73, %74, %75, %76, %77, %78, %79"
#define PTX_D10 "%80, %81, %82, %83, %84, %85, %86, %87"
#define PTX_D11 "%88, %89, %90, %91, %92, %93, %94, %95"
#define PTX_D12 "%96, %97, %98, %99, %100, %101, %102, %103"
#define PTX_D13 "%104, %105, %106, %107, %108, %109, %110, %111"
#define PTX_D14 "%112, %113, %114, %115, %116, %117, %118, %119"
#define PTX_D15 "%120, %121, %122, %123, %124, %125, %126, %127"
#define PTX_D(i)                                                                                  \
  "+f"(d[8 * i]), "+f"(d[8 * i + 1]), "+f"(d[8 * i + 2]), "+f"(d[8 * i + 3]), "+f"(d[8 * i + 4]), \
      "+f"(d[8 * i + 5]), "+f"(d[8 * i + 6]), "+f"(d[8 * i + 7])
#define PTX_D_32 PTX_D0 ", " PTX_D1
#define PTX_D_64 PTX_D_32 ", " PTX_D2 ", " PTX_D3
#define PTX_D_96 PTX_D_64 ", " PTX_D4 ", " PTX_D5
#define PTX_D_128 PTX_D_96 ", " PTX_D6 ", " PTX_D7
#define PTX_D_160 PTX_D_128 ", " PTX_D8 ", " PTX_D9
#define PTX_D_176 PTX_D_160 ", " PTX_D10
#define PTX_D_192 PTX_D_176 ", " PTX_D11
#define PTX_D_208 PTX_D_192 ", " PTX_D12
#define PTX_D_224 PTX_D_208 ", " PTX_D13
#define PTX_D_256 PTX_D_224 ", " PTX_D14 ", " PTX_D15
#define PTX_D_OPERANDS_32 PTX_D(0), PTX_D(1)
#define PTX_D_OPERANDS_64 PTX_D_OPERANDS_32, PTX_D(2), PTX_D(3)
#define PTX_D_OPERANDS_96 PTX_D_OPERANDS_64, PTX_D(4), PTX_D(5)
#define PTX_D_OPERANDS_128 PTX_D_OPERANDS_96, PTX_D(6), PTX_D(7)
#define PTX_D_OPERANDS_160 PTX_D_OPERANDS_128, PTX_D(8), PTX_D(9)
#define PTX_D_OPERANDS_176 PTX_D_OPERANDS_160, PTX_D(10)
#define PTX_D_OPERANDS_192 PTX_D_OPERANDS_176, PTX_D(11)
#define PTX_D_OPERANDS_208 PTX_D_OPERANDS_192, PTX_D(12)
#define PTX_D_OPERANDS_224 PTX_D_OPERANDS_208, PTX_D(13)
#define PTX_D_OPERANDS_256 PTX_D_OPERANDS_224, PTX_D(14), PTX_D(15)
// The operands after the n / 2 accumulators: both descriptors, scale_d, both transpositions.
#define PTX_WGMMA(n, types, a_text, b_text, scale_text, transpose_text)                     \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " scale_text                               \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16.f32." types " {" PTX_D_##n \
               "}, " a_text ", " b_text ", p, 1, 1, " transpose_text ";\n}"                 \
               : PTX_D_OPERANDS_##n                                                         \
               : "l"(a), "l"(b), "r"(scale_d), "n"(TransposeA), "n"(TransposeB))
#define PTX_WGMMA_TYPES(n, a_text, b_text, scale_text, transpose_text)   \
  if constexpr (std::is_same_v<T, __half>)                               \
    PTX_WGMMA(n, "f16.f16", a_text, b_text, scale_text, transpose_text); \
  else                                                                   \
    PTX_WGMMA(n, "bf16.bf16", a_text, b_text, scale_text, transpose_text)

// d = a b, or d += a b where scale_d is not 0; (64, 16) x (16, 2 Registers), operands in shared
// memory, given by matrix descriptors. Transpose: 0 where k is the contiguous axis, 1 where it is
// not. Thread t holds rows 16 (t / 32) + t % 32 / 4 (+ 8) and columns 8 j + 2 (t % 4) (+ 1).
template <class T, int TransposeA = 0, int TransposeB = 0, int Registers>
PTX_INLINE void wgmma(float (&d)[Registers], uint64_t a, uint64_t b, int scale_d) {
  static_assert(Registers == 16 || Registers == 32 || Registers == 48 || Registers == 64 ||
                    Registers == 80 || Registers == 88 || Registers == 96 || Registers == 104 ||
                    Registers == 112 || Registers == 128,
                "wgmma is wrapped for n = 32, 64, 96, 128, 160, 176, 192, 208, 224 and 256");
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (Registers == 16) {
    PTX_WGMMA_TYPES(32, "%16", "%17", "%18", "%19, %20");
  } else if constexpr (Registers == 32) {
    PTX_WGMMA_TYPES(64, "%32", "%33", "%34", "%35, %36");
  } else if constexpr (Registers == 48) {
    PTX_WGMMA_TYPES(96, "%48", "%49", "%50", "%51, %52");
  } else if constexpr (Registers == 64) {
    PTX_WGMMA_TYPES(128, "%64", "%65", "%66", "%67, %68");
  } else if constexpr (Registers == 80) {
    PTX_WGMMA_TYPES(160, "%80", "%81", "%82", "%83, %84");
  } else if constexpr (Registers == 88) {
    PTX_WGMMA_TYPES(176, "%88", "%89", "%90", "%91, %92");
  } else if constexpr (Registers == 104) {
    PTX_WGMMA_TYPES(208, "%104", "%105", "%106", "%107, %108");
  } else if constexpr (Registers == 112) {
    PTX_WGMMA_TYPES(224, "%112", "%113", "%114", "%115, %116");
  } else if constexpr (Registers == 96) {
    PTX_WGMMA_TYPES(192, "%96", "%97", "%98", "%99, %100");
  } else {
    PTX_WGMMA_TYPES(256, "%128", "%129", "%130", "%131, %132");
  }
#else
  __trap();
#endif
}
template <int TransposeA = 0, int TransposeB = 0, int Registers>
PTX_INLINE void wgmma_bf16(float (&d)[Registers], uint64_t a, uint64_t b, int scale_d) {
  wgmma<__nv_bfloat16, TransposeA, TransposeB>(d, a, b, scale_d);
}

// ---- sm_90: warp specialisation

// The registers per thread of this warpgroup become N.
template <int N>
PTX_INLINE void setmaxnreg_inc() {
  PTX_SM90(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)));
}
template <int N>
PTX_INLINE void setmaxnreg_dec() {
  PTX_SM90(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)));
}
// True for one lane of a full warp.
PTX_INLINE bool elect_one() {
  uint32_t elected = 0;
  PTX_SM90(
      asm volatile("{\n.reg .pred p;\n"
                   "elect.sync _|p, 0xffffffff;\n"
                   "selp.u32 %0, 1, 0, p;\n}"
                   : "=r"(elected)));
  return elected != 0;
}

}  // namespace ptx

namespace simt {

// How the blocks of a launch stand to each other.
struct Blocks {
  bool cooperative = false;  // all are resident at once
  unsigned cluster = 1;      // so many neighbours along x are, and reach each other's shared memory
};

// Launches `kernel` on `stream`; throws tessera::Error where the runtime refuses.
template <class... Parameters, class... Arguments>
void launch_as(Blocks blocks, void (*kernel)(Parameters...), dim3 grid, dim3 block,
               std::size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  constexpr std::size_t kSharedWithoutOptIn = 48 * 1024;
  if (shared_bytes > kSharedWithoutOptIn)
    tessera::allow_shared_memory(reinterpret_cast<const void*>(kernel), shared_bytes);
  cudaLaunchAttribute attributes[2]{};
  unsigned count = 0;
  if (blocks.cooperative) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  if (blocks.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {blocks.cluster, 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  tessera::cuda_check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...),
                      "launch of a kernel");
}

}  // namespace simt

#include "kernels/cuda/launch.h"
