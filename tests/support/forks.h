// What sanitizers change: under the thread sanitizer a forked child may start no threads.
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
