#include "tools/program/labels.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "kernels/error.h"
#include "models/text/labels.h"

namespace tessera {

using nlohmann::json;

namespace {

std::string dump(const json& object) {
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::vector<std::size_t> by_probability(const Classification& answer, std::size_t count) {
  std::vector<std::size_t> order(answer.probabilities.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater(),
                           [&](std::size_t i) { return answer.probabilities[i]; });
  order.resize(std::min(order.size(), count));
  return order;
}

// A name may hold anything but what separates columns and lines.
std::string as_column(std::string name) {
  for (char& c : name) {
    if (c == '\t' || c == '\n' || c == '\r') c = ' ';
  }
  return name;
}

json attention_json(const Classification& answer) {
  json sentences = json::array();
  for (const AttendedSentence& sentence : answer.sentences) {
    json words = json::array();
    for (const AttendedWord& word : sentence.words) {
      words.push_back({{"begin", word.begin},
                       {"end", word.end},
                       {"weight", word.weight},
                       {"known", word.known}});
    }
    sentences.push_back({{"begin", sentence.begin},
                         {"end", sentence.end},
                         {"weight", sentence.weight},
                         {"words", std::move(words)}});
  }
  return sentences;
}

}  // namespace

std::optional<FoundClass> find_class(const std::vector<ClassInfo>& classes,
                                     const std::string& label) {
  const auto named = [&](auto one) {
    return FoundClass{static_cast<std::size_t>(one - classes.begin())};
  };
  const auto same = std::ranges::find(classes, label, &ClassInfo::name);
  if (same != classes.end()) return named(same);
  const auto is_numbered = [](const ClassInfo& one) { return is_whole_number(one.name); };
  if (label.empty() || (is_whole_number(label) && std::ranges::any_of(classes, is_numbered)))
    return std::nullopt;
  const auto begins = [&](const ClassInfo& one) { return one.name.starts_with(label); };
  if (std::ranges::count_if(classes, begins) == 1)
    return named(std::ranges::find_if(classes, begins));
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), index);
  const bool number = error == std::errc() && end == label.data() + label.size();
  if (!number || index >= classes.size()) return std::nullopt;
  return FoundClass{index, true};
}

json LabelFormat::answer(const Classification& answer) const {
  if (!style_.json) {
    std::string text;
    for (const std::size_t i : by_probability(answer, style_.top_k))
      text += fmt::format("{}\t{:.4f}\t", as_column(classes_[i].name), answer.probabilities[i]);
    return text;
  }
  json object = {{"label", classes_[answer.label].name},
                 {"probability", answer.probabilities[answer.label]}};
  json& probabilities = object["probabilities"] = json::array();
  const std::size_t count = style_.top_k > 1 ? style_.top_k : classes_.size();
  for (const std::size_t i : by_probability(answer, count)) {
    probabilities.push_back(
        {{"label", classes_[i].name}, {"probability", answer.probabilities[i]}});
  }
  object["sentences_dropped"] = answer.sentences_dropped;
  object["words_dropped"] = answer.words_dropped;
  object["unknown_words"] = answer.unknown_words;
  object["invalid_sequences"] = answer.invalid_sequences;
  if (style_.attention) object["sentences"] = attention_json(answer);
  return object;
}

std::string LabelFormat::line(const std::string& name, json answer,
                              const std::optional<std::string>& truth) {
  if (!style_.json) {
    const auto text = answer.get<std::string>();
    if (truth) count(text.substr(0, text.find('\t')), *truth);
    return text + as_column(name);
  }
  if (truth) {
    count(answer.at("label").get<std::string>(), *truth);
    answer["truth"] = *truth;
  }
  answer["name"] = name;
  return dump(answer);
}

void LabelFormat::count(const std::string& label, const std::string& truth) {
  const std::optional<FoundClass> expected = find_class(classes_, truth);
  if (!expected) {
    ++strange_;
    return;
  }
  const std::string& name = classes_[expected->place].name;
  Count& known = expected->by_index ? by_index_ : by_name_;
  ++known.labelled;
  known.right += (style_.json ? name : as_column(name)) == label ? 1 : 0;
}

std::string LabelFormat::failure(const std::string& name, const std::string& error) const {
  return dump({{"name", name}, {"error", error}});
}

std::string LabelFormat::accuracy() const {
  const std::size_t known = by_name_.labelled, numbers = by_index_.labelled;
  if (known + numbers + strange_ == 0) return "";
  const bool are_indices = strange_ == 0;
  const std::size_t labelled = known + (are_indices ? numbers : 0);
  const std::size_t right = by_name_.right + (are_indices ? by_index_.right : 0);
  const std::size_t unknown = strange_ + (are_indices ? 0 : numbers);
  const double share = static_cast<double>(right) / static_cast<double>(labelled);
  if (style_.json) {
    return dump({{"accuracy", labelled > 0 ? json(share) : json()},
                 {"right", right},
                 {"labelled", labelled},
                 {"labels_taken_as_indices", are_indices ? numbers : 0},
                 {"labels_unknown_to_the_model", unknown}});
  }
  std::string text = labelled > 0
                         ? fmt::format("# accuracy {:.4f}: {} of {} right", share, right, labelled)
                         : "# no accuracy: no label is the name of a class";
  if (unknown > 0)
    text += fmt::format("; {} {} a label that the model does not know", unknown,
                        labelled > 0 ? "more have" : "have");
  if (are_indices && numbers > 0)
    text += fmt::format("; {} of the labels are numbers, taken as indices of classes", numbers);
  return text;
}

}  // namespace tessera
