// How `tessera classify` writes an answer as a line.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/session.h"

namespace tessera {

struct FoundClass {
  std::size_t place;
  bool by_index = false;  // no name says so
};

// The class that a label in a file means: by its name, a beginning that no other class has ("pos"
// of "positive"), or its index. Among classes whose names are numbers a number is a name alone.
//
// Stars from 1 to 5 are no indices of two classes, though 1 could be one: an index is to be trusted
// only once all labels of the run are known to be of classes.
std::optional<FoundClass> find_class(const std::vector<ClassInfo>& classes,
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

  // An answer without what differs between documents of the same text: what a journal keeps.
  nlohmann::json answer(const Classification& answer) const;
  // The line of an answer(); with a `truth` it also counts for the accuracy. Throws
  // nlohmann::json::exception for what is none.
  std::string line(const std::string& name, nlohmann::json answer,
                   const std::optional<std::string>& truth);
  std::string failure(const std::string& name, const std::string& error) const;  // JSON
  // The last line: the share of right answers. Empty where no document had a label. Indices count
  // if no label is unknown, and are unknown themselves otherwise.
  std::string accuracy() const;

 private:
  void count(const std::string& label, const std::string& truth);

  std::vector<ClassInfo> classes_;
  LabelStyle style_;
  struct Count {
    std::size_t labelled = 0, right = 0;
  };
  Count by_name_, by_index_;
  std::size_t strange_ = 0;
};

}  // namespace tessera
