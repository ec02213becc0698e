#include "models/image/tiff_context.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>

#include "kernels/error.h"

namespace tessera {
namespace {

// Returning 1 tells libtiff that it need not print the message.
int on_error(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  auto* context = static_cast<TiffContext*>(user);
  if (context->error.empty()) {
    char text[512];
    std::vsnprintf(text, sizeof(text), format, arguments);
    context->error = text;
  }
  return 1;
}

int on_warning(TIFF* handle, void* user, const char* module, const char* format,
               va_list arguments) {
  if (!static_cast<TiffContext*>(user)->warnings_are_errors) return 1;
  return on_error(handle, user, module, format, arguments);
}

tmsize_t read_memory(thandle_t user, void* to, tmsize_t count) {
  auto* context = static_cast<TiffContext*>(user);
  const uint64_t left =
      context->bytes.size() - std::min<uint64_t>(context->position, context->bytes.size());
  const uint64_t size = std::min(left, static_cast<uint64_t>(count));
  if (size > 0) std::memcpy(to, context->bytes.data() + context->position, size);
  context->position += size;
  return static_cast<tmsize_t>(size);
}

tmsize_t refuse_write(thandle_t, void*, tmsize_t) {
  return 0;
}

toff_t seek_memory(thandle_t user, toff_t offset, int origin) {
  auto* context = static_cast<TiffContext*>(user);
  const uint64_t base = origin == SEEK_SET   ? 0
                        : origin == SEEK_CUR ? context->position
                                             : context->bytes.size();
  context->position = base + offset;  // past the end is allowed: reading there gives nothing
  return context->position;
}

int close_memory(thandle_t) {
  return 0;
}

toff_t size_of_memory(thandle_t user) {
  return static_cast<TiffContext*>(user)->bytes.size();
}

using Options = std::unique_ptr<TIFFOpenOptions, decltype(&TIFFOpenOptionsFree)>;

Options make_options(TiffContext* context) {
  Options options(TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
  require(options != nullptr, "out of memory for libtiff");
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), on_error, context);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), on_warning, context);
  return options;
}

}  // namespace

void TiffContext::open(const std::filesystem::path& path, const char* mode) {
  handle = TIFFOpenExt(path.c_str(), mode, make_options(this).get());
}

void TiffContext::open(std::span<const uint8_t> file) {
  bytes = file;
  handle =
      TIFFClientOpenExt("image", "rm", this, read_memory, refuse_write, seek_memory, close_memory,
                        size_of_memory, nullptr, nullptr, make_options(this).get());
}

void TiffContext::close() {
  if (handle != nullptr) TIFFClose(handle);
  handle = nullptr;
}

bool TiffContext::read_raw(uint64_t offset, std::span<uint8_t> to) const {
  const thandle_t file = TIFFClientdata(handle);
  if (TIFFGetSeekProc(handle)(file, offset, SEEK_SET) != offset) return false;
  const auto count = static_cast<tmsize_t>(to.size());
  return TIFFGetReadProc(handle)(file, to.data(), count) == count;
}

uint64_t TiffContext::file_size() const {
  return TIFFGetSizeProc(handle)(TIFFClientdata(handle));
}

}  // namespace tessera
