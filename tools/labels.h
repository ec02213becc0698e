// How `tessera classify` writes an answer as a line, and reads such lines again.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/session.h"

namespace tessera {

// The class that a label in a file means: by its name, a beginning that no other class has ("pos"
// of "positive"), or its index. Among classes whose names are numbers a number is a name alone.
std::optional<std::size_t> find_class(const std::vector<ClassInfo>& classes,
                                      const std::string& label);

struct LabelStyle {
  bool json = false;       // JSON lines; else columns: label, probability (top_k times), name
  bool attention = false;  // in JSON
  std::size_t top_k = 1;
};

class LabelFormat {
 public:
  LabelFormat(std::vector<ClassInfo> classes, LabelStyle style)
      : classes_(std::move(classes)), style_(style) {}

  // The line of an answer; with a `truth` it also counts for the accuracy.
  std::string line(const std::string& name, const Classification& answer,
                   const std::optional<std::string>& truth);
  // Counts an answer of an earlier run, a line of read(), for the accuracy.
  void count(const std::string& line, const std::string& truth);
  std::string failure(const std::string& name, const std::string& error) const;  // JSON
  // The last line: the share of right answers. Empty where no document had a label.
  std::string accuracy() const;

  // The answers of a file that was written in this style: name -> line. Failures are left out, so
  // that they are tried again. Throws Error for a file of another style.
  std::map<std::string, std::string> read(const std::string& path) const;

 private:
  nlohmann::json to_json(const std::string& name, const Classification& answer) const;
  // `label`: the index of the answer, nothing for a class that is not this model's.
  void count(std::optional<std::size_t> label, const std::string& truth);

  std::vector<ClassInfo> classes_;
  LabelStyle style_;
  std::size_t labelled_ = 0, right_ = 0, strange_ = 0;
};

}  // namespace tessera
