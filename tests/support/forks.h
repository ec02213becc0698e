// What the thread sanitizer changes: a forked child may start no threads.
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESSERA_THREAD_SANITIZER
#define TESSERA_NO_THREADS_IN_A_CHILD
#endif
#endif
