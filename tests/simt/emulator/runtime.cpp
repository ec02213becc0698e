// The part of the CUDA runtime and driver that host code calls, over the emulated machine.
//
// Work is done when streams.h says. What a real device would refuse is refused here, so that the
// callers' error paths can be tested (FakeDevice).
#include "emulator/runtime.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "emulator/emulator.h"
#include "emulator/findings.h"
#include "emulator/memory.h"
#include "emulator/streams.h"
#include "emulator/tensor_map.h"

namespace simt {

FakeDevice& device() {
  static FakeDevice instance;
  return instance;
}

namespace machine {
namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local int device_index = 0;
std::mutex pinned_mutex;
std::map<std::uintptr_t, std::size_t> pinned;  // host memory that the device reads by itself

constexpr int kMaxThreadsPerBlock = 1024, kMaxThreadsPerMultiprocessor = 2048;
constexpr int kRegistersPerMultiprocessor = 65536;
constexpr std::size_t kSharedPerMultiprocessor = 233472;
constexpr std::size_t kSharedReserved = 1024;  // per block
constexpr std::size_t kSharedWithoutOptIn = 48 * 1024;
constexpr std::size_t kHostAlign = 4096;

bool is_device_memory(const void* p) {
  return find_allocation(reinterpret_cast<std::uintptr_t>(p)) != nullptr;
}

bool is_pinned(const void* p) {
  std::lock_guard lock(pinned_mutex);
  const auto next = pinned.upper_bound(reinterpret_cast<std::uintptr_t>(p));
  if (next == pinned.begin()) return false;
  const auto& [begin, bytes] = *std::prev(next);
  return reinterpret_cast<std::uintptr_t>(p) < begin + bytes;
}

// Host memory, or bytes within one live allocation of the device.
bool is_copyable(const void* p, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(p);
  const Allocation* a = find_allocation(begin);
  return a == nullptr || (a->live && begin >= a->begin && begin + bytes <= a->end());
}

cudaError_t copy(void* to, const void* from, std::size_t bytes) {
  if (!is_copyable(to, bytes) || !is_copyable(from, bytes)) return cudaErrorInvalidValue;
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

// Bytes of host memory that may be gone; false if they are.
bool read_host(void* to, const void* from, std::size_t bytes) {
  const iovec local{to, bytes}, remote{const_cast<void*>(from), bytes};
  const ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
  if (got < 0 && (errno == EPERM || errno == ENOSYS)) std::memcpy(to, from, bytes);
  return got == static_cast<ssize_t>(bytes) || (got < 0 && errno != EFAULT);
}

// A copy out of host memory may read it as late as it is done, so until then the host's bytes stay.
Work copy_from_host(void* to, const void* from, std::size_t bytes) {
  std::vector<std::byte> given(bytes);
  std::memcpy(given.data(), from, bytes);
  return [=, given = std::move(given)] {
    std::vector<std::byte> found(bytes);
    const bool there = read_host(found.data(), from, bytes);
    if (!there || found != given) {
      report(fmt::format("copy from host {}", there),
             fmt::format("HOST MEMORY: {} bytes that are copied to the device were {} before the "
                         "copy was done",
                         bytes, there ? "changed" : "freed"));
      throw_findings();
    }
    return copy(to, found.data(), bytes);
  };
}

cudaError_t fill(void* to, int value, std::size_t bytes) {
  if (!is_copyable(to, bytes) || !is_device_memory(to)) return cudaErrorInvalidValue;
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t enqueue_copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!is_copyable(to, bytes) || !is_copyable(from, bytes)) return result(cudaErrorInvalidValue);
  const bool read_late = !captures(stream) && !is_device_memory(from) && is_device_memory(to);
  return enqueue(
      stream, read_late ? copy_from_host(to, from, bytes) : [=] { return copy(to, from, bytes); });
}

cudaError_t enqueue_fill(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!is_copyable(to, bytes) || !is_device_memory(to)) return result(cudaErrorInvalidValue);
  return enqueue(stream, [=] { return fill(to, value, bytes); });
}

cudaError_t allocate(void** p, std::size_t bytes) {
  FakeDevice& d = device();
  *p = nullptr;
  if (d.fail_allocation > 0 && --d.fail_allocation == 0) return cudaErrorMemoryAllocation;
  if (bytes == 0) return cudaSuccess;
  *p = allocate_device(bytes);
  return *p != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t allocate_host(void** p, std::size_t bytes) {
  *p = std::aligned_alloc(
      kHostAlign, (std::max<std::size_t>(bytes, 1) + kHostAlign - 1) / kHostAlign * kHostAlign);
  if (*p == nullptr) return cudaErrorMemoryAllocation;
  std::lock_guard lock(pinned_mutex);
  pinned[reinterpret_cast<std::uintptr_t>(*p)] = bytes;
  return cudaSuccess;
}

cudaError_t release(void* p) {
  return p == nullptr || free_device(p) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t count_devices(int* count) {
  const FakeDevice& d = device();
  *count = 0;
  if (d.count_error != 0) return static_cast<cudaError_t>(d.count_error);
  if (d.count == 0) return cudaErrorNoDevice;
  *count = d.count;
  return cudaSuccess;
}

cudaError_t check_device(int index) {
  int count = 0;
  if (const cudaError_t error = count_devices(&count)) return error;
  return index >= 0 && index < count ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t attribute_of(int* value, cudaDeviceAttr attribute) {
  const FakeDevice& d = device();
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = d.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = d.minor;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = d.multiprocessors;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = kSharedWithoutOptIn;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(d.shared_per_block);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = kSharedPerMultiprocessor;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = kSharedReserved;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = kMaxThreadsPerBlock;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = kMaxThreadsPerMultiprocessor;
      break;
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = kRegistersPerMultiprocessor;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrCooperativeLaunch:
      *value = 1;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      break;
    default:
      *value = 0;
      return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

struct ErrorText {
  cudaError_t code;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not initiated in this stream"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorInvalidClusterSize, "cudaErrorInvalidClusterSize", "invalid cluster size"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const ErrorText* find_error(cudaError_t code) {
  for (const ErrorText& error : kErrors)
    if (error.code == code) return &error;
  return nullptr;
}

// ---- Tensor maps

CUresult encode(CUtensorMap* encoded, TensorMap map, CUtensorMapDataType type, cuuint32_t rank,
                void* base, const cuuint64_t* extent, const cuuint64_t* stride,
                const cuuint32_t* element_stride, CUtensorMapSwizzle swizzle, unsigned inner) {
  // By CUtensorMapDataType: u8, u16, u32, s32, u64, s64, f16, f32, f64, bf16, f32 ftz, tf32 (ftz).
  constexpr std::uint8_t kElementBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  constexpr unsigned kMaxBox = 256, kStrideAlign = 16;
  if (static_cast<std::size_t>(type) >= std::size(kElementBytes) ||
      swizzle > CU_TENSOR_MAP_SWIZZLE_128B)
    return CUDA_ERROR_INVALID_VALUE;
  map.base = reinterpret_cast<std::uintptr_t>(base);
  map.rank = static_cast<std::uint8_t>(rank);
  map.element_bytes = kElementBytes[type];
  map.swizzle = static_cast<std::uint8_t>(swizzle);
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (extent[i] == 0 || element_stride[i] == 0 || element_stride[i] > 8)
      return CUDA_ERROR_INVALID_VALUE;
    if (i > 0 && stride[i - 1] % kStrideAlign != 0) return CUDA_ERROR_INVALID_VALUE;
    map.extent[i] = static_cast<std::uint32_t>(extent[i]);
    map.element_stride[i] = static_cast<std::uint8_t>(element_stride[i]);
    if (i > 0) map.stride[i - 1] = stride[i - 1];
  }
  const unsigned inner_bytes = inner * map.element_bytes;
  const unsigned span = swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? ~0u : 16u << map.swizzle;
  if (map.base % kStrideAlign != 0 || inner_bytes % kStrideAlign != 0 || inner_bytes > span ||
      inner > kMaxBox)
    return CUDA_ERROR_INVALID_VALUE;
  std::uint64_t bytes = std::uint64_t{map.extent[0]} * map.element_bytes;
  for (cuuint32_t i = 1; i < rank; ++i) bytes += map.stride[i - 1] * (map.extent[i] - 1);
  if (!is_copyable(base, bytes)) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(static_cast<void*>(encoded), &map, sizeof map);
  return CUDA_SUCCESS;
}

}  // namespace

cudaError_t result(cudaError_t error) {
  if (error == cudaSuccess && device_index == device().lost) error = cudaErrorIllegalAddress;
  if (error != cudaSuccess) last_error = error;
  return error;
}

int current_device() {
  return device_index;
}

cudaError_t launch(Launch launch) {
  if (const int error = std::exchange(device().launch_error, 0))
    return result(static_cast<cudaError_t>(error));
  if (std::atomic_ref left(device().lose_after); left > 0 && --left == 0)
    device().lost = device_index;
  if (const cudaError_t error = check_launch(launch)) return result(error);
  if (!takes_launches(launch.stream)) return result(cudaErrorInvalidResourceHandle);
  const cudaStream_t stream = launch.stream;
  return enqueue(stream, [launch = std::move(launch)] { return run_launch(launch); });
}

}  // namespace machine
}  // namespace simt

namespace m = simt::machine;

extern "C" {

// ---- Errors

cudaError_t cudaGetLastError() {
  return std::exchange(m::last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  return m::last_error;
}
const char* cudaGetErrorString(cudaError_t error) {
  const m::ErrorText* known = m::find_error(error);
  return known != nullptr ? known->text : "unrecognized error code";
}
const char* cudaGetErrorName(cudaError_t error) {
  const m::ErrorText* known = m::find_error(error);
  return known != nullptr ? known->name : "unrecognized error code";
}

// ---- Devices

cudaError_t cudaGetDeviceCount(int* count) {
  return m::result(m::count_devices(count));
}
cudaError_t cudaGetDevice(int* index) {
  *index = m::device_index;
  return m::result(m::check_device(m::device_index));
}
cudaError_t cudaSetDevice(int index) {
  const cudaError_t error = m::check_device(index);
  if (error == cudaSuccess) m::device_index = index;
  return m::result(error);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  if (const cudaError_t error = m::check_device(index)) return m::result(error);
  return m::result(m::attribute_of(value, attribute));
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (const cudaError_t error = m::check_device(index)) return m::result(error);
  const simt::FakeDevice& d = simt::device();
  cudaDeviceProp p{};
  std::strcpy(p.name, "SIMT emulator");
  p.uuid.bytes[0] = static_cast<char>(index + 1);
  p.totalGlobalMem = d.total_bytes;
  p.sharedMemPerBlock = m::kSharedWithoutOptIn;
  p.sharedMemPerBlockOptin = d.shared_per_block;
  p.sharedMemPerMultiprocessor = m::kSharedPerMultiprocessor;
  p.reservedSharedMemPerBlock = m::kSharedReserved;
  p.regsPerBlock = p.regsPerMultiprocessor = m::kRegistersPerMultiprocessor;
  p.warpSize = 32;
  p.maxThreadsPerBlock = m::kMaxThreadsPerBlock;
  p.maxThreadsPerMultiProcessor = m::kMaxThreadsPerMultiprocessor;
  p.major = d.major;
  p.minor = d.minor;
  p.multiProcessorCount = d.multiprocessors;
  p.cooperativeLaunch = 1;
  *properties = p;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = simt::device().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = m::refuse_in_capture()) return error;
  return m::finish_all();
}
cudaError_t cudaDeviceReset() {
  return cudaDeviceSynchronize();
}

// ---- Memory

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  if (const cudaError_t error = m::refuse_in_capture()) return error;
  return m::result(m::allocate(p, bytes));
}
cudaError_t cudaFree(void* p) {  // waits for all work; what that finds, the next call throws
  if (p != nullptr) m::finish_all_quietly();
  return m::result(m::release(p));
}
cudaError_t cudaMallocAsync(void** p, std::size_t bytes, cudaStream_t) {
  return m::result(m::allocate(p, bytes));
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  return m::enqueue(stream, [=] { return m::release(p); });
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  return m::result(m::allocate_host(p, bytes));
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  return m::result(m::allocate_host(p, bytes));
}
cudaError_t cudaFreeHost(void* p) {
  m::finish_all_quietly();
  {
    std::lock_guard lock(m::pinned_mutex);
    m::pinned.erase(reinterpret_cast<std::uintptr_t>(p));
  }
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  *total = simt::device().total_bytes;
  *available = *total - std::min(*total, simt::allocated_bytes());
  return m::result(m::check_device(m::device_index));
}
// From pageable memory it returns once the bytes are staged, and within the device at once.
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (const cudaError_t error = m::refuse_in_capture()) return error;
  const bool from_host = !m::is_device_memory(from), to_host = !m::is_device_memory(to);
  if (bytes == 0 || !from_host || to_host || m::is_pinned(from)) {
    const cudaError_t error = m::enqueue_copy(to, from, bytes, nullptr);
    return error == cudaSuccess && (from_host || to_host) ? m::finish(nullptr) : error;
  }
  if (!m::is_copyable(to, bytes)) return m::result(cudaErrorInvalidValue);
  if (const cudaError_t error = m::enqueue(nullptr, nullptr)) return error;
  if (const cudaError_t error = m::finish(nullptr)) return error;
  std::vector<std::byte> staged(bytes);
  std::memcpy(staged.data(), from, bytes);
  return m::enqueue(nullptr,
                    [=, staged = std::move(staged)] { return m::copy(to, staged.data(), bytes); });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return m::enqueue_copy(to, from, bytes, stream);
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  if (const cudaError_t error = m::refuse_in_capture()) return error;
  return m::enqueue_fill(to, value, bytes, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return m::enqueue_fill(to, value, bytes, stream);
}

// ---- Kernels

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute attribute, int value) {
  const bool too_much = attribute == cudaFuncAttributeMaxDynamicSharedMemorySize &&
                        static_cast<std::size_t>(value) > simt::device().shared_per_block;
  return m::result(too_much ? cudaErrorInvalidValue : cudaSuccess);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = m::kMaxThreadsPerBlock;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(simt::device().shared_per_block);
  attributes->numRegs = 32;
  attributes->binaryVersion = attributes->ptxVersion =
      simt::device().major * 10 + simt::device().minor;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*,
                                                                   int threads,
                                                                   std::size_t shared_bytes,
                                                                   unsigned) {
  const auto by_shared =
      static_cast<int>(m::kSharedPerMultiprocessor / (shared_bytes + m::kSharedReserved));
  *blocks = std::min(m::kMaxThreadsPerMultiprocessor / std::max(threads, 1), by_shared);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel,
                                                          int threads, std::size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, kernel, threads,
                                                                shared_bytes, 0);
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*,
                                           const cudaLaunchConfig_t* config) {
  unsigned size = 1;
  for (unsigned i = 0; i < config->numAttrs; ++i)
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension)
      size = config->attrs[i].val.clusterDim.x;
  *clusters = simt::device().multiprocessors / static_cast<int>(size);
  return cudaSuccess;
}

