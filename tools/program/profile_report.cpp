#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tools/program/html.h"
#include "tools/program/profile.h"

namespace tessera {

using nlohmann::json;

double Profile::least(const ProfiledNode& node) const {
  return std::max(node.flops / peak, node.bytes / bandwidth);
}

ProfiledNode Profile::total() const {
  ProfiledNode sum{"total", ""};
  for (const ProfiledNode& node : nodes) {
    sum.flops += node.flops;
    sum.bytes += node.bytes;
    sum.seconds += node.seconds;
  }
  return sum;
}

double Profile::least_of_all() const {
  double sum = 0;
  for (const ProfiledNode& node : nodes) sum += least(node);
  return sum;
}

std::string technique_of(const ProfiledNode& node) {
  return node.choice.substr(0, node.choice.find('\n'));
}

std::string profile_table(const Profile& profile, bool why) {
  const ProfiledNode total = profile.total();
  // A GPU's rates are a thousand times a CPU's.
  const double unit = profile.on_gpu ? 1e-12 : 1e-9;
  const char* const rate = profile.on_gpu ? "TFLOP/s" : "GFLOP/s";
  std::string text = fmt::format(
      "{}, {}, {}, mean of {} runs\nroofline measured here: {:.1f} {}, {:.1f} GB/s\n\n"
      "{:<24} {:<16} {:>11} {:>7} {:>9} {:>8} {:>9}  {}\n",
      profile.title, profile.precision, profile.runs_on, profile.iterations, unit * profile.peak,
      rate, 1e-9 * profile.bandwidth, "node", "kind", "time [us]", "share %", rate, "GB/s",
      "roofline%", "by");
  const auto row = [&](const ProfiledNode& node, double least) {
    const double seconds = std::max(node.seconds, 1e-12);  // below what any clock tells
    text += fmt::format("{:<24} {:<16} {:>11.1f} {:>7.1f} {:>9.1f} {:>8.2f} {:>9.1f}  {}\n",
                        node.name, node.kind, 1e6 * node.seconds,
                        100 * node.seconds / std::max(total.seconds, 1e-12),
                        unit * node.flops / seconds, 1e-9 * node.bytes / seconds,
                        100 * least / seconds, technique_of(node));
    if (!why) return;
    for (std::size_t at = node.choice.find('\n'); at != std::string::npos;) {
      const std::size_t next = node.choice.find('\n', at + 1);
      text += "    " + node.choice.substr(at + 1, next - at - 1) + '\n';
      at = next;
    }
  };
  for (const ProfiledNode& node : profile.nodes) row(node, profile.least(node));
  row(total, profile.least_of_all());
  return text;
}

json profile_json(const Profile& profile) {
  json nodes = json::array();
  for (const ProfiledNode& node : profile.nodes) {
    nodes.push_back({{"name", node.name},
                     {"kind", node.kind},
                     {"choice", node.choice},
                     {"seconds", node.seconds},
                     {"flops", node.flops},
                     {"bytes", node.bytes},
                     {"share_of_roofline", profile.least(node) / std::max(node.seconds, 1e-12)}});
  }
  json result = {{"workload", profile.title},
                 {"precision", profile.precision},
                 {"threads", profile.threads},
                 {"runs", profile.iterations},
                 {"peak_flops_per_second", profile.peak},
                 {"bandwidth_bytes_per_second", profile.bandwidth},
                 {"nodes", std::move(nodes)}};
  if (!profile.details.is_null()) result["device"] = profile.details;
  return result;
}

json chrome_trace(const Profile& profile) {
  std::map<std::string, const ProfiledNode*> by_name;
  for (const ProfiledNode& node : profile.nodes) by_name[node.name] = &node;
  json events = json::array();
  double offset = 0, end = 0, last_start = -1;
  for (const NodeTime& time : profile.times) {
    if (time.start < last_start) offset = end;  // the next run counts from 0 again
    last_start = time.start;
    end = offset + time.start + time.seconds;
    const double least = std::max(time.flops / profile.peak, time.bytes / profile.bandwidth);
    events.push_back({{"name", time.name},
                      {"cat", time.kind},
                      {"ph", "X"},
                      {"ts", 1e6 * (offset + time.start)},
                      {"dur", 1e6 * time.seconds},
                      {"pid", 1},
                      {"tid", 1},
                      {"args",
                       {{"kind", time.kind},
                        {"flops", time.flops},
                        {"bytes", time.bytes},
                        {"share_of_roofline", least / std::max(time.seconds, 1e-12)},
                        {"choice", by_name.at(time.name)->choice}}}});
  }
  return {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}};
}

namespace {

// Decades of a logarithmic axis, and where a value lies on the picture.
struct LogAxis {
  double first, last;  // exponents of 10
  double from, to;     // on the picture

  double at(double value) const {
    const double share = (std::log10(value) - first) / (last - first);
    return from + std::clamp(share, 0.0, 1.0) * (to - from);
  }
};

LogAxis axis_of(std::vector<double> values, double from, double to) {
  std::erase_if(values, [](double v) { return !(v > 0) || !std::isfinite(v); });
  if (values.empty()) values = {1};
  const auto [least, most] = std::ranges::minmax(values);
  const double first = std::floor(std::log10(least));
  return {first, std::max(std::ceil(std::log10(most)), first + 1), from, to};
}

std::string power_label(int exponent, const char* unit) {
  constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  const int step = std::clamp(exponent / 3, 0, 5);
  const double value = std::pow(10.0, exponent - 3 * step);
  return fmt::format("{:g} {}{}", value, kPrefixes[step], unit);
}

}  // namespace

