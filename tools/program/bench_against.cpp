// `tessera bench --against cudnn`: each node of a network on the GPU beside cuDNN or cuBLASLt.
#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "engine/graph/node_checks.h"
#include "tools/peers/peers.h"
#include "tools/program/bench.h"
#include "tools/program/program.h"

namespace tessera {

namespace {

using nlohmann::json;

// What one node took, of what the measured peak and bandwidth allow.
struct Share {
  double seconds, least;
  double roofline() const { return seconds > 0 ? least / seconds : 0; }
};

double least_seconds(const Cost& cost, double peak, double bandwidth) {
  return std::max(cost.flops / peak, cost.bytes / bandwidth);
}

json to_json(const PeerRow& row, double least) {
  json tried = json::array();
  for (const PeerWay& way : row.tried) {
    json one = {{"name", way.name}};
    if (way.refused.empty()) {
      one["seconds"] = way.seconds;
    } else {
      one["refused"] = way.refused;
    }
    tried.push_back(std::move(one));
  }
  json line = {
      {"node", row.node},        {"kind", row.kind},
      {"flops", row.cost.flops}, {"bytes", row.cost.bytes},
      {"seconds", row.seconds},  {"share_of_roofline", Share{row.seconds, least}.roofline()},
      {"note", row.note},        {"tried", std::move(tried)}};
  if (row.peer.empty()) return line;
  line.update({{"peer", row.peer},
               {"way", row.way},
               {"peer_seconds", row.peer_seconds},
               {"peer_share_of_roofline", Share{row.peer_seconds, least}.roofline()},
               {"ratio", row.peer_seconds / row.seconds},
               {"largest_difference", row.largest_difference},
               {"largest_value", row.largest_value}});
  return line;
}

// us, TFLOP/s and share of the roofline.
std::string cells(const Cost& cost, const Share& share) {
  if (share.seconds <= 0) return fmt::format("{:>9} {:>8} {:>6}", "-", "-", "-");
  return fmt::format("{:>9.1f} {:>8.1f} {:>6.1f}", 1e6 * share.seconds,
                     1e-12 * cost.flops / share.seconds, 100 * share.roofline());
}

void print(const PeerRow& row, double least) {
  std::string line = fmt::format("{:<22} {}", row.node, cells(row.cost, {row.seconds, least}));
  line += " " + cells(row.cost, {row.peer_seconds, least});
  if (row.peer.empty()) {
    line += fmt::format("  no peer: {}", row.note);
  } else {
    line += fmt::format(" {:>6.2f} {:>9.1e}  {}: {}{}{}", row.peer_seconds / row.seconds,
                        row.largest_difference / row.largest_value, row.peer, row.way,
                        row.note.empty() ? "" : "; ", row.note);
  }
  std::cout << line << std::endl;  // at once: what is cut off loses no row
}

}  // namespace

int bench_against(const BenchOptions& options) {
  WorkloadOptions wanted = options.workload;
  if (wanted.device == "auto") wanted.device = "cuda";
  if (wanted.device == "cpu")
    throw UsageError("--against cudnn is of a GPU, and --device cpu is none: leave it out");
  Workload workload(wanted);  // its run has made the GPU the current one
  const Precision precision = workload.device().precision();
  Peers peers(precision, {.folders = options.libraries, .trial_seconds = options.duration});
  const Peaks peaks = workload.device().measure_peaks();
  const double peak = peaks.flops(precision);
  if (options.json) {
    std::cout << json({{"workload", workload.title()},
                       {"precision", workload.precision()},
                       {"device", device_json(workload.device())},
                       {"libraries", peers.names()},
                       {"peak_flops_per_second", peak},
                       {"bandwidth_bytes_per_second", peaks.bandwidth}})
                     .dump()
              << std::endl;
  } else {
    std::cout << fmt::format(
        "{}, {}, {}\nbeside {}\nroofline measured here: {:.1f} TFLOP/s, {:.1f} GB/s; medians of "
        "runs on the same memory\n\n",
        workload.title(), workload.precision(), workload.device().name(),
        fmt::format("{}", fmt::join(peers.names(), ", ")), 1e-12 * peak, 1e-9 * peaks.bandwidth);
    std::cout << fmt::format("{:<22} {:>9} {:>8} {:>6} {:>9} {:>8} {:>6} {:>6} {:>9}  {}\n", "node",
                             "us", "TFLOP/s", "roof%", "peer us", "TFLOP/s", "roof%", "ratio",
                             "diff", "by");
  }

  const Executor& executor = workload.executor();
  const Graph& graph = executor.graph();
  const std::vector<TensorType> types = infer_types(graph, workload.types());
  Cost all, both;  // of all nodes, and of those that have a peer
  Share ours{0, 0}, beside{0, 0}, theirs{0, 0};
  int with_peer = 0;
  for (std::size_t i = 0; i < graph.nodes.size() && interrupted() == 0; ++i) {
    const Node& node = graph.nodes[i];
    const PeerRow row = named(node, [&] {
      return peers.compare(node, input_types(node, types), executor.compiled().weights(i));
    });
    const double least = least_seconds(row.cost, peak, peaks.bandwidth);
    if (options.json) {
      std::cout << to_json(row, least).dump(-1, ' ', false, json::error_handler_t::replace)
                << std::endl;
    } else {
      print(row, least);
    }
    const auto add = [](Cost& to, const Cost& cost) {
      to.flops += cost.flops, to.bytes += cost.bytes;
    };
    add(all, row.cost);
    ours.seconds += row.seconds, ours.least += least;
    if (row.peer.empty()) continue;
    ++with_peer;
    add(both, row.cost);
    beside.seconds += row.seconds, beside.least += least;
    theirs.seconds += row.peer_seconds, theirs.least += least;
  }
  if (options.json || with_peer == 0) return interrupted() == 0 ? kExitDone : 128 + interrupted();
  std::cout << fmt::format("{:<22} {}\n", "all nodes", cells(all, ours))
            << fmt::format("{:<22} {} {} {:>6.2f}\n", fmt::format("the {} with a peer", with_peer),
                           cells(both, beside), cells(both, theirs),
                           theirs.seconds / beside.seconds)
            << "ratio: the peer's time over ours; diff: of the largest value.\n";
  return interrupted() == 0 ? kExitDone : 128 + interrupted();
}

}  // namespace tessera
