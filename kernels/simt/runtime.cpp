// The part of the CUDA runtime and driver that host code calls, over the emulated machine.
//
// Streams are synchronous, unless they capture: then launches, copies and memsets are kept as
// closures, which cudaGraphLaunch runs. What a real device would refuse is refused here, so that
// the callers' error paths can be tested (FakeDevice).
#include "kernels/simt/runtime.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/simt/emulator.h"
#include "kernels/simt/memory.h"
#include "kernels/simt/tensor_map.h"

using Work = std::function<cudaError_t()>;

// The handles that cuda_runtime_api.h leaves opaque.
struct CUgraph_st {
  std::vector<Work> nodes;
};
struct CUgraphExec_st {
  std::vector<Work> nodes;
};
struct CUstream_st {
  CUgraph_st* graph = nullptr;  // while it captures
  bool origin = false;          // of the capture, not joined to it by an event
};
struct CUevent_st {
  std::chrono::steady_clock::time_point when;
  bool recorded = false;
  CUgraph_st* graph = nullptr;  // that its stream was captured into
};

namespace simt {

FakeDevice& device() {
  static FakeDevice instance;
  return instance;
}

namespace machine {
namespace {

std::mutex mutex;
std::vector<CUstream_st*> streams;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;

constexpr int kMaxThreadsPerBlock = 1024, kMaxThreadsPerMultiprocessor = 2048;
constexpr int kRegistersPerMultiprocessor = 65536;
constexpr std::size_t kSharedPerMultiprocessor = 233472;
constexpr std::size_t kSharedReserved = 1024;  // per block
constexpr std::size_t kSharedWithoutOptIn = 48 * 1024;
constexpr std::size_t kHostAlign = 4096;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

CUgraph_st* capture_of(cudaStream_t stream) {
  const bool own = stream != nullptr && stream != cudaStreamLegacy && stream != cudaStreamPerThread;
  return own ? stream->graph : nullptr;
}

bool anything_captures() {
  std::lock_guard lock(mutex);
  return std::any_of(streams.begin(), streams.end(),
                     [](const CUstream_st* s) { return s->graph != nullptr; });
}

// Runs `work`, or keeps it where the stream captures.
cudaError_t enqueue(cudaStream_t stream, Work work) {
  if (CUgraph_st* graph = capture_of(stream)) {
    graph->nodes.push_back(std::move(work));
    return cudaSuccess;
  }
  return result(work());
}

// What a call that waits for the device, or changes its memory, may not do beside a capture.
cudaError_t refuse_in_capture() {
  return result(anything_captures() ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

// Host memory, or bytes within one live allocation of the device.
bool is_copyable(const void* p, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(p);
  const Allocation* a = find_allocation(begin);
  return a == nullptr || (a->live && begin >= a->begin && begin + bytes <= a->end());
}

cudaError_t copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  if (!is_copyable(to, bytes) || !is_copyable(from, bytes)) return cudaErrorInvalidValue;
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t fill(void* to, int value, std::size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  if (!is_copyable(to, bytes) || find_allocation(reinterpret_cast<std::uintptr_t>(to)) == nullptr)
    return cudaErrorInvalidValue;
  std::memset(to, value, bytes);
  return cudaSuccess;
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
  return *p != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
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
  const std::uint64_t bytes = rank > 1 ? map.stride[rank - 2] * map.extent[rank - 1]
                                       : std::uint64_t{map.extent[0]} * map.element_bytes;
  if (!is_copyable(base, bytes)) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(static_cast<void*>(encoded), &map, sizeof map);
  return CUDA_SUCCESS;
}

}  // namespace

cudaError_t launch(Launch launch) {
  if (const int error = std::exchange(device().launch_error, 0))
    return result(static_cast<cudaError_t>(error));
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
  *index = m::current_device;
  return m::result(m::check_device(m::current_device));
}
cudaError_t cudaSetDevice(int index) {
  const cudaError_t error = m::check_device(index);
  if (error == cudaSuccess) m::current_device = index;
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
  return m::refuse_in_capture();
}
cudaError_t cudaDeviceReset() {
  return m::refuse_in_capture();
}

// ---- Memory

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  if (const cudaError_t error = m::refuse_in_capture()) return error;
  return m::result(m::allocate(p, bytes));
}
cudaError_t cudaFree(void* p) {
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
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  *total = simt::device().total_bytes;
  *available = *total - std::min(*total, simt::allocated_bytes());
  return m::result(m::check_device(m::current_device));
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (const cudaError_t error = m::refuse_in_capture()) return error;
  return m::result(m::copy(to, from, bytes));
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return m::enqueue(stream, [=] { return m::copy(to, from, bytes); });
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind, cudaStream_t stream) {
  return m::enqueue(stream, [=] {
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
    cudaError_t error = cudaSuccess;
    for (std::size_t row = 0; row < height && error == cudaSuccess; ++row)
      error = m::copy(static_cast<std::byte*>(to) + row * to_pitch,
                      static_cast<const std::byte*>(from) + row * from_pitch, width);
    return error;
  });
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  if (const cudaError_t error = m::refuse_in_capture()) return error;
  return m::result(m::fill(to, value, bytes));
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return m::enqueue(stream, [=] { return m::fill(to, value, bytes); });
}

// ---- Streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (const cudaError_t error = m::check_device(m::current_device)) return m::result(error);
  *stream = new CUstream_st;
  std::lock_guard lock(m::mutex);
  m::streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::lock_guard lock(m::mutex);
  if (std::erase(m::streams, stream) == 0) return m::result(cudaErrorInvalidResourceHandle);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return m::result(m::capture_of(stream) != nullptr ? cudaErrorStreamCaptureUnsupported
                                                    : cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return cudaStreamSynchronize(stream);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event->graph == nullptr) return cudaSuccess;
  if (stream == nullptr) return m::result(cudaErrorStreamCaptureImplicit);
  stream->graph = event->graph;  // the stream joins the capture
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->when = std::chrono::steady_clock::now();
  event->recorded = true;
  event->graph = m::capture_of(stream);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return m::result(event->graph != nullptr ? cudaErrorCapturedEvent : cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return cudaEventSynchronize(event);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!start->recorded || !end->recorded) return m::result(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
  return cudaSuccess;
}

// ---- Capture and replay

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
    return m::result(cudaErrorStreamCaptureUnsupported);
  if (stream->graph != nullptr) return m::result(cudaErrorIllegalState);
  stream->graph = new CUgraph_st;
  stream->origin = true;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (m::capture_of(stream) == nullptr) return m::result(cudaErrorIllegalState);
  if (!stream->origin) return m::result(cudaErrorStreamCaptureUnmatched);
  *graph = stream->graph;
  stream->origin = false;
  std::lock_guard lock(m::mutex);
  for (CUstream_st* joined : m::streams)
    if (joined->graph == *graph) joined->graph = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = m::capture_of(stream) != nullptr ? cudaStreamCaptureStatusActive
                                             : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (m::capture_of(stream) != nullptr) return m::result(cudaErrorStreamCaptureUnsupported);
  for (const Work& work : executable->nodes)
    if (const cudaError_t error = work()) return m::result(error);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (nodes != nullptr) return m::result(cudaErrorNotSupported);  // nodes have no handles
  *count = graph->nodes.size();
  return cudaSuccess;
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
