// Whether a forked child may start threads: the thread sanitizer refuses.
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESSERA_NO_THREADS_IN_A_CHILD
#endif
#endif
