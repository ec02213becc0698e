// ptx:: over the emulated machine; part of emulated.h. device.h has the same names over inline PTX,
// and says what each of them does.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace ptx {

// ---- Memory and numbers

SIMT_INLINE std::uint32_t smem_u32(const void* p) {
  return simt::machine::shared_address(p);
}

// One access of sizeof(V) bytes whatever V is; the compiler may split that of a plain copy.
template <class V>
SIMT_INLINE V ld(const V* p) {
  simt::machine::access(p, sizeof(V), false);
  V value;
  [&]() SIMT_UNCHECKED { std::memcpy(static_cast<void*>(&value), p, sizeof(V)); }();
  return value;
}
template <class V>
SIMT_INLINE void st(V* p, std::type_identity_t<V> value) {
  simt::machine::access(p, sizeof(V), true);
  [&]() SIMT_UNCHECKED { std::memcpy(static_cast<void*>(p), &value, sizeof(V)); }();
}

SIMT_INLINE std::uint32_t to_tf32(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;  // infinities and NaNs stay as they are
  return (bits + 0x1000u) & 0xffffe000u;
}
// The device's error bound, 2^-11 relative, is met by rounding to 11 significant bits.
SIMT_INLINE float tanh_approx(float x) {
  return std::bit_cast<float>(to_tf32(std::tanh(x)));
}
SIMT_INLINE float ex2_approx(float x) {
  return std::exp2(x);
}
SIMT_INLINE float rcp_approx(float x) {
  return 1.0f / x;
}

// ---- sm_80

template <int Bytes = 16>
SIMT_INLINE void cp_async(void* dst, const void* src, int src_bytes = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  simt::machine::copy_async(dst, src, Bytes, src_bytes);
}
SIMT_INLINE void cp_async_commit() {
  simt::machine::copy_async_commit();
}
template <int N>
SIMT_INLINE void cp_async_wait() {
  simt::machine::copy_async_wait(N);
}

SIMT_INLINE void ldmatrix_x1(std::uint32_t (&r)[1], const void* row) {
  simt::machine::load_matrix(r, 1, row, false);
}
SIMT_INLINE void ldmatrix_x1_trans(std::uint32_t (&r)[1], const void* row) {
  simt::machine::load_matrix(r, 1, row, true);
}
SIMT_INLINE void ldmatrix_x2(std::uint32_t (&r)[2], const void* row) {
  simt::machine::load_matrix(r, 2, row, false);
}
SIMT_INLINE void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void* row) {
  simt::machine::load_matrix(r, 2, row, true);
}
SIMT_INLINE void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
  simt::machine::load_matrix(r, 4, row, false);
}
SIMT_INLINE void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row) {
  simt::machine::load_matrix(r, 4, row, true);
}

template <class T>
inline constexpr auto kOperand =
    std::is_same_v<T, __half> ? simt::machine::Operand::kF16 : simt::machine::Operand::kBF16;

template <class T>
SIMT_INLINE void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4],
                              const std::uint32_t (&b)[2], const float (&c)[4]) {
  simt::machine::mma(kOperand<T>, d, a, b, c);
}
SIMT_INLINE void mma_m16n8k8_tf32(float (&d)[4], const std::uint32_t (&a)[4],
                                  const std::uint32_t (&b)[2], const float (&c)[4]) {
  simt::machine::mma(simt::machine::Operand::kTF32, d, a, b, c);
}

SIMT_INLINE void bar_sync(int id, int threads) {
  simt::machine::block_barrier(id, threads, true);
}
SIMT_INLINE void bar_arrive(int id, int threads) {
  simt::machine::block_barrier(id, threads, false);
}

// ---- sm_90

SIMT_INLINE void mbar_init(std::uint64_t* bar, int count) {
  simt::machine::mbarrier_init(bar, count);
}
SIMT_INLINE void mbar_arrive(std::uint64_t* bar) {
  simt::machine::mbarrier_arrive(bar, 0);
}
SIMT_INLINE void mbar_arrive_expect_tx(std::uint64_t* bar, int bytes) {
  simt::machine::mbarrier_arrive(bar, bytes);
}
SIMT_INLINE bool mbar_test_wait(std::uint64_t* bar, int parity) {
  return simt::machine::mbarrier_test(bar, parity);
}
SIMT_INLINE void mbar_wait(std::uint64_t* bar, int parity) {
  simt::machine::mbarrier_wait(bar, parity);
}
SIMT_INLINE void mbar_wait_cluster(std::uint64_t* bar, int parity) {
  simt::machine::mbarrier_wait(bar, parity);
}
struct ClusterBarriers {
  std::uint64_t* bars;
  unsigned rank;
};
SIMT_INLINE ClusterBarriers barriers_of(std::uint64_t* bars, unsigned rank) {
  return {bars, rank};
}
SIMT_INLINE void mbar_arrive_at(ClusterBarriers bars, int i = 0) {
  simt::machine::mbarrier_arrive_at(bars.bars + i, bars.rank);
}
SIMT_INLINE void mbar_release_at(ClusterBarriers bars, int i = 0) {
  simt::machine::mbarrier_arrive_at(bars.bars + i, bars.rank);
}
SIMT_INLINE void fence_mbar_init() {
  simt::machine::fence_proxy();
}
SIMT_INLINE void fence_proxy_async() {
  simt::machine::fence_proxy();
}

