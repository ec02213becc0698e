// What sanitizers change: under the thread sanitizer a forked child may start no threads, and a
// test that does the same many times does it less often, since each takes ten times as long.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define TESSERA_ADDRESS_SANITIZER
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TESSERA_ADDRESS_SANITIZER
#endif
#if __has_feature(thread_sanitizer)
#define TESSERA_THREAD_SANITIZER
#define TESSERA_NO_THREADS_IN_A_CHILD
#endif
#endif

namespace tessera::test {

#if defined(TESSERA_ADDRESS_SANITIZER) || defined(TESSERA_THREAD_SANITIZER)
inline constexpr int kTimesLess = 8;
#else
inline constexpr int kTimesLess = 1;
#endif

}  // namespace tessera::test
