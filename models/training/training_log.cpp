#include "models/training/training_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <string_view>
#include <utility>

#include "kernels/error.h"

namespace tessera {
namespace {

using nlohmann::json;

// Calls take(line, bytes before it, bytes up to its end) for every whole line until it returns
// false.
void for_lines(const std::filesystem::path& path,
               const std::function<bool(const json&, std::size_t, std::size_t)>& take) {
  std::ifstream stream(path, std::ios::binary);
  require(stream.good(), "{}: cannot be read: {}", path.string(), std::strerror(errno));
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  std::size_t number = 1;
  for (std::size_t begin = 0; begin < text.size(); ++number) {
    const std::size_t newline = text.find('\n', begin);
    if (newline == std::string::npos) return;  // torn: the program was killed while it wrote
    const json line =
        json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                    text.begin() + static_cast<std::ptrdiff_t>(newline), nullptr, false);
    const bool sound = line.is_object() && line.contains("step") && line["step"].is_number();
    require(sound, "{}, line {}: expected a JSON object with a step; is it a log of a training?",
            path.string(), number);
    if (!take(line, begin, newline + 1)) return;
    begin = newline + 1;
  }
}

// Of the lines of at most that step.
std::uint64_t bytes_up_to(const std::filesystem::path& path, std::int64_t step) {
  std::uint64_t kept = 0;
  if (!std::filesystem::exists(path)) return kept;
  for_lines(path, [&](const json& line, std::size_t, std::size_t end) {
    if (line["step"].get<double>() > static_cast<double>(step)) return false;
    kept = end;
    return true;
  });
  return kept;
}

std::optional<double> figure_of(const json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

}  // namespace

MetricsLog::MetricsLog(std::filesystem::path path, std::optional<std::int64_t> resume_step)
    : file_(path, resume_step ? bytes_up_to(path, *resume_step) : 0) {}

void MetricsLog::append(const nlohmann::ordered_json& line) {
  file_.append(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  file_.sync();
}

std::vector<json> read_metrics(const std::filesystem::path& path) {
  std::vector<json> lines;
  for_lines(path, [&](const json& line, std::size_t, std::size_t) {
    lines.push_back(line);
    return true;
  });
  return lines;
}

std::vector<EpochMetrics> epochs_of(const std::vector<json>& lines) {
  std::vector<EpochMetrics> epochs;
  for (const json& line : lines) {
    const std::optional<double> epoch = figure_of(line, "epoch");
    EpochMetrics metrics{.epoch = epoch.value_or(0),
                         .train_loss = figure_of(line, "train_loss"),
                         .validation_loss = figure_of(line, "validation_loss"),
                         .train_accuracy = figure_of(line, "train_accuracy"),
                         .validation_accuracy = figure_of(line, "validation_accuracy"),
                         .best = line.value("best", json()) == true};
    const bool any = metrics.train_loss || metrics.validation_loss || metrics.train_accuracy ||
                     metrics.validation_accuracy;
    if (epoch && any) epochs.push_back(metrics);
  }
  return epochs;
}

namespace {

// Pixels of the picture; all text is set in kText.
constexpr double kPanelWidth = 380, kPanelHeight = 240;
constexpr double kLeft = 64, kTop = 64, kPanelGap = 84, kRight = 24, kBottom = 52;
constexpr double kText = 13;
// Blue and orange are told apart by any kind of colour vision (Okabe & Ito 2008); validation is
// also dashed, for print.
constexpr const char* kTrainColour = "#0072b2";
constexpr const char* kValidationColour = "#d55e00";
constexpr const char* kGrid = "#dddddd";
constexpr const char* kInk = "#222222";

struct Axis {
  double low = 0, high = 1, step = 0.2;  // between the ticks

  // An axis of about `count` intervals that holds both values, with steps of 1, 2 or 5 times a
  // power of ten.
  static Axis over(double low, double high, int count, double least_step) {
    if (!(high > low)) {  // one value alone
      const double half = std::max(std::abs(low) * 0.05, least_step);
      low -= half;
      high += half;
    }
    const double raw = (high - low) / count;
    const double power = std::pow(10, std::floor(std::log10(raw)));
    const double digits = raw / power;
    const double step = std::max(least_step, power * (digits <= 1   ? 1
                                                      : digits <= 2 ? 2
                                                      : digits <= 5 ? 5
                                                                    : 10));
    return {std::floor(low / step) * step, std::ceil(high / step) * step, step};
  }

  int ticks() const { return static_cast<int>(std::lround((high - low) / step)); }
  double tick(int i) const { return low + i * step; }
  std::string label(int i) const {
    const int digits = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
    // Without the minus of a zero that rounding left.
    return fmt::format("{:.{}f}", std::abs(tick(i)) < step / 2 ? 0.0 : tick(i), digits);
  }
};

struct Series {
  const char* name;
  const char* colour;
  const char* dashes;  // of the line, empty for a solid one
  std::vector<std::pair<double, double>> points;
};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

void add_text(std::string& svg, double x, double y, const char* anchor, std::string_view text,
              const char* colour = kInk, const char* more = "") {
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" fill=\"{}\"{}>{}</text>\n",
                     x, y, anchor, colour, more, escaped(text));
}

// One pair of axes with its curves; (left, top) is the corner of the plotted area.
class Panel {
 public:
  Panel(double left, Axis x, Axis y) : left_(left), x_(x), y_(y) {}

  void draw(std::string& svg, std::string_view title, const std::vector<Series>& series,
            std::optional<double> marked) const {
    const double bottom = kTop + kPanelHeight, right = left_ + kPanelWidth;
    add_text(svg, left_, kTop - 14, "start", title, kInk, " font-weight=\"bold\"");
    for (int i = 0; i <= y_.ticks(); ++i) {
      const double y = row(y_.tick(i));
      add_line(svg, left_, y, right, y, kGrid);
      add_text(svg, left_ - 8, y + kText / 3, "end", y_.label(i));
    }
    for (int i = 0; i <= x_.ticks(); ++i) {
      const double x = column(x_.tick(i));
      add_line(svg, x, bottom, x, bottom + 5, kInk);
      add_text(svg, x, bottom + 5 + kText, "middle", x_.label(i));
    }
    add_line(svg, left_, bottom, right, bottom, kInk);
    add_text(svg, (left_ + right) / 2, bottom + 2.9 * kText, "middle", "epoch");
    if (marked) {
      const double x = column(*marked);
      add_line(svg, x, kTop, x, bottom, "#888888", "2 3");
      const bool on_the_left = x > (left_ + right) / 2;
      add_text(svg, x + (on_the_left ? -5 : 5), kTop + kText, on_the_left ? "end" : "start",
               fmt::format("best: epoch {:g}", *marked), "#666666");
    }
    double legend = right;
    for (auto one = series.rbegin(); one != series.rend(); ++one) {
      add_curve(svg, *one);
      // From the right; 7.2 pixels are the mean width of a letter at this size.
      const double width = 7.2 * static_cast<double>(std::strlen(one->name));
      add_text(svg, legend, kTop - 14, "end", one->name, one->colour);
      add_line(svg, legend - width - 26, kTop - 18, legend - width - 6, kTop - 18, one->colour,
               one->dashes, 2);
      legend -= width + 44;
    }
  }

 private:
  double column(double x) const { return left_ + (x - x_.low) / (x_.high - x_.low) * kPanelWidth; }
  double row(double y) const { return kTop + (y_.high - y) / (y_.high - y_.low) * kPanelHeight; }

  static void add_line(std::string& svg, double x0, double y0, double x1, double y1,
                       const char* colour, const char* dashes = "", double width = 1) {
    svg += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
        "stroke-width=\"{:g}\"{}/>\n",
        x0, y0, x1, y1, colour, width,
        *dashes == '\0' ? "" : fmt::format(" stroke-dasharray=\"{}\"", dashes));
  }

  void add_curve(std::string& svg, const Series& series) const {
    std::string points;
    for (const auto& [x, y] : series.points)
      points += fmt::format("{}{:.1f},{:.1f}", points.empty() ? "" : " ", column(x), row(y));
    svg += fmt::format(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" "
        "stroke-linejoin=\"round\"{}/>\n",
        points, series.colour,
        *series.dashes == '\0' ? "" : fmt::format(" stroke-dasharray=\"{}\"", series.dashes));
    // Dots where they do not run into each other, and always for a single epoch.
    constexpr std::size_t kMostDots = 40;
    if (series.points.size() > kMostDots) return;
    for (const auto& [x, y] : series.points) {
      svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\" fill=\"{}\"/>\n", column(x),
                         row(y), series.colour);
    }
  }

