// One self-contained page that shows documents with what their answer rests on: a bar beside each
// sentence and a shade behind each word, as strong as their attention.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/files/atomic_file.h"
#include "models/session.h"

namespace tessera {

class HtmlPage {
 public:
  // Throws Error where the file cannot be written; it appears at `commit`.
  HtmlPage(const std::filesystem::path& path, std::string_view model,
           const std::vector<ClassInfo>& classes);

  // `name` says where the document is from, `truth` is its label if that is known.
  void add(std::string_view name, std::string_view text, const Classification& answer,
           const std::optional<std::string>& truth);
  void commit();

 private:
  AtomicFile file_;
  std::vector<ClassInfo> classes_;
};

// Bytes as HTML text: what is special there is escaped, what is no UTF-8 or a control character
// becomes U+FFFD, and a literal `<br />` is shown as a sign for a line break.
std::string html_escape(std::string_view text);

}  // namespace tessera
