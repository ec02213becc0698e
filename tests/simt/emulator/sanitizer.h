// Which build this is: SIMT_CHECK (0 or 1, from the command line) and SIMT_ASAN.
#pragma once

#ifndef SIMT_CHECK
#define SIMT_CHECK 0
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#endif
#ifndef SIMT_ASAN
#define SIMT_ASAN 0
#endif

#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, bytes) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes) static_cast<void>(0)
#endif