// ---- The driver's tensor maps, and the way to them

CUresult cuTensorMapEncodeTiled(CUtensorMap* encoded, CUtensorMapDataType type, cuuint32_t rank,
                                void* base, const cuuint64_t* extent, const cuuint64_t* stride,
                                const cuuint32_t* box, const cuuint32_t* element_stride,
                                CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  constexpr cuuint32_t kMaxBox = 256;
  m::TensorMap map{};
  if (rank < 1 || rank > m::kMaxTensorRank) return CUDA_ERROR_INVALID_VALUE;
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (box[i] == 0 || box[i] > kMaxBox) return CUDA_ERROR_INVALID_VALUE;
    map.box[i] = static_cast<std::uint16_t>(box[i]);
  }
  return m::encode(encoded, map, type, rank, base, extent, stride, element_stride, swizzle, box[0]);
}
CUresult cuTensorMapEncodeIm2col(CUtensorMap* encoded, CUtensorMapDataType type, cuuint32_t rank,
                                 void* base, const cuuint64_t* extent, const cuuint64_t* stride,
                                 const int* lower, const int* upper, cuuint32_t channels,
                                 cuuint32_t pixels, const cuuint32_t* element_stride,
                                 CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  constexpr cuuint32_t kMaxPixels = 1024;
  m::TensorMap map{};
  if (rank < 3 || rank > m::kMaxTensorRank || pixels == 0 || pixels > kMaxPixels)
    return CUDA_ERROR_INVALID_VALUE;
  map.im2col = true;
  map.channels = static_cast<std::uint16_t>(channels);
  map.pixels = static_cast<std::uint16_t>(pixels);
  for (cuuint32_t i = 0; i + 2 < rank; ++i) {
    map.lower[i] = static_cast<std::int16_t>(lower[i]);
    map.upper[i] = static_cast<std::int16_t>(upper[i]);
  }
  return m::encode(encoded, map, type, rank, base, extent, stride, element_stride, swizzle,
                   channels);
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* status) {
  const std::string_view name = symbol;
  *function = name == "cuTensorMapEncodeTiled"    ? reinterpret_cast<void*>(cuTensorMapEncodeTiled)
              : name == "cuTensorMapEncodeIm2col" ? reinterpret_cast<void*>(cuTensorMapEncodeIm2col)
                                                  : nullptr;
  if (status != nullptr)
    *status =
        *function != nullptr ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

}  // extern "C"
