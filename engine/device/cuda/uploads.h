// Copies to a GPU after which the caller's memory may go at once.
//
// A copy that the runtime is asked for reads its source later, so the bytes go through memory that
// stays: a ring of parts that the device reads by itself, each written again once its last copy is
// done.
#pragma once

#include <array>
#include <cstddef>

#include "kernels/cuda/stream.h"

struct CUevent_st;

namespace tessera {

class CudaUploads {
 public:
  // Of the current device, which `stream` is of.
  explicit CudaUploads(CudaStream stream);
  ~CudaUploads();
  CudaUploads(const CudaUploads&) = delete;
  CudaUploads& operator=(const CudaUploads&) = delete;

  // Enqueues the copy; waits only where the ring is full.
  void copy(std::byte* to, const void* from, std::size_t bytes);

 private:
  CudaStream stream_;
  std::byte* ring_ = nullptr;            // host memory, pinned; made for the first copy
  std::array<CUevent_st*, 4> copied_{};  // after the last copy from each part
  std::size_t next_ = 0;
};

}  // namespace tessera