  double left_;
  Axis x_, y_;
};

Series series_of(const std::vector<EpochMetrics>& epochs, bool train,
                 std::optional<double> EpochMetrics::*value) {
  Series series{train ? "training" : "validation",
                train ? kTrainColour : kValidationColour,
                train ? "" : "6 3",
                {}};
  for (const EpochMetrics& epoch : epochs) {
    const std::optional<double>& y = epoch.*value;
    if (y && std::isfinite(*y)) series.points.emplace_back(epoch.epoch, *y);
  }
  return series;
}

}  // namespace

std::string learning_curves_svg(const std::vector<EpochMetrics>& epochs, const std::string& title) {
  struct Content {
    const char* title;
    double least_step;  // of the value's axis
    std::vector<Series> series;
  };
  std::vector<Content> contents{{"Loss",
                                 1e-6,
                                 {series_of(epochs, true, &EpochMetrics::train_loss),
                                  series_of(epochs, false, &EpochMetrics::validation_loss)}},
                                {"Accuracy",
                                 1e-4,
                                 {series_of(epochs, true, &EpochMetrics::train_accuracy),
                                  series_of(epochs, false, &EpochMetrics::validation_accuracy)}}};
  std::optional<double> best;
  for (const EpochMetrics& epoch : epochs) {
    if (epoch.best) best = epoch.epoch;
  }
  for (Content& content : contents)
    std::erase_if(content.series, [](const Series& one) { return one.points.empty(); });
  if (contents[1].series.empty()) contents.pop_back();

  double first = 1, last = 1;
  for (const EpochMetrics& epoch : epochs) {
    first = std::min(first, epoch.epoch);
    last = std::max(last, epoch.epoch);
  }
  const auto panels = static_cast<double>(contents.size());
  const double width = kLeft + panels * kPanelWidth + (panels - 1) * kPanelGap + kRight;
  const double height = kTop + kPanelHeight + kBottom;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:g}\" height=\"{1:g}\" viewBox=\"0 0 "
      "{0:g} {1:g}\" font-family=\"system-ui, sans-serif\" font-size=\"{2:g}\">\n"
      "<title>{3}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      width, height, kText, escaped(title));
  add_text(svg, kLeft, 26, "start", title, kInk, " font-size=\"16\"");
  double left = kLeft;
  for (const Content& content : contents) {
    double low = INFINITY, high = -INFINITY;
    for (const Series& one : content.series) {
      for (const auto& point : one.points) {
        low = std::min(low, point.second);
        high = std::max(high, point.second);
      }
    }
    if (!(low <= high)) low = 0, high = 1;  // nothing to draw
    const Panel panel(left, Axis::over(first, last, 8, 1),
                      Axis::over(low, high, 5, content.least_step));
    panel.draw(svg, content.title, content.series, best);
    left += kPanelWidth + kPanelGap;
  }
  return svg + "</svg>\n";
}

}  // namespace tessera
