// The host half of kernel.h: kernel language, launches, and (in the two headers that it includes
// last) built-in functions and ptx:: over the emulated machine.
//
// cuda_runtime.h already makes __global__, __device__ and __grid_constant__ empty for a host
// compiler.
#pragma once

#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emulator/machine.h"
#include "kernels/cuda/check.h"

#define SIMT_INLINE inline __attribute__((always_inline))
// What the emulator does on a kernel's behalf is no access of the kernel.
#define SIMT_UNCHECKED __attribute__((no_sanitize("thread")))

// A `static` in place of __shared__ would be one for all blocks, never fresh and without bounds.
#undef __shared__
#define __shared__ static_assert(false, "use SIMT_SHARED or SIMT_DYN_SHARED")
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __cluster_dims__
#define __cluster_dims__(...) static_assert(false, "give the cluster to simt::launch_clusters")

#define SIMT_SHARED(T, name, dims)                \
  using name##_shared_type = T dims;              \
  static const char name##_shared_key = 0;        \
  auto& name = *static_cast<name##_shared_type*>( \
      ::simt::machine::static_shared(&name##_shared_key, sizeof(name##_shared_type), alignof(T)))
#define SIMT_DYN_SHARED(T, name, align) \
  T* const name = static_cast<T*>(::simt::machine::dynamic_shared(align))

#define threadIdx (::simt::machine::current->thread)
#define blockIdx (::simt::machine::current->block)
#define blockDim (::simt::machine::current->block_extent)
#define gridDim (::simt::machine::current->grid_extent)
#define warpSize 32

namespace simt {

SIMT_INLINE void grid_sync() {
  machine::grid_barrier();
}

// A kernel with its arguments, converted to the kernel's parameter types as a launch does.
template <class... Parameters>
struct Call {
  void (*kernel)(Parameters...);
  std::tuple<std::decay_t<Parameters>...> arguments;

  SIMT_UNCHECKED static void run(const void* call) {
    static_cast<const Call*>(call)->invoke(std::index_sequence_for<Parameters...>{});
  }
  template <std::size_t... I>
  SIMT_UNCHECKED void invoke(std::index_sequence<I...>) const {
    kernel(std::get<I>(arguments)...);
  }
};

// How the blocks of a launch stand to each other.
struct Blocks {
  bool cooperative = false;  // all are resident at once
  unsigned cluster = 1;      // so many neighbours along x are, and reach each other's shared memory
};

// Launches `kernel` on `stream`; throws tessera::Error where the runtime refuses.
template <class... Parameters, class... Arguments>
void launch_as(Blocks blocks, void (*kernel)(Parameters...), dim3 grid, dim3 block,
               std::size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  machine::Launch launch;
  launch.grid = grid;
  launch.block = block;
  launch.shared_bytes = shared_bytes;
  launch.cooperative = blocks.cooperative;
  launch.cluster = blocks.cluster;
  launch.stream = stream;
  launch.kernel = reinterpret_cast<const void*>(kernel);
  using ThisCall = Call<Parameters...>;
  launch.arguments =
      std::make_shared<ThisCall>(ThisCall{kernel, {std::forward<Arguments>(arguments)...}});
  launch.call = ThisCall::run;
  tessera::cuda_check(machine::launch(std::move(launch)), "launch of a kernel");
}

}  // namespace simt

#include "kernels/cuda/launch.h"

#include "emulator/emulated_builtins.h"
#include "emulator/emulated_ptx.h"
