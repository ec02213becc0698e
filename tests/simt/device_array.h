// Device memory of a test, and tensor maps of it.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace tessera::test {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T)), cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* get() const { return data_; }
  std::size_t size() const { return size_; }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    EXPECT_EQ(cudaMemcpy(result.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return result;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// The driver's function of this name, which no library need be linked for.
template <class Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status{};
  EXPECT_EQ(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &status),
            cudaSuccess);
  return reinterpret_cast<Function>(function);
}

// Extents and boxes innermost first; rows follow each other without gaps.
inline CUtensorMap tiled_map(void* base, CUtensorMapDataType type, std::size_t element_bytes,
                             const std::vector<cuuint64_t>& extent,
                             const std::vector<cuuint32_t>& box, CUtensorMapSwizzle swizzle) {
  std::vector<cuuint64_t> stride;
  cuuint64_t bytes = element_bytes;
  for (const cuuint64_t e : extent) stride.push_back(bytes *= e);
  const std::vector<cuuint32_t> step(extent.size(), 1);
  CUtensorMap map;
  EXPECT_EQ(driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled")(
                &map, type, static_cast<cuuint32_t>(extent.size()), base, extent.data(),
                stride.data(), box.data(), step.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
            CUDA_SUCCESS);
  return map;
}

}  // namespace tessera::test
