// What is wrong with a data set, gathered in one pass so that all of it is said at once, before any
// training and not after an hour of it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tessera {

struct DataProblem {
  std::string file;
  std::size_t line = 0;  // from 1; 0: the file as a whole
  std::string text;      // what was expected, what was found, what to do

  std::string to_string() const;  // "train.tsv, line 17: ..."
};

class DataReport {
 public:
  // Only so many are kept; the others are counted.
  static constexpr std::size_t kMaxKept = 1000;

  // Something that must be put right, or whose record is left out.
  void problem(std::string file, std::size_t line, std::string text);
  // Something worth knowing that stops nothing.
  void note(std::string text) { notes_.push_back(std::move(text)); }

  const std::vector<DataProblem>& problems() const { return problems_; }
  std::size_t problem_count() const { return count_; }  // those that were not kept too
  const std::vector<std::string>& notes() const { return notes_; }

  // Throws one Error that lists the problems, if there are any.
  void require_none() const;

 private:
  std::vector<DataProblem> problems_;
  std::size_t count_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace tessera
