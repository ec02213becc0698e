#include "engine/device/device.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "engine/device/gpu.h"
#include "kernels/error.h"

namespace tessera {

namespace {

constexpr const char* kExpectedDevices = "expected cpu, cuda, cuda:N, cuda:N,M, cuda:all or auto";

// By the files that NVIDIA's drivers make: of a card, of Windows' subsystem for Linux, of Jetsons.
bool has_nvidia_device(const std::string& folder) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    for (const char* known : {"nvidia", "dxg", "nvhost-", "nvgpu"})
      if (name.starts_with(known)) return true;
  }
  return false;
}

// N of "cuda:N", kAnyGpu of "cuda"; none where `name` is neither.
std::optional<int> gpu_index(std::string_view name) {
  if (name == "cuda") return kAnyGpu;
  if (!name.starts_with("cuda:")) return std::nullopt;
  name.remove_prefix(5);
  int index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc() || end != name.data() + name.size() || index < 0) return std::nullopt;
  return index;
}

}  // namespace

std::vector<std::string> device_names(const std::string& name) {
  std::vector<std::string> names;
  if (name == "cuda:all") {
    const int count = count_gpus();
    for (int i = 0; i < count; ++i) names.push_back(fmt::format("cuda:{}", i));
    return count > 0 ? names : std::vector<std::string>{"cuda"};  // which says why there is none
  }
  if (!name.starts_with("cuda:")) return {name};
  for (std::size_t begin = name.find(':'); begin != std::string::npos;) {
    const std::size_t end = name.find(',', begin + 1);
    names.push_back("cuda:" + name.substr(begin + 1, end - begin - 1));
    require(gpu_index(names.back()).has_value(), "device '{}': {}", name, kExpectedDevices);
    require(std::ranges::count(names, names.back()) == 1, "device '{}': '{}' is named twice", name,
            names.back());
    begin = end;
  }
  return names;
}

Precision parse_precision(std::string_view name) {
  for (const Precision one :
       {Precision::kFp32, Precision::kTf32, Precision::kBf16, Precision::kFp16})
    if (name_of(one) == name) return one;
  fail("precision '{}': expected fp32, tf32, bf16, fp16 or auto", name);
}

DType storage_of(Precision precision) {
  if (precision == Precision::kBf16) return DType::kBF16;
  return precision == Precision::kFp16 ? DType::kF16 : DType::kF32;
}

double Peaks::flops(Precision precision) const {
  double special = 0;
  if (precision == Precision::kTf32) special = tf32;
  if (precision == Precision::kBf16 || precision == Precision::kFp16) special = bf16;
  return special > 0 ? special : f32;
}

DeviceOptions device_options(bool images, std::string device, std::string_view precision,
                             int threads) {
  DeviceOptions options{.name = std::move(device), .threads = threads};
  if (precision == "auto") {
    if (images) options.gpu_precision = Precision::kBf16;
    return options;
  }
  options.precision = options.gpu_precision = parse_precision(precision);
  if (!images && options.precision == Precision::kBf16) options.precision = Precision::kFp32;
  return options;
}

OpenedDevice open_device(const DeviceOptions& options, const std::string& devices) {
  if (options.name == "cpu") return {open_cpu_device(options.threads, options.precision), ""};
  const std::vector<std::string> names = device_names(options.name);
  require(names.size() == 1,
          "device '{}': several GPUs segment images and classify documents; name one here",
          options.name);
  if (const std::optional<int> index = gpu_index(names[0]))
    return {open_cuda_device(*index, options.gpu_precision), ""};
  require(options.name == "auto", "device '{}': {}", options.name, kExpectedDevices);
  std::string note;
  if (cuda_is_built()) {
    try {
      return {open_cuda_device(kAnyGpu, options.gpu_precision), ""};
    } catch (const DeviceError& error) {
      if (has_nvidia_device(devices)) note = fmt::format("running on the CPU: {}", error.what());
    }
  }
  return {open_cpu_device(options.threads, options.precision), note};
}

}  // namespace tessera
