#include "tools/program/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/text/unicode.h"

namespace tessera {

namespace {

constexpr std::string_view kHead = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Tessera: what the answers rest on</title>
<style>
:root {
  --page: #f4f5f7; --card: #ffffff; --text: #1c2430; --faint: #6b7686; --line: #e1e5ea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171c; --card: #1d2128; --text: #e6e9ee; --faint: #98a2b0; --line: #303640;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 2rem 1rem; background: var(--page); color: var(--text);
  font: 16px/1.65 Georgia, "DejaVu Serif", serif;
}
main { max-width: 50rem; margin: 0 auto; }
header, .head, .note { font-family: system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.15rem; margin: 0 0 .25rem; }
header p { color: var(--faint); font-size: .85rem; margin: 0 0 1.5rem; }
.key { padding: .1em .4em; border-radius: .25em; color: var(--text); }
article {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1.1rem 1.3rem; margin: 0 0 1.25rem; overflow-wrap: anywhere;
}
.head { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; font-size: .85rem; }
.label { font-weight: 600; padding: .1rem .65rem; border-radius: 1rem; }
.name { margin-left: auto; color: var(--faint); }
.odds { display: flex; height: .35rem; border-radius: .2rem; overflow: hidden; margin: .7rem 0 .9rem; }
.odds i { display: block; }
.s { display: grid; grid-template-columns: .45rem 2.9rem 1fr; gap: 0 .55rem; margin: .3rem 0; }
.s b { border-radius: .2rem; }
.s em { color: var(--faint); font: .75rem/2.2 system-ui, "DejaVu Sans", sans-serif; text-align: right; }
.s p { margin: 0; white-space: pre-line; }
.s span { border-radius: .25em; padding: .1em .12em; margin: 0 -.12em; }
.unknown { border-bottom: 1px dotted var(--faint); }
.note { color: var(--faint); font-size: .8rem; margin: .6rem 0 0; }
.rest { color: var(--faint); margin: .4rem 0 0 3.9rem; white-space: pre-line; }
</style>
</head>
<body>
<main>
)";

constexpr std::string_view kBreakSign = "↵\n";
constexpr std::string_view kFoot = "</main>\n</body>\n</html>\n";

// The strongest shade still lets black and white text be read on every class colour.
constexpr double kStrongest = 0.5;

std::string rgb(const std::array<std::uint8_t, 3>& colour) {
  return fmt::format("rgb({} {} {})", colour[0], colour[1], colour[2]);
}

// Black, the first of the default colours, would hide the text on it and vanish on a dark page.
std::array<std::uint8_t, 3> visible(const std::array<std::uint8_t, 3>& colour) {
  constexpr int kDark = 80;
  const bool dark = *std::ranges::max_element(colour) < kDark;
  return dark ? std::array<std::uint8_t, 3>{86, 124, 178} : colour;
}

// Black or white, whichever reads better on the colour (brightness as in ITU-R BT.601).
const char* text_colour(const std::array<std::uint8_t, 3>& colour) {
  return 299 * colour[0] + 587 * colour[1] + 114 * colour[2] > 140'000 ? "#111" : "#fff";
}

std::string shade(const std::array<std::uint8_t, 3>& colour, double strength) {
  return fmt::format("rgb({} {} {} / {:.3f})", colour[0], colour[1], colour[2], strength);
}

// The length of `<br>`, `<br/>` or `<br />` at the start of `text`; 0 where there is none.
std::size_t line_break_length(std::string_view text) {
  for (const std::string_view tag : {"<br>", "<br/>", "<br />"}) {
    if (text.starts_with(tag)) return tag.size();
  }
  return 0;
}

// Words of unimportant sentences count little, as in the figures of the paper: a word's strength is
// its weight times the square root of its sentence's, relative to the strongest of the document.
class Strengths {
 public:
  explicit Strengths(const Classification& answer) {
    for (const AttendedSentence& sentence : answer.sentences) {
      strongest_sentence_ = std::max(strongest_sentence_, sentence.weight);
      for (const AttendedWord& word : sentence.words)
        strongest_word_ = std::max(strongest_word_, raw(sentence, word));
    }
  }

  double of(const AttendedSentence& sentence) const {
    return relative(sentence.weight, strongest_sentence_);
  }
  double of(const AttendedSentence& sentence, const AttendedWord& word) const {
    return relative(raw(sentence, word), strongest_word_);
  }

 private:
  static float raw(const AttendedSentence& sentence, const AttendedWord& word) {
    return std::sqrt(std::max(sentence.weight, 0.0f)) * word.weight;
  }
  static double relative(float value, float strongest) {
    return strongest > 0 ? static_cast<double>(value) / static_cast<double>(strongest) : 0;
  }

