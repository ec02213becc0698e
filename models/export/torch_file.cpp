#include "models/export/torch_file.h"

#include <zlib.h>

#include <limits>
#include <string_view>

#include "engine/files/atomic_file.h"
#include "kernels/error.h"

namespace tessera {
namespace {

// Whole numbers of a zip archive, little-endian.
void put(std::string& bytes, std::uint64_t value, int count) {
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
}

// Members one after the other, none compressed; the directory behind them.
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3
class ZipWriter {
 public:
  ZipWriter(std::ostream& out, std::string file) : out_(out), file_(std::move(file)) {}

  void add(const std::string& name, std::string_view content) {
    constexpr std::uint64_t kAlignment = 64;  // of contents, as PyTorch has them
    std::string common;                       // of a member's own header and its directory entry
    put(common, 20, 2);                       // version 2.0 reads it
    put(common, 0, 2);                        // flags
    put(common, 0, 2);                        // stored
    put(common, 0, 2);                        // midnight
    put(common, (0 << 9) | (1 << 5) | 1, 2);  // of 1980-01-01, the first date there is
    put(common, crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size()), 4);
    put(common, content.size(), 4);
    put(common, content.size(), 4);
    put(common, name.size(), 2);
    constexpr std::uint64_t kHeader = 30, kField = 4;
    const std::uint64_t begin = place_ + kHeader + name.size() + kField;
    const std::uint64_t gap = (kAlignment - begin % kAlignment) % kAlignment;
    require(begin + gap + content.size() < std::numeric_limits<std::uint32_t>::max(),
            "{}: its weights are 4 GiB or more, which no plain zip archive holds; export it as "
            "ONNX",
            file_);

    put(directory_, 0x02014b50, 4);
    put(directory_, 20, 2);
    directory_ += common;
    put(directory_, 0, 2);  // extra field, comment, disk
    put(directory_, 0, 2);
    put(directory_, 0, 2);
    put(directory_, 0, 6);  // attributes
    put(directory_, place_, 4);
    directory_ += name;
    ++count_;

    std::string header;
    put(header, 0x04034b50, 4);
    header += common;
    put(header, kField + gap, 2);
    header += name;
    header += "FB";  // the field that PyTorch fills up with
    put(header, gap, 2);
    header.append(gap, 'Z');
    out_ << header << content;
    place_ = begin + gap + content.size();
  }

  void finish() {
    require(count_ < std::numeric_limits<std::uint16_t>::max(), "{}: {} tensors are too many",
            file_, count_);
    out_ << directory_;
    std::string end;
    put(end, 0x06054b50, 4);
    put(end, 0, 4);  // disks
    put(end, count_, 2);
    put(end, count_, 2);
    put(end, directory_.size(), 4);
    put(end, place_, 4);
    put(end, 0, 2);  // comment
    out_ << end;
  }

 private:
  std::ostream& out_;
  std::string file_;
  std::string directory_;
  std::uint64_t place_ = 0, count_ = 0;
};

// A pickle of protocol 2. https://github.com/python/cpython/blob/main/Lib/pickletools.py
class PickleWriter {
 public:
  PickleWriter() { text_ = "\x80\x02"; }

  void op(char code) { text_ += code; }
  void string(std::string_view value) {
    op('X');
    put(text_, value.size(), 4);
    text_ += value;
  }
  void integer(std::int64_t value) {
    op('\x8a');  // LONG1: as many bytes as are said
    op(8);
    put(text_, static_cast<std::uint64_t>(value), 8);
  }
  void global(std::string_view module, std::string_view name) {
    op('c');
    text_.append(module).append("\n").append(name).append("\n");
  }
  void integers(std::span<const std::int64_t> values) {
    op('(');
    for (const std::int64_t value : values) integer(value);
    op('t');
  }
  // torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks).
  void tensor(std::string_view storage, const Shape& shape) {
    global("torch._utils", "_rebuild_tensor_v2");
    op('(');
    op('(');
    string("storage");
    global("torch", "FloatStorage");
    string(storage);
    string("cpu");
    integer(shape.elements());
    op('t');
    op('Q');  // the storage, by this tuple
    integer(0);
    integers(shape.dims());
    std::vector<std::int64_t> strides(static_cast<std::size_t>(shape.rank()), 1);
    for (std::size_t i = strides.size(); i-- > 1;)
      strides[i - 1] = strides[i] * shape[static_cast<int>(i)];
    integers(strides);
    op('\x89');  // False
    global("collections", "OrderedDict");
    op(')');
    op('R');
    op('t');
    op('R');
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

void write_torch_file(const std::filesystem::path& path, const std::vector<TorchEntry>& tensors,
                      const std::vector<std::pair<std::string, std::string>>& texts) {
  PickleWriter pickle;
  pickle.op('}');
  pickle.op('(');
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    pickle.string(tensors[i].name);
    pickle.tensor(std::to_string(i), tensors[i].shape);
  }
  for (const auto& [name, text] : texts) {
    pickle.string(name);
    pickle.string(text);
  }
  pickle.op('u');
  pickle.op('.');

  AtomicFile file(path);
  ZipWriter zip(file.stream(), path.string());
  zip.add("archive/data.pkl", pickle.text());
  zip.add("archive/byteorder", "little");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const FloatTensor tensor = tensors[i].read();
    zip.add("archive/data/" + std::to_string(i),
            {reinterpret_cast<const char*>(tensor.values.data()),
             tensor.values.size() * sizeof(float)});
  }
  zip.add("archive/version", "3\n");
  zip.finish();
  file.commit();
}

}  // namespace tessera
