#include "emulator/fiber.h"

#include "emulator/sanitizer.h"

namespace simt::machine {

#if !SIMT_PORTABLE_FIBERS
// Saves what the System V ABI preserves across calls on the stack of the caller, whose pointer goes
// to `*save`, and restores the same from `stack_pointer`.
extern "C" void simt_switch_stack(void** save, void* stack_pointer);
asm(R"(.text
.globl simt_switch_stack
.hidden simt_switch_stack
.type simt_switch_stack, @function
simt_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size simt_switch_stack, .-simt_switch_stack
)");
#endif

void prepare_fiber(Fiber& fiber, char* stack, std::size_t bytes, void (*entry)()) {
  fiber.stack = stack;
  fiber.stack_bytes = bytes;
  fiber.fake_stack = nullptr;
#if SIMT_PORTABLE_FIBERS
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  constexpr int kSavedRegisters = 6;
  auto** top = reinterpret_cast<void**>(stack + bytes);
  *--top = nullptr;  // no return address; and keeps the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
#endif
}

void switch_fiber(Fiber& from, Fiber& to, bool last) {
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#else
  static_cast<void>(last);
#endif
#if SIMT_PORTABLE_FIBERS
  swapcontext(&from.context, &to.context);
#else
  simt_switch_stack(&from.stack_pointer, to.stack_pointer);
#endif
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void fiber_entered(Fiber& launcher) {
#if SIMT_ASAN
  const void* stack = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (launcher.stack == nullptr) {
    launcher.stack = stack;
    launcher.stack_bytes = bytes;
  }
#else
  static_cast<void>(launcher);
#endif
}

}  // namespace simt::machine
