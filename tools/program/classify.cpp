// `tessera classify`: documents in, labels and what they rest on out.
#include <algorithm>
#include <climits>
#include <memory>
#include <numeric>

#include "engine/files/atomic_file.h"
#include "engine/files/digest.h"
#include "models/model_digest.h"
#include "tools/program/document_options.h"
#include "tools/program/html.h"
#include "tools/program/inputs.h"
#include "tools/program/journal.h"
#include "tools/program/labels.h"
#include "tools/program/program.h"
#include "tools/program/report.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct ClassifyOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> texts;
  DocumentFileOptions files;
  std::string output, html;
  std::size_t top_k = 1;
  bool attention = false;
  bool resume = false;
  std::string shard;
  ModelOptions model;
  ReportOptions report;
};

struct NamedDocument {
  std::string name;  // "reviews.tsv:12"
  std::string text;
  std::optional<std::string> truth = std::nullopt;
};

fs::path journal_of(const fs::path& output) {
  std::string name = output.filename().string() + ".journal";
  if (name.size() > NAME_MAX) name = digest_of(name) + ".journal";
  return output.parent_path() / name;
}

class ClassifyRun {
 public:
  explicit ClassifyRun(const ClassifyOptions& options)
      : options_(options),
        shard_(parse_shard(options.shard)),
        model_(options.model.path_or_demo(kDemoHan)),
        inputs_(find_inputs()),
        classifier_(Model::open(model_, options.model.session_options(options.report.quiet))),
        format_(classifier_.classes(), {options.report.json, options.attention, options.top_k}),
        report_(options.report, "documents", total()) {
    require(classifier_.task() == Session::Task::kClassify,
            "{}: this model segments images; give a HAN, or use 'tessera segment'", model_);
    if (!options.output.empty()) open_output();
    if (!options.html.empty())
      page_.emplace(options.html, fs::path(model_).filename().string(), classifier_.classes());
  }

  int run() {
    for (std::size_t i = 0; i < options_.texts.size(); ++i)
      take({fmt::format("text {}", i + 1), options_.texts[i]}, i);
    for (std::size_t i = 0; i < inputs_.size() && interrupted() == 0; ++i) {
      if (!inputs_[i].error.empty()) {
        if (shard_by_document() || shard_.owns(i))
          report_.failure(inputs_[i].name(), inputs_[i].error);
      } else if (shard_by_document() || shard_.owns(i)) {
        read(inputs_[i]);
      }
    }
    if (interrupted() == 0) flush();
    note_cuts();
    if (const std::string line = journal_ ? journal_->stale_line("document") : ""; !line.empty())
      report_.note(line);
    if (const std::string line = format_.accuracy(); !line.empty()) print(line);
    if (file_) file_->commit();
    if (page_) page_->commit();
    return report_.finish();
  }

 private:
  // One collection is split by its documents, several inputs as they are.
  bool shard_by_document() const { return inputs_.size() <= 1; }

  // Without the results of an earlier run that lie among the texts: their journal tells them.
  std::vector<Input> find_inputs() const {
    std::vector<Input> inputs =
        expand_inputs(options_.inputs, is_document_name, "texts (.txt, .tsv, .csv, .jsonl)");
    std::error_code ignored;
    if (inputs.size() > 1 && !options_.output.empty() &&
        fs::exists(journal_of(options_.output), ignored)) {
      std::erase_if(inputs, [&](const Input& input) {
        return std::ranges::find(options_.inputs, input.path) == options_.inputs.end() &&
               fs::equivalent(input.path, options_.output, ignored);
      });
    }
    std::vector<std::string> read{model_};
    for (const Input& input : inputs) read.push_back(input.path);
    require_no_input("-o", options_.output, read);
    require_no_input("--html", options_.html, read);
    return inputs;
  }

