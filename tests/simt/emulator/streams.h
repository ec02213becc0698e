// When the work of streams is done: the order behind the emulated runtime.
//
// Work is kept until something that CUDA's rules name waits for it: its own stream, a later part of
// a stream that follows it, an event, the device. What Config::streams says happens in between.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

namespace simt::machine {

using Work = std::function<cudaError_t()>;

// Keeps the error for cudaGetLastError, and returns it.
cudaError_t result(cudaError_t error);
// Of the calling thread.
int current_device();

// Enqueues `work`, or keeps it for the graph that the stream is captured into.
cudaError_t enqueue(cudaStream_t stream, Work work);
bool captures(cudaStream_t stream);
// Whether it belongs to the calling thread's device, as the stream of a launch must.
bool takes_launches(cudaStream_t stream);
// What a call that waits for the device, or changes its memory, may not do beside a capture.
cudaError_t refuse_in_capture();

// Does what waiting for the stream, or for all of them, has to find done. Throws
// std::runtime_error with what was found wrong.
cudaError_t finish(cudaStream_t stream);
cudaError_t finish_all();
// The same for callers that must not throw: the finding is thrown by the next call that waits.
void finish_all_quietly();

}  // namespace simt::machine
