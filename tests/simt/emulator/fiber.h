// A CUDA thread's own stack, and the switch between two of them.
//
// The switch is twelve instructions of x86-64 assembly, 4 to 6 ns; elsewhere, or with
// SIMT_PORTABLE_FIBERS, ucontext (170 to 275 ns, for its system call).
#pragma once

#include <cstddef>

#if !defined(SIMT_PORTABLE_FIBERS) && !defined(__x86_64__)
#define SIMT_PORTABLE_FIBERS 1
#endif
#if SIMT_PORTABLE_FIBERS
#include <ucontext.h>
#endif

namespace simt::machine {

struct Fiber {
#if SIMT_PORTABLE_FIBERS
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
  // For AddressSanitizer, which must know which stack it is on.
  const void* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;
};

// The fiber will start in `entry`, which must not return.
void prepare_fiber(Fiber& fiber, char* stack, std::size_t bytes, void (*entry)());

// Goes on in `to`; returns when something switches back. `last`: nothing will.
void switch_fiber(Fiber& from, Fiber& to, bool last);

// The first call in a fiber's entry; `launcher` is the OS thread's own stack, which came first.
void fiber_entered(Fiber& launcher);

}  // namespace simt::machine
