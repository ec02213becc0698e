// `tessera bench`: how fast a network runs here, beside what this machine can do at most.
#include "tools/program/bench.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/device/machine.h"
#include "tools/program/program.h"

namespace tessera {

void forget_peak_memory() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

std::vector<double> measure_runs(const BenchOptions& options, const std::function<void()>& run) {
  constexpr int kLeast = 3;  // a median of fewer is none
  for (int i = 0; i < options.warmup; ++i) run();
  std::vector<double> seconds;
  const auto begin = std::chrono::steady_clock::now();
  while (interrupted() == 0) {
    const auto runs = static_cast<int>(seconds.size());
    if (options.iterations > 0 ? runs >= options.iterations
                               : runs >= kLeast && seconds_since(begin) >= options.duration)
      break;
    const auto start = std::chrono::steady_clock::now();
    run();
    seconds.push_back(seconds_since(start));
  }
  std::ranges::sort(seconds);
  return seconds;
}

double percentile(const std::vector<double>& sorted, double share) {
  const double index = share * static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<std::size_t>(std::lround(index))];
}

namespace {

// Seconds of one run by the clock of a GPU: kernels alone, enqueued again and again. A median.
double measure_on_device(Workload& workload) {
  constexpr int kBatches = 5, kMostReplays = 1000;
  constexpr double kBatchSeconds = 0.1;
  const double once = workload.replay_seconds(1);
  const int replays =
      std::clamp(static_cast<int>(kBatchSeconds / std::max(once, 1e-6)), 1, kMostReplays);
  std::vector<double> seconds;
  while (interrupted() == 0 && seconds.size() < kBatches)
    seconds.push_back(workload.replay_seconds(replays));
  if (seconds.empty()) return once;
  std::ranges::sort(seconds);
  return percentile(seconds, 0.5);
}

// What a run took, and what it may take here.
struct Measured {
  std::vector<double> seconds;  // from input to output in the memory of the host, sorted
  double device_seconds = 0;    // on a GPU alone
  std::size_t peak_memory = 0;
  Peaks peaks;
};

nlohmann::json to_json(const BenchOptions& options, const Workload& workload,
                       const Measured& measured) {
  const double median = percentile(measured.seconds, 0.5);
  const bool on_gpu = !workload.device().is_host();
  const double rate = workload.flops() / (on_gpu ? measured.device_seconds : median);
  const double peak = measured.peaks.flops(workload.device().precision());
  nlohmann::json result = {{"workload", workload.title()},
                           {"precision", workload.precision()},
                           {"technique", options.workload.technique},
                           {"threads", workload.threads()},
                           {"runs", measured.seconds.size()},
                           {"median_seconds", median},
                           {"p10_seconds", percentile(measured.seconds, 0.1)},
                           {"p90_seconds", percentile(measured.seconds, 0.9)},
                           {"flops", workload.flops()},
                           {"flops_per_second", rate},
                           {"peak_flops_per_second", peak},
                           {"bandwidth_bytes_per_second", measured.peaks.bandwidth},
                           {"share_of_peak", rate / peak},
                           {"items_per_second", workload.items() / median},
                           {"item", workload.item()},
                           {"start_seconds", workload.start_seconds()},
                           {"predicted_peak_bytes", workload.predicted_peak()},
                           {"measured_peak_bytes", measured.peak_memory}};
  if (on_gpu) {
    result["device"] = device_json(workload.device());
    result["device_seconds"] = measured.device_seconds;
    result["device_items_per_second"] = workload.items() / measured.device_seconds;
  }
  return result;
}

void print(const Workload& workload, const Measured& measured) {
  const double median = percentile(measured.seconds, 0.5);
  const bool on_gpu = !workload.device().is_host();
  const double rate = workload.flops() / (on_gpu ? measured.device_seconds : median);
  const double peak = measured.peaks.flops(workload.device().precision());
  std::cout << fmt::format("{}, {}, {}\n", workload.title(), workload.precision(),
                           runs_on(workload.device(), workload.threads()));
  std::cout << fmt::format("  median   {:.3f} ms   p10 {:.3f}   p90 {:.3f}   ({} runs)\n",
                           1e3 * median, 1e3 * percentile(measured.seconds, 0.1),
                           1e3 * percentile(measured.seconds, 0.9), measured.seconds.size());
  if (on_gpu) {
    std::cout << fmt::format(
        "  device   {:.3f} ms   kernels alone; the median has upload and download in it\n",
        1e3 * measured.device_seconds);
  }
  std::cout << fmt::format("  rate     {:.4g} {}s/s   {:.1f} GFLOP/s\n", workload.items() / median,
                           workload.item(), 1e-9 * rate);
  std::cout << fmt::format(
      "  of peak  {:.1f} % of the {:.1f} GFLOP/s measured here; memory {:.1f} GB/s\n",
      100 * rate / peak, 1e-9 * peak, 1e-9 * measured.peaks.bandwidth);
  std::cout << fmt::format("  start    {:.1f} ms from nothing to the first answer\n",
                           1e3 * workload.start_seconds());
  // On a CPU a HAN's weights include room for every projected word; its pages fill as words are
  // seen.
  const bool exact = on_gpu || workload.item() == std::string_view("image");
  std::cout << fmt::format("  memory   {} {}, {} measured{}; of it weights {}, maps {}\n",
                           format_bytes(workload.predicted_peak()), exact ? "predicted" : "at most",
                           format_bytes(measured.peak_memory), on_gpu ? " on the GPU" : "",
                           format_bytes(workload.packed_bytes()),
                           format_bytes(workload.arena_bytes()));
}

int bench(const BenchOptions& options) {
  Workload workload(options.workload);
  const bool on_gpu = !workload.device().is_host();
  forget_peak_memory();
  Measured measured;
  measured.seconds = measure_runs(options, [&] { workload.run(); });
  measured.peak_memory = on_gpu ? workload.device_bytes_taken() : peak_resident_bytes();
  require(!measured.seconds.empty(), "interrupted before a run was complete");
  if (on_gpu) measured.device_seconds = measure_on_device(workload);
  measured.peaks = workload.device().measure_peaks();
  if (options.json) {
    std::cout << to_json(options, workload, measured).dump(2) << '\n';
  } else {
    print(workload, measured);
  }
  return interrupted() == 0 ? kExitDone : 128 + interrupted();
}

}  // namespace

