// `tessera eval` of a HAN: labels against labels.
#include <algorithm>
#include <cmath>
#include <map>

#include "models/text/labels.h"
#include "tools/program/eval.h"
#include "tools/program/inputs.h"
#include "tools/program/labels.h"

namespace tessera {

using nlohmann::json;

namespace {

// A probability of 0 has no logarithm; Keras clips at the same value.
constexpr float kLeastProbability = 1e-7f;
constexpr std::size_t kWidestMatrix = 12;  // classes whose confusion is printed

constexpr Figure kFigures[] = {{"precision", &ConfusionMatrix::precision},
                               {"recall", &ConfusionMatrix::recall},
                               {"F1", &ConfusionMatrix::f1}};

struct LabelledDocument {
  std::string name, text;
  FoundClass label;
};

// What answers are worth, of which each is held against a class.
struct Score {
  explicit Score(std::size_t classes) : confusion(classes) {}

  void add(const Score& other) {
    confusion.add(other.confusion);
    loss += other.loss;
  }

  ConfusionMatrix confusion;
  double loss = 0;  // sum
};

class DocumentEvaluation {
 public:
  DocumentEvaluation(const EvalOptions& options, const std::string& model, Session session)
      : options_(options),
        model_(model),
        session_(std::move(session)),
        names_(class_names(session_)),
        inputs_(expand_inputs(options.inputs, is_document_name, "documents (.tsv, .csv, .jsonl)")),
        score_(names_.size()),
        by_index_(names_.size()),
        report_(options.report, "documents", 0) {}

  int run() {
    for (const std::vector<std::string>& group : look_alikes(names_))
      report_.note(look_alike_note(group));
    for (const Input& input : inputs_) {
      if (interrupted() != 0) break;
      if (input.error.empty()) {
        read(input);
      } else {
        report_.failure(input.name(), input.error);
      }
    }
    if (interrupted() == 0) flush();
    settle_labels();
    if (score_.confusion.total() > 0) {
      if (options_.report.json) {
        report_.result(to_json().dump(2, ' ', false, json::error_handler_t::replace));
      } else {
        print();
      }
    }
    return report_.finish();
  }

 private:
  void read(const Input& input) {
    try {
      DocumentReader reader(input.path, reader_options(options_.files));
      require(reader.format() != DocumentFormat::kText,
              "a text has no label; give .tsv, .csv, .json or .jsonl, or say --format");
      bool empty = true;
      while (interrupted() == 0) {
        std::optional<DocumentRecord> record = reader.next();
        if (!record) break;
        empty = false;
        take(fmt::format("{}:{}", input.name(), record->number), std::move(*record));
      }
      require(!empty || interrupted() != 0, "no documents in this file; give it one per line");
      for (const std::string& note : reader.notes()) report_.note(note);
    } catch (const Error& error) {
      report_.failure(input.name(), error.what());
    }
  }

  void take(const std::string& name, DocumentRecord record) {
    if (!record.error.empty() || !record.label) {
      report_.failure(name, record.error.empty() ? "it has no label" : record.error);
      return;
    }
    const auto label = find_class(session_.classes(), *record.label);
    if (!label) {
      if (++unknown_labels_[*record.label] == 1) note_look_alike(*record.label);
      return;
    }
    if (label->by_index) ++numbers_[*record.label];
    batch_bytes_ += record.text.size();
    batch_.push_back({name, std::move(record.text), *label});
    if (batch_.size() >= kBatchDocuments || batch_bytes_ >= kBatchBytes) flush();
  }

  // Numbers count as indices if all labels are of classes; if not, they are unknown as well.
  void settle_labels() {
    const auto fail_label = [&](const std::string& label, std::size_t count, const char* why) {
      report_.failure(fmt::format("label '{}'", label),
                      fmt::format("{} documents have this label, which is none of the model's {} "
                                  "classes{}",
                                  count, names_.size(), why));
    };
    for (const auto& [label, count] : unknown_labels_) fail_label(label, count, "");
    if (numbers_.empty()) return;
    if (unknown_labels_.empty()) {
      score_.add(by_index_);
      report_.note(
          fmt::format("{} of the labels are numbers, taken as indices of classes: {} is \"{}\"",
                      by_index_.confusion.total(), numbers_.begin()->first,
                      names_[find_class(session_.classes(), numbers_.begin()->first)->place]));
      return;
    }
    for (const auto& [label, count] : numbers_)
      fail_label(label, count, "; it is no index either, as other labels are unknown");
  }

  void note_look_alike(const std::string& label) {
    std::vector<std::string> names = names_;
    names.push_back(label);
    for (const std::vector<std::string>& group : look_alikes(names)) {
      if (group.back() == label) report_.note(look_alike_note(group));
    }
  }

  void flush() {
    std::vector<std::string_view> texts;
    for (const LabelledDocument& document : batch_) texts.push_back(document.text);
    const std::vector<Classification> answers = session_.classify(texts);
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      const LabelledDocument& document = batch_[i];
      if (!answers[i].error.empty()) {
        report_.failure(document.name, answers[i].error);
        continue;
      }
      Score& score = document.label.by_index ? by_index_ : score_;
      const std::size_t truth = document.label.place;
      score.confusion.add(truth, answers[i].label);
      score.loss -= std::log(std::max(answers[i].probabilities[truth], kLeastProbability));
      report_.success();
    }
    done_ += batch_.size();
    report_.advance(static_cast<double>(done_));
    batch_.clear();
    batch_bytes_ = 0;
  }

  double mean_loss() const { return score_.loss / static_cast<double>(score_.confusion.total()); }

  json to_json() const {
    json result = eval_summary(model_, session_, report_);
    result["documents"] = score_.confusion.json(names_);
    result["accuracy"] = score_.confusion.accuracy();
    result["loss"] = mean_loss();
    return result;
  }

  void print() {
    for (const std::string& line : class_table(score_.confusion, names_, kFigures, "documents"))
      report_.result(line);
    if (names_.size() <= kWidestMatrix) print_matrix();
    report_.result(fmt::format("accuracy {}: {} of {} right, loss {}",
                               figure(score_.confusion.accuracy()), score_.confusion.right(),
                               score_.confusion.total(), figure(mean_loss())));
  }

  void print_matrix() {
    constexpr std::size_t kColumn = 8;
    std::size_t width = 0;
    for (const std::string& name : names_) width = std::max(width, name.size());
    std::string head = fmt::format("{:<{}}", "", width);
    for (const std::string& name : names_)
      head += fmt::format("  {:>{}}", name.substr(0, kColumn), kColumn);
    report_.result("confusion, a row for each true class:");
    report_.result(head);
    for (std::size_t truth = 0; truth < names_.size(); ++truth) {
      std::string line = fmt::format("{:<{}}", names_[truth], width);
      for (std::size_t predicted = 0; predicted < names_.size(); ++predicted)
        line += fmt::format("  {:>{}}", score_.confusion.at(truth, predicted), kColumn);
      report_.result(line);
    }
  }

  const EvalOptions& options_;
  const std::string& model_;
  Session session_;
  std::vector<std::string> names_;
  std::vector<Input> inputs_;
  Score score_, by_index_;  // of labels that are names, and numbers
  std::map<std::string, std::size_t> unknown_labels_, numbers_;
  std::vector<LabelledDocument> batch_;
  std::size_t batch_bytes_ = 0, done_ = 0;
  Report report_;
};

}  // namespace

int evaluate_documents(const EvalOptions& options, const std::string& model, Session session) {
  return DocumentEvaluation(options, model, std::move(session)).run();
}

}  // namespace tessera