SIMT_INLINE void tma_prefetch(const CUtensorMap*) {}
template <class... Coordinates>
SIMT_INLINE void tma_load(void* dst, const CUtensorMap* map, std::uint64_t* bar,
                          Coordinates... coordinates) {
  static_assert(sizeof...(coordinates) >= 2 && sizeof...(coordinates) <= 5);
  const int at[] = {coordinates...};
  simt::machine::tensor_load(dst, map, bar, at, sizeof...(coordinates), nullptr);
}
template <class... Coordinates>
SIMT_INLINE void tma_load_multicast(void* dst, const CUtensorMap* map, std::uint64_t* bar,
                                    unsigned ranks, Coordinates... coordinates) {
  static_assert(sizeof...(coordinates) >= 2 && sizeof...(coordinates) <= 4);
  const int at[] = {coordinates...};
  simt::machine::tensor_load_multicast(dst, map, bar, at, sizeof...(coordinates), ranks);
}
SIMT_INLINE void tma_load_im2col(void* dst, const CUtensorMap* map, std::uint64_t* bar, int c,
                                 int w, int h, int n, int offset_w, int offset_h) {
  const int at[] = {c, w, h, n};
  const int offsets[] = {offset_w, offset_h};
  simt::machine::tensor_load(dst, map, bar, at, 4, offsets);
}
template <class... Coordinates>
SIMT_INLINE void tma_store(const CUtensorMap* map, const void* src, Coordinates... coordinates) {
  static_assert(sizeof...(coordinates) >= 2 && sizeof...(coordinates) <= 5);
  const int at[] = {coordinates...};
  simt::machine::tensor_store(map, src, at, sizeof...(coordinates));
}
SIMT_INLINE void tma_store_commit() {
  simt::machine::tensor_store_commit();
}
template <int N>
SIMT_INLINE void tma_store_wait() {
  simt::machine::tensor_store_wait(N);
}

SIMT_INLINE unsigned cluster_rank() {
  return simt::machine::cluster_rank();
}
SIMT_INLINE unsigned cluster_size() {
  return simt::machine::cluster_size();
}
SIMT_INLINE void cluster_arrive() {
  simt::machine::cluster_arrive();
}
SIMT_INLINE void cluster_wait() {
  simt::machine::cluster_wait();
}
SIMT_INLINE void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}
template <class T>
SIMT_INLINE T* map_shared(T* p, unsigned rank) {
  return static_cast<T*>(simt::machine::map_shared(p, rank));
}

SIMT_INLINE void stmatrix_x1(void* row, const std::uint32_t (&r)[1]) {
  simt::machine::store_matrix(r, 1, row, false);
}
SIMT_INLINE void stmatrix_x2(void* row, const std::uint32_t (&r)[2]) {
  simt::machine::store_matrix(r, 2, row, false);
}
SIMT_INLINE void stmatrix_x4(void* row, const std::uint32_t (&r)[4]) {
  simt::machine::store_matrix(r, 4, row, false);
}
SIMT_INLINE void stmatrix_x1_trans(void* row, const std::uint32_t (&r)[1]) {
  simt::machine::store_matrix(r, 1, row, true);
}
SIMT_INLINE void stmatrix_x2_trans(void* row, const std::uint32_t (&r)[2]) {
  simt::machine::store_matrix(r, 2, row, true);
}
SIMT_INLINE void stmatrix_x4_trans(void* row, const std::uint32_t (&r)[4]) {
  simt::machine::store_matrix(r, 4, row, true);
}

SIMT_INLINE void wgmma_fence() {
  simt::machine::wgmma_fence();
}
SIMT_INLINE void wgmma_commit() {
  simt::machine::wgmma_commit();
}
template <int N>
SIMT_INLINE void wgmma_wait() {
  simt::machine::wgmma_wait(N);
}
template <class T, int TransposeA = 0, int TransposeB = 0, int Registers>
SIMT_INLINE void wgmma(float (&d)[Registers], std::uint64_t a, std::uint64_t b, int scale_d) {
  simt::machine::wgmma(
      {kOperand<T>, 2 * Registers, a, b, scale_d != 0, TransposeA != 0, TransposeB != 0}, d);
}
template <int TransposeA = 0, int TransposeB = 0, int Registers>
SIMT_INLINE void wgmma_bf16(float (&d)[Registers], std::uint64_t a, std::uint64_t b, int scale_d) {
  wgmma<__nv_bfloat16, TransposeA, TransposeB>(d, a, b, scale_d);
}

template <int N>
SIMT_INLINE void setmaxnreg_inc() {}
template <int N>
SIMT_INLINE void setmaxnreg_dec() {}
SIMT_INLINE bool elect_one() {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  return thread % 32 == 0;
}

}  // namespace ptx