Verb make_bench_verb(CLI::App& program) {
  const auto options = std::make_shared<BenchOptions>();
  CLI::App& command = *program.add_subcommand("bench", "speed and memory of a network here");
  command
      .add_option(
          "preset", options->workload.preset,
          "unet-paper (U-Net 2015, 572 x 572), resnet34-unet (of segmentation_models.pytorch), "
          "nnunet (8 levels), han (tutorial, LSTM 150), han-paper (GRU 50)")
      ->check(CLI::IsMember(kPresets));
  command.add_option("-m,--model", options->workload.model, "a model file instead")
      ->type_name("FILE");
  options->workload.add_to(command);
  command.add_option("--warmup", options->warmup, "runs that do not count")
      ->type_name("N")
      ->check(at_least(0));
  command.add_option("--iterations", options->iterations, "runs; 0: as --duration says")
      ->type_name("N")
      ->check(at_least(0));
  command
      .add_option("--duration", options->duration,
                  "seconds, at least 3 runs; with --against: for the ways of each peer")
      ->type_name("S")
      ->check(CLI::Range(0.01, 86400.0));
  CLI::Option* const train =
      command.add_flag("--train", options->train, "a step of training: forward, backward, Adam");
  command
      .add_flag("--ragged", options->ragged, "documents and sentences of every length up to that")
      ->needs(train);
  CLI::Option* const against =
      command
          .add_option("--against", options->against,
                      "cudnn: each node on the GPU beside cuDNN or cuBLASLt")
          ->type_name("LIBRARY")
          ->check(CLI::IsMember({"cudnn"}))
          ->excludes(train);
  command
      .add_option("--libraries", options->libraries,
                  "where cuDNN and cuBLASLt lie; else the usual places")
      ->type_name("DIR[:DIR]")
      ->needs(against);
  command.add_flag("--json", options->json, "the result for machines");
  command.footer(
      "Presets need no file: their weights are made up. FLOPs are those of direct convolutions\n"
      "whatever the technique, so Winograd may pass 100 % of the peak; of a step of training they\n"
      "are three times the answer's. On a GPU the share of the peak is that of the kernels alone,\n"
      "and memory is the GPU's.\n"
      "Examples:\n"
      "  tessera bench unet-paper --threads 2\n"
      "  tessera bench unet-paper --precision bf16 --technique direct --json\n"
      "  tessera bench unet-paper --device cuda --batch 8\n"
      "  tessera bench han --sentences 64 --words 150\n"
      "  tessera bench -m unet.safetensors --size 700\n"
      "  tessera bench -m unet.safetensors --size 256 --batch 4 --train\n"
      "  tessera bench unet-paper --device cuda --precision bf16 --against cudnn");
  return {&command, [options] {
            WorkloadOptions& workload = options->workload;
            if (workload.preset.empty() && workload.model.empty())
              throw UsageError(
                  fmt::format("name a preset ({}) or a model with -m", fmt::join(kPresets, ", ")));
            catch_interrupts();
            if (!options->against.empty()) return bench_against(*options);
            return options->train ? bench_training(*options) : bench(*options);
          }};
}

}  // namespace tessera
