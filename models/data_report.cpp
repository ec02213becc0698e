#include "models/data_report.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"

namespace tessera {

std::string DataProblem::to_string() const {
  return line == 0 ? fmt::format("{}: {}", file, text)
                   : fmt::format("{}, line {}: {}", file, line, text);
}

void DataReport::problem(std::string file, std::size_t line, std::string text) {
  ++count_;
  if (problems_.size() < kMaxKept) problems_.push_back({std::move(file), line, std::move(text)});
}

void DataReport::require_none() const {
  if (count_ == 0) return;
  constexpr std::size_t kShown = 20;  // a screen's worth
  std::string list;
  for (std::size_t i = 0; i < std::min(problems_.size(), kShown); ++i)
    list += "\n  " + problems_[i].to_string();
  if (count_ > kShown) list += fmt::format("\n  and {} more", count_ - kShown);
  fail("the data has {} problem{}:{}", count_, count_ == 1 ? "" : "s", list);
}

}  // namespace tessera