std::string roofline_svg(const Profile& profile) {
  constexpr double kWidth = 960, kHeight = 640, kLeft = 90, kRight = 930, kTop = 60, kBottom = 580;
  constexpr std::size_t kLabels = 12;  // of the nodes that take most of the time
  constexpr const char* kColours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e",
                                      "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"};
  // Nodes that only move bytes have no place on an axis of FLOPs.
  std::vector<const ProfiledNode*> nodes;
  for (const ProfiledNode& node : profile.nodes)
    if (node.flops > 0 && node.bytes > 0 && node.seconds > 0) nodes.push_back(&node);
  std::ranges::stable_sort(nodes, std::ranges::greater(), &ProfiledNode::seconds);
  const double ridge = profile.peak / profile.bandwidth;
  std::vector<double> intensities{ridge / 10, ridge * 10}, rates{profile.peak, profile.peak / 1e3};
  for (const ProfiledNode* node : nodes) {
    intensities.push_back(node->flops / node->bytes);
    rates.push_back(node->flops / node->seconds);
  }
  const LogAxis x = axis_of(intensities, kLeft, kRight), y = axis_of(rates, kBottom, kTop);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"24\" font-size=\"15\">{3}</text>\n"
      "<text x=\"{2}\" y=\"44\" fill=\"#555\">{4}, {5}; {6:.1f} us; size: share of the "
      "time</text>\n",
      kWidth, kHeight, kLeft, html_escape(profile.title), html_escape(profile.precision),
      html_escape(profile.runs_on), 1e6 * profile.total().seconds);
  const auto line = [&](double x1, double y1, double x2, double y2, const char* style) {
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1,
                       y1, x2, y2, style);
  };
  const auto label = [&](double at_x, double at_y, const char* anchor, const std::string& text) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", at_x, at_y,
                       anchor, html_escape(text));
  };
  for (int e = static_cast<int>(x.first); e <= static_cast<int>(x.last); ++e) {
    line(x.at(std::pow(10.0, e)), kTop, x.at(std::pow(10.0, e)), kBottom, "stroke=\"#e4e4e4\"");
    label(x.at(std::pow(10.0, e)), kBottom + 18, "middle", fmt::format("{:g}", std::pow(10.0, e)));
  }
  for (int e = static_cast<int>(y.first); e <= static_cast<int>(y.last); ++e) {
    line(kLeft, y.at(std::pow(10.0, e)), kRight, y.at(std::pow(10.0, e)), "stroke=\"#e4e4e4\"");
    label(kLeft - 6, y.at(std::pow(10.0, e)) + 4, "end", power_label(e, "FLOP/s"));
  }
  label((kLeft + kRight) / 2, kBottom + 40, "middle", "FLOPs a byte");
  // The roof: bandwidth up to the ridge, the peak behind it, each where the picture has it.
  const double left =
      std::max(std::pow(10.0, x.first), std::pow(10.0, y.first) / profile.bandwidth);
  constexpr const char* kRoof = "stroke=\"black\" stroke-width=\"2\"";
  line(x.at(left), y.at(left * profile.bandwidth), x.at(ridge), y.at(profile.peak), kRoof);
  line(x.at(ridge), y.at(profile.peak), kRight, y.at(profile.peak), kRoof);
  label(kRight, y.at(profile.peak) - 8, "end",
        fmt::format("{:.4g} TFLOP/s, {:.4g} GB/s", 1e-12 * profile.peak, 1e-9 * profile.bandwidth));

  std::map<std::string, const char*> colours;
  const double total = std::max(profile.total().seconds, 1e-12);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const ProfiledNode& node = *nodes[i];
    const char* colour =
        colours.try_emplace(node.kind, kColours[colours.size() % std::size(kColours)])
            .first->second;
    const double at_x = x.at(node.flops / node.bytes), at_y = y.at(node.flops / node.seconds);
    const double radius = std::max(3.0, 60 * std::sqrt(node.seconds / total / 3.14));
    svg += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" fill=\"{}\" fill-opacity=\"0.55\" "
        "stroke=\"{}\"><title>{}: {:.1f} us, {:.1f} % of the roofline; {}</title></circle>\n",
        at_x, at_y, radius, colour, colour, html_escape(node.name), 1e6 * node.seconds,
        100 * profile.least(node) / node.seconds, html_escape(technique_of(node)));
    if (i < kLabels) label(at_x, at_y - radius - 3, "middle", node.name);
  }
  double at_y = kBottom - 12;
  for (const auto& [kind, colour] : colours) {
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"10\" height=\"10\" fill=\"{}\"/>\n",
                       kRight - 190, at_y - 10, colour);
    label(kRight - 174, at_y, "start", kind);
    at_y -= 16;
  }
  return svg + "</svg>\n";
}

}  // namespace tessera
