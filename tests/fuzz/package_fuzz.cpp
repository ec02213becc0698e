// libFuzzer target: hostile descriptions of packages, by themselves or in a zip file. What is
// accepted has axes, steps and sizes within limits; nothing that YAML repeats may cost more than
// its bytes.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "kernels/error.h"
#include "models/import/bioimage_description.h"
#include "models/import/bioimage_steps.h"
#include "models/import/package_files.h"

namespace {

using namespace tessera;

void check(bool ok) {
  if (!ok) std::abort();
}

void use(const BioimageDescription& description) {
  constexpr std::int64_t kMostExtent = 1 << 20;
  for (const BioimageTensor* tensor : {&description.input, &description.output}) {
    check(tensor->axes.size() <= 7);
    for (const auto& extent : {tensor->y, tensor->x})
      check(!extent || (extent->least >= 1 && extent->least <= kMostExtent && extent->step >= 0));
  }
  for (const std::int64_t channels : {1, 3}) {
    try {
      std::vector<Guess> guesses;
      for (const PixelStep& step : steps_before(description.input, channels, guesses)) {
        check(step.mean.size() <= 3 && step.std.size() <= 3);
        std::vector<float> values(12, 0.5f);
        if (step.kind == PixelStep::Kind::kDivide)
          for (const float std : step.std) check(std != 0);
        check(step.low <= step.high);
      }
    } catch (const Error&) {
    }
  }
  try {
    (void)steps_behind(description.output, std::nullopt);
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    if (text.starts_with("PK")) {
      const std::shared_ptr<const void> owner(bytes, [](const void*) {});
      const MappedFile file = MappedFile::part(std::as_bytes(std::span(bytes, size)), owner);
      const auto package =
          PackageFiles::archive(file, ZipArchive::read(file.bytes(), "fuzz.zip"), "fuzz.zip");
      if (!package) return 0;
      const MappedFile description = package->open(package->description(), "a description");
      use(read_bioimage(
          {reinterpret_cast<const char*>(description.bytes().data()), description.bytes().size()},
          "fuzz.zip"));
      return 0;
    }
    use(read_bioimage(text, "fuzz.yaml"));
  } catch (const Error& error) {
    check(std::string_view(error.what()).size() < (1 << 21));
  }
  return 0;
}
