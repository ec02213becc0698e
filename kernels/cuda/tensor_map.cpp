#include "kernels/cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"

namespace tessera {

namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

// The driver's function, found at run time: nothing links the driver's library.
EncodeTiled find_encoder() {
  constexpr unsigned kSince = 12000;  // the version of CUDA that has it
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status{};
  cuda_check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSince,
                                              cudaEnableDefault, &status),
             "search for the driver's tensor maps");
  if (status != cudaDriverEntryPointSuccess)
    cuda_check(cudaErrorSymbolNotFound, "search for the driver's tensor maps");
  return reinterpret_cast<EncodeTiled>(function);
}

CUtensorMapDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::kF16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    default:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  }
}

}  // namespace

CUtensorMap tensor_map(const TensorMapLayout& layout) {
  static const EncodeTiled encode = find_encoder();
  cuuint64_t extent[TensorMapLayout::kMostAxes], stride[TensorMapLayout::kMostAxes - 1];
  cuuint32_t box[TensorMapLayout::kMostAxes], step[TensorMapLayout::kMostAxes];
  for (int i = 0; i < layout.rank; ++i) {
    extent[i] = static_cast<cuuint64_t>(layout.extent[i]);
    box[i] = static_cast<cuuint32_t>(layout.box[i]);
    step[i] = 1;
    if (i > 0) stride[i - 1] = static_cast<cuuint64_t>(layout.stride[i - 1]);
  }
  CUtensorMap map{};
  const CUresult result =
      encode(&map, type_of(layout.dtype), static_cast<cuuint32_t>(layout.rank),
             const_cast<void*>(layout.base), extent, stride, box, step,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) cuda_check(cudaErrorInvalidValue, "tensor map of a convolution");
  return map;
}

}  // namespace tessera