  float strongest_sentence_ = 0;
  float strongest_word_ = 0;
};

std::string words_html(std::string_view text, const AttendedSentence& sentence,
                       const Strengths& strengths, const std::array<std::uint8_t, 3>& colour) {
  constexpr double kVisible = 0.03;
  std::string html;
  std::size_t at = sentence.begin;
  for (const AttendedWord& word : sentence.words) {
    // What was stripped from a word may make spans touch, never go back.
    const std::size_t begin = std::max(at, word.begin), end = std::max(begin, word.end);
    html += html_escape(text.substr(at, begin - at));
    const std::string inner = html_escape(text.substr(begin, end - begin));
    const double strength = strengths.of(sentence, word);
    std::string attributes;
    if (strength >= kVisible)
      attributes = fmt::format(" style=\"background:{}\"", shade(colour, kStrongest * strength));
    if (!word.known) attributes += " class=\"unknown\"";
    html += attributes.empty() ? inner
                               : fmt::format("<span{} title=\"{}{:.1f} %\">{}</span>", attributes,
                                             word.known ? "" : "unknown word, ",
                                             100 * static_cast<double>(word.weight), inner);
    at = end;
  }
  return html + html_escape(text.substr(at, std::max(at, sentence.end) - at));
}

// Text that belongs to no sentence that was read, if there is more to it than white space.
void write_rest(std::ostream& out, std::string_view text) {
  const std::string html = html_escape(text);
  std::string_view visible_part = html;
  while (!visible_part.empty()) {
    const std::size_t blank =
        visible_part.starts_with(kBreakSign) ? kBreakSign.size()
        : std::string_view(" \t\r\n").find(visible_part[0]) != std::string_view::npos ? 1
                                                                                      : 0;
    if (blank == 0) break;
    visible_part.remove_prefix(blank);
  }
  if (!visible_part.empty()) out << "<p class=\"rest\">" << visible_part << "</p>\n";
}

std::string count_of(std::size_t count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

// What was not read as it stands; empty where all was.
std::string remarks(const Classification& answer) {
  std::vector<std::string> parts;
  if (answer.sentences_dropped > 0) {
    parts.push_back(count_of(answer.sentences_dropped, "sentence", "sentences") +
                    " beyond the model's limit");
  }
  if (answer.words_dropped > 0)
    parts.push_back(count_of(answer.words_dropped, "word", "words") + " left out");
  if (answer.unknown_words > 0)
    parts.push_back(count_of(answer.unknown_words, "unknown word", "unknown words"));
  if (answer.invalid_sequences > 0)
    parts.push_back(count_of(answer.invalid_sequences, "sequence", "sequences") + " not UTF-8");
  return fmt::format("{}", fmt::join(parts, " · "));
}

}  // namespace

std::string html_escape(std::string_view text) {
  std::string html;
  html.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (const std::size_t length = line_break_length(text.substr(at)); length > 0) {
      html += kBreakSign;
      at += length;
      continue;
    }
    const CodePoint point = decode_one(text, at);
    at += point.bytes;
    const bool control =
        (point.code < 0x20 && point.code != '\t' && point.code != '\n' && point.code != '\r') ||
        (point.code >= 0x7F && point.code < 0xA0);
    if (point.code == '&') {
      html += "&amp;";
    } else if (point.code == '<') {
      html += "&lt;";
    } else if (point.code == '>') {
      html += "&gt;";
    } else if (point.code == '"') {
      html += "&quot;";
    } else if (point.code == '\'') {
      html += "&#39;";
    } else {
      append_utf8(html, control ? kReplacementCharacter : point.code);
    }
  }
  return html;
}

HtmlPage::HtmlPage(const std::filesystem::path& path, std::string_view model,
                   const std::vector<ClassInfo>& classes)
    : file_(path), classes_(classes) {
  for (ClassInfo& one : classes_) one.colour = visible(one.colour);
  std::ostream& out = file_.stream();
  out << kHead << "<header>\n<h1>What the answers rest on</h1>\n<p>Model " << html_escape(model)
      << ". The bar beside a sentence and the shade of a <span class=\"key\" style=\"background:"
      << shade({120, 120, 120}, 0.35)
      << "\">word</span> are as strong as the attention they got.</p>\n</header>\n";
}

void HtmlPage::add(std::string_view name, std::string_view text, const Classification& answer,
                   const std::optional<std::string>& truth) {
  const ClassInfo& label = classes_[answer.label];
  std::ostream& out = file_.stream();
  out << "<article>\n<div class=\"head\">"
      << fmt::format(
             "<span class=\"label\" style=\"color:{};background:{}\">{}</span> <span>{:.1f} "
             "%</span>",
             text_colour(label.colour), rgb(label.colour), html_escape(label.name),
             100 * static_cast<double>(answer.probabilities[answer.label]));
  if (truth) out << " <span>labelled " << html_escape(*truth) << "</span>";
  out << " <span class=\"name\">" << html_escape(name) << "</span></div>\n<div class=\"odds\">";
  for (std::size_t i = 0; i < classes_.size(); ++i) {
    out << fmt::format("<i style=\"width:{:.2f}%;background:{}\" title=\"{} {:.1f} %\"></i>",
                       100 * static_cast<double>(answer.probabilities[i]), rgb(classes_[i].colour),
                       html_escape(classes_[i].name),
                       100 * static_cast<double>(answer.probabilities[i]));
  }
  out << "</div>\n";
  const Strengths strengths(answer);
  std::size_t at = 0;
  for (const AttendedSentence& sentence : answer.sentences) {
    write_rest(out, text.substr(at, std::max(at, sentence.begin) - at));
    out << fmt::format(
        "<div class=\"s\"><b style=\"background:{}\"></b><em>{:.1f} %</em><p>{}</p></div>\n",
        shade(label.colour, strengths.of(sentence)), 100 * static_cast<double>(sentence.weight),
        words_html(text, sentence, strengths, label.colour));
    at = std::max(at, sentence.end);
  }
  write_rest(out, text.substr(at));
  if (const std::string note = remarks(answer); !note.empty())
    out << "<p class=\"note\">" << note << "</p>\n";
  out << "</article>\n";
}

void HtmlPage::commit() {
  file_.stream() << kFoot;
  file_.commit();
}

}  // namespace tessera
