// Plans the memory of a large image before anything runs, with and without a limit:
// plan UNET.safetensors
#include <tessera/session.h>

#include <cstdio>
#include <stdexcept>

namespace {

tessera::SegmentationPlan plan(const char* model, std::uint64_t max_memory) {
  tessera::SessionOptions options;
  options.device = "cpu";
  options.max_memory = max_memory;
  return tessera::Session::open(model, options).plan(4096, 4096);
}

}  // namespace

int main(int, char** argv) try {
  constexpr std::uint64_t kMiB = 1 << 20, kLimit = 512 * kMiB;
  const tessera::SegmentationPlan roomy = plan(argv[1], 64 * 1024 * kMiB);
  const tessera::SegmentationPlan tight = plan(argv[1], kLimit);
  for (const tessera::SegmentationPlan& one : {roomy, tight})
    std::printf("%lld tile(s) of %lld x %lld, %.2f of the work, %llu MiB\n",
                static_cast<long long>(one.tiles), static_cast<long long>(one.tile_height),
                static_cast<long long>(one.tile_width), one.work,
                static_cast<unsigned long long>(one.peak / kMiB));
  std::printf("%s\n", tight.peak <= kLimit && tight.peak < roomy.peak && tight.tiles > roomy.tiles
                          ? "more tiles need less memory"
                          : "the limit does not hold");
} catch (const std::runtime_error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
