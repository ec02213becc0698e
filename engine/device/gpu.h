// What libraries of the GPUs' maker ask of a device and its queue (engine/train/nccl.h), and how
// many GPUs there are. The CUDA half, as open_cuda_device() is.
#pragma once

#include <string>

#include "engine/device/queue.h"

namespace tessera {

// GPUs that this process sees; 0 where there is no driver, or a build without CUDA.
int count_gpus();

// Of a queue of a GPU: its cudaStream_t, whose device becomes the calling thread's.
void* gpu_stream(const Queue& queue);
// What no other GPU has, of any machine.
std::string gpu_id(const Device& device);

}  // namespace tessera