  // Beside a file of results lies the journal that lets a later run go on with them.
  void open_output() {
    file_.emplace(options_.output);
    const fs::path journal = journal_of(options_.output);
    if (file_->is_direct()) {
      if (options_.resume)
        throw UsageError(
            fmt::format("--resume goes on with a file of results; '{}' is none", options_.output));
      return;
    }
    std::error_code ignored;
    if (options_.resume && fs::exists(options_.output) && !fs::exists(journal)) {
      report_.note(
          fmt::format("every document is done again: '{}' is missing, which tells from "
                      "what text each line of '{}' was made",
                      journal.string(), options_.output));
    } else if (!options_.resume) {
      fs::remove(journal, ignored);
    }
    const json deciding = {{"precision", classifier_.precision()},
                           {"json", options_.report.json},
                           {"attention", options_.attention},
                           {"top_k", options_.top_k}};
    journal_.emplace(journal, digest_of_model(model_, options_.model.foreign.read()), deciding,
                     options_.resume);
  }

  std::size_t total() const {
    const bool single = std::ranges::all_of(inputs_, [&](const Input& input) {
      return options_.files.format == "text" ||
             (options_.files.format == "auto" &&
              document_format_of(input.path) == DocumentFormat::kText);
    });
    if (!single || inputs_.empty()) return 0;
    std::size_t owned = 0;
    for (std::size_t i = 0; i < inputs_.size(); ++i) owned += shard_.owns(i) ? 1 : 0;
    return owned;
  }

  void read(const Input& input) {
    try {
      DocumentReader reader(input.path, reader_options(options_.files));
      std::size_t position = 0;
      bool empty = true;
      while (interrupted() == 0) {
        std::optional<DocumentRecord> record = reader.next();
        if (!record) break;
        empty = false;
        const bool whole = reader.format() == DocumentFormat::kText;
        const std::string name =
            whole ? input.name() : fmt::format("{}:{}", input.name(), record->number);
        if (record->error.empty()) {
          take({name, std::move(record->text), std::move(record->label)}, position++);
        } else if (!shard_by_document() || shard_.owns(position++)) {
          flush();  // so that failures stand where their documents do
          fail_document(name, record->error);
        }
      }
      require(!empty || interrupted() != 0, "no documents in this file; give it one per line");
      for (const std::string& note : reader.notes()) report_.note(note);
    } catch (const Error& error) {
      flush();
      fail_document(input.name(), error.what());
    }
  }

  void take(NamedDocument document, std::size_t position) {
    if (shard_by_document() && !shard_.owns(position)) return;
    if (take_from_journal(document)) return;
    batch_bytes_ += document.text.size();
    batch_.push_back(std::move(document));
    if (batch_.size() >= kBatchDocuments || batch_bytes_ >= kBatchBytes) flush();
  }

  // An answer that an earlier run has given to the same text, wherever that stood.
  bool take_from_journal(const NamedDocument& document) {
    if (!options_.resume) return false;
    const std::optional<json> record = journal_->find(document.text);
    if (!record) return false;
    try {
      const std::string line = format_.line(document.name, record->at("answer"), document.truth);
      flush();  // results are in the order of the documents
      print(line);
    } catch (const json::exception&) {  // no record of this program
      return false;
    }
    report_.success();
    return true;
  }

  void flush() {
    std::vector<std::string_view> texts;
    for (const NamedDocument& document : batch_) texts.push_back(document.text);
    const std::vector<Classification> answers = classifier_.classify(texts);
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      const auto& [name, text, truth] = batch_[i];
      if (!answers[i].error.empty()) {
        fail_document(name, answers[i].error);
        continue;
      }
      if (answers[i].sentences_dropped + answers[i].words_dropped > 0) ++cut_documents_;
      dropped_sentences_ += answers[i].sentences_dropped;
      dropped_words_ += answers[i].words_dropped;
      json answer = format_.answer(answers[i]);
      if (journal_) journal_->add(text, {{"answer", answer}});
      print(format_.line(name, std::move(answer), truth));
      if (page_) page_->add(name, text, answers[i], truth);
      report_.success();
    }
    done_ += batch_.size();
    report_.advance(static_cast<double>(done_));
    batch_.clear();
    batch_bytes_ = 0;
  }

  void note_cuts() {
    if (cut_documents_ == 0) return;
    report_.note(
        fmt::format("{} {} longer than the model reads: {} sentences and {} words were left out",
                    cut_documents_, cut_documents_ == 1 ? "document is" : "documents are",
                    dropped_sentences_, dropped_words_));
  }

  void fail_document(const std::string& name, std::string_view error) {
    report_.failure(name, error);
    if (options_.report.json) print(format_.failure(name, report_.failures().back().line));
  }

  void print(const std::string& line) {
    if (file_) {
      file_->stream() << line << '\n';
    } else {
      report_.result(line);
    }
  }

  const ClassifyOptions& options_;
  Shard shard_;
  std::string model_;
  std::vector<Input> inputs_;
  Model classifier_;
  LabelFormat format_;
  Report report_;
  std::optional<AtomicFile> file_;
  std::optional<Journal> journal_;  // of a file of results
  std::optional<HtmlPage> page_;
  std::vector<NamedDocument> batch_;
  std::size_t batch_bytes_ = 0;
  std::size_t done_ = 0;
  std::size_t cut_documents_ = 0, dropped_sentences_ = 0, dropped_words_ = 0;
};

void check(const ClassifyOptions& options) {
  if (options.inputs.empty() && options.texts.empty())
    throw UsageError("no documents: name files or folders, '-' for stdin, or give --text");
  if (!options.inputs.empty() && !options.texts.empty())
    throw UsageError("--text and files exclude one another; use one of them");
  if (options.resume && options.output.empty())
    throw UsageError("--resume goes on with a file of results; name it with -o");
  if (options.resume && !options.html.empty())
    throw UsageError("--resume does not have the finished documents that --html would show");
  std::error_code ignored;
  const auto named = [&](const std::string& path) {
    return fs::weakly_canonical(fs::absolute(path, ignored), ignored);
  };
  if (!options.html.empty() && !options.output.empty() &&
      named(options.html) == named(options.output) &&
      (!fs::exists(options.html, ignored) || fs::is_regular_file(options.html, ignored)))
    throw UsageError("-o and --html name the same file, and one would replace the other");
  if (options.attention && !options.report.json)
    throw UsageError("--attention is part of the JSON results; add --json (or use --html)");
}

}  // namespace

Verb make_classify_verb(CLI::App& program) {
  const auto options = std::make_shared<ClassifyOptions>();
  CLI::App& command = *program.add_subcommand("classify", "labels of documents, and why");
  command.add_option("inputs", options->inputs,
                     "texts (.txt), collections (.tsv, .csv, .json, .jsonl), each also "
                     "compressed, folders, globs, or -");
  command.add_option("--text", options->texts, "a document, given here")->type_name("TEXT");
  add_document_options(command, options->files, {"text", "lines", "tsv", "csv", "jsonl", "json"});
  command.add_option("-o,--output", options->output, "file for the results instead of stdout")
      ->type_name("FILE");
  command.add_option("--html", options->html, "page with the words and sentences that counted")
      ->type_name("FILE");
  command.add_option("-k,--top-k", options->top_k, "labels per document")
      ->type_name("N")
      ->check(at_least(1));
  command.add_flag("--attention", options->attention,
                   "with --json: weight and byte offsets of each sentence and word");
  command.add_flag("--resume", options->resume,
                   "keep answers to the same texts by the same model and options; do the rest");
  command.add_option("--shard", options->shard, "do part I of N of the documents")
      ->type_name("I/N");
  options->model.add_to(command, false);
  options->report.add_to(command);
  command.footer(
      "Prints a line per document: label, probability, name. --json prints JSON lines. Labels in\n"
      "the input give the accuracy as a last line. A TSV or CSV whose first line names the\n"
      "columns text and label (or those of --text-field and --label-field) is read by name.\n"
      "Examples:\n"
      "  tessera classify review.txt\n"
      "  tessera classify --text 'A film to remember.' --html why.html\n"
      "  tessera classify test.tsv.gz -m han.safetensors -o labels.tsv --resume\n"
      "  cat reviews.jsonl | tessera classify - --format jsonl --json --attention");
  return {&command, [options] {
            check(*options);
            catch_interrupts();
            return ClassifyRun(*options).run();
          }};
}

}  // namespace tessera
