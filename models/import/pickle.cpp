#include "models/import/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "kernels/error.h"
#include "models/import/pickle_data.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

constexpr std::uint8_t kNewestProtocol = 5;

template <class Number>
Number number_at(std::string_view bytes) {
  Number number;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

double big_endian_double(std::string_view bytes) {
  return std::bit_cast<double>(__builtin_bswap64(number_at<std::uint64_t>(bytes)));
}

}  // namespace

// The stack machine of one pickle. Opcodes as Lib/pickletools.py of CPython describes them.
class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> bytes, const std::string& file,
                const PickleLimits& limits)
      : bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
        file_(file),
        limits_(limits) {
    pickle_.values.emplace_back();
  }

  Pickle run() && {
    for (std::size_t steps = 0; !stopped_; ++steps) {
      if (steps == limits_.opcodes) fault("more than {} opcodes", limits_.opcodes);
      began_ = at_;
      step(static_cast<std::uint8_t>(take(1)[0]));
    }
    pickle_.consumed = at_;
    return std::move(pickle_);
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(fmt::format_string<Args...> text, Args&&... args) const {
    fail("{}: its pickle cannot be read: {}, at byte {}; the file is damaged or was made to harm",
         file_, fmt::format(text, std::forward<Args>(args)...), began_);
  }

  // The next bytes of the file.
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - at_)
      fault("{} more bytes are expected, {} are left", count, bytes_.size() - at_);
    const std::string_view taken = bytes_.substr(at_, static_cast<std::size_t>(count));
    at_ += taken.size();
    return taken;
  }
  template <class Number>
  Number take_number() {
    return number_at<Number>(take(sizeof(Number)));
  }
  std::string_view take_line() {
    const std::size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) fault("a line has no end");
    const std::string_view line = take(end - at_);
    take(1);
    return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
  }

  // Values.
  void count(std::size_t made) {
    if (made > limits_.values - made_) fault("it makes more than {} values", limits_.values);
    made_ += made;
  }
  PickleValue& at(PickleRef ref) { return pickle_.values[ref]; }
  PickleRef add(PickleValue value) {
    count(1);
    pickle_.values.push_back(std::move(value));
    return static_cast<PickleRef>(pickle_.values.size() - 1);
  }
  PickleRef add(PickleKind kind, std::string_view text) {
    PickleValue value;
    value.kind = kind;
    value.text = text;
    return add(std::move(value));
  }
  PickleRef add(PickleKind kind, std::vector<PickleRef> items) {
    count(items.size());
    PickleValue value;
    value.kind = kind;
    value.items = std::move(items);
    return add(std::move(value));
  }
  std::string_view keep(std::string text) {
    if (text.size() > limits_.made_text - made_text_)
      fault("it makes more than {} bytes of text", limits_.made_text);
    made_text_ += text.size();
    return pickle_.texts.emplace_back(std::move(text));
  }

  // The stack.
  void push(PickleRef ref) { stack_.push_back(ref); }
  void push_integer(std::int64_t number) {
    if (number < 0 || number >= static_cast<std::int64_t>(small_.size()))
      return push(add(pickle_integer(number)));
    PickleRef& kept = small_[static_cast<std::size_t>(number)];
    if (kept == 0) kept = add(pickle_integer(number));
    push(kept);
  }
  void push_bool(bool value) {
    PickleRef& kept = bools_[value ? 1 : 0];
    if (kept == 0) {
      PickleValue made = pickle_integer(value ? 1 : 0);
      made.kind = PickleKind::kBool;
      kept = add(std::move(made));
    }
    push(kept);
  }
  // A whole number of any length, two's complement, little-endian.
  void push_long(std::string_view digits) {
    if (digits.empty()) return push_integer(0);
    const bool negative = (static_cast<std::uint8_t>(digits.back()) & 0x80) != 0;
    if (digits.size() <= sizeof(std::int64_t)) {
      std::int64_t number = negative ? -1 : 0;
      std::memcpy(&number, digits.data(), digits.size());
      return push_integer(number);
    }
    double number = 0;
    for (std::size_t i = digits.size(); i-- > 0;) {
      const auto digit = static_cast<std::uint8_t>(digits[i]);
      number = number * 256 + (negative ? 255 - digit : digit);
    }
    push(add(pickle_real(negative ? -number - 1 : number)));
  }
  // Below the last mark the stack is out of reach.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleRef top() const {
    if (stack_.size() <= floor()) fault("the stack is empty");
    return stack_.back();
  }
  PickleRef pop() {
    const PickleRef ref = top();
    stack_.pop_back();
    return ref;
  }
  std::vector<PickleRef> pop_to_mark() {
    if (marks_.empty()) fault("a mark is missing");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleRef> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  void tuple(std::size_t size) {
    std::vector<PickleRef> items(size);
    for (std::size_t i = size; i-- > 0;) items[i] = pop();
    push(add(PickleKind::kTuple, std::move(items)));
  }

  // Containers.
  void extend(PickleRef ref, PickleKind kind, const std::vector<PickleRef>& items) {
    PickleValue& value = at(ref);
    if (value.is(PickleKind::kObject) && value.items.empty() && kind != PickleKind::kSet)
      value.kind = kind;
    if (!value.is(kind)) fault("items are added to what holds none");
    if (kind == PickleKind::kDict && items.size() % 2 != 0) fault("a key has no value");
    count(items.size());
    value.items.insert(value.items.end(), items.begin(), items.end());
  }
  void extend_top(PickleKind kind) {
    const std::vector<PickleRef> items = pop_to_mark();
    extend(top(), kind, items);
  }

  // The memo.
  void put(std::uint64_t index) {
    // Picklers number what they keep one by one.
    if (index >= limits_.values || index > memo_.size() + kMemoGap)
      fault("memo entry {} follows {} entries", index, memo_.size());
    if (index >= memo_.size()) {
      count(static_cast<std::size_t>(index) + 1 - memo_.size());
      memo_.resize(static_cast<std::size_t>(index) + 1, kNothing);
    }
    memo_[static_cast<std::size_t>(index)] = top();
  }
  void get(std::uint64_t index) {
    if (index >= memo_.size() || memo_[static_cast<std::size_t>(index)] == kNothing)
      fault("memo entry {} is used before it is made", index);
    push(memo_[static_cast<std::size_t>(index)]);
  }

  // Texts of protocol 0.
  std::uint64_t line_number() {
    const std::string_view line = take_line();
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number);
    if (error != std::errc() || end != line.data() + line.size()) fault("a number is none");
    return number;
  }
  void line_integer(std::string_view line) {
    if (line == "00" || line == "01") return push_bool(line == "01");
    if (line.ends_with('L')) line.remove_suffix(1);
    std::int64_t number = 0;
    const char* const end = line.data() + line.size();
    if (const auto whole = std::from_chars(line.data(), end, number);
        whole.ec == std::errc() && whole.ptr == end)
      return push_integer(number);
    line_float(line);
  }
  void line_float(std::string_view line) {
    double number = 0;
    const char* const end = line.data() + line.size();
    const auto read = std::from_chars(line.data(), end, number);
    if (read.ptr != end || line.empty()) fault("a number is none");
    push(add(pickle_real(number)));
  }
  void line_text(bool unicode) {
    std::string_view line = take_line();
    if (!unicode) {
      if (line.size() < 2 || line.front() != line.back() ||
          (line.front() != '\'' && line.front() != '"'))
        fault("a text has no quotes");
      line = line.substr(1, line.size() - 2);
    }
    std::optional<std::string> text = pickle_unescaped(line, unicode);
    if (!text) fault("an escape is cut");
    push(add(PickleKind::kText, keep(*std::move(text))));
  }
  // Python 2's texts are bytes; they are read as latin-1.
  void latin_text(std::uint64_t size) {
    const std::string_view bytes = take(size);
    bool ascii = true;
    for (const char c : bytes) ascii &= static_cast<std::uint8_t>(c) < 0x80;
    if (ascii) return push(add(PickleKind::kText, bytes));
    std::string text;
    for (const char c : bytes) append_utf8(text, static_cast<std::uint8_t>(c));
    push(add(PickleKind::kText, keep(std::move(text))));
  }

  // What would be a call.
  void global(std::string_view module, std::string_view name) {
    push(add(PickleKind::kGlobal, keep(fmt::format("{}.{}", module, name))));
  }
  void call(PickleRef callable, PickleRef arguments) {
    if (!at(arguments).is(PickleKind::kTuple)) fault("the arguments of a call are no tuple");
    const std::string_view name = at(callable).is(PickleKind::kGlobal) ? at(callable).text : "";
    // Protocols 0 and 1 make objects through functions: their first argument is the class.
    const bool makes_any = name == "copy_reg._reconstructor" || name == "copyreg._reconstructor" ||
                           name == "copyreg.__newobj__";
    if (makes_any && !at(arguments).items.empty()) callable = at(arguments).items[0];
    std::optional<PickleValue> data =
        pickle_data(pickle_, name, at(arguments),
                    {[this](std::size_t copied) { count(copied); },
                     [this](std::string text) { return keep(std::move(text)); }});
    PickleValue made = data ? *std::move(data) : PickleValue{};
    if (!data) made.kind = PickleKind::kObject;
    const bool is_number =
        made.is(PickleKind::kInt) || made.is(PickleKind::kFloat) || made.is(PickleKind::kBool);
    if (!is_number) {
      count(1);
      made.object = static_cast<std::uint32_t>(pickle_.objects.size());
      pickle_.objects.push_back({callable, arguments, 0});
    }
    push(add(std::move(made)));
  }
  void build() {
    const PickleRef state = pop();
    const PickleValue& value = at(top());
    if (value.object == PickleValue::kNoObject) {
      // A number of numpy, or a storage, that its class would have given attributes.
      if (value.is(PickleKind::kPersistent) || value.is(PickleKind::kInt) ||
          value.is(PickleKind::kFloat))
        return;
      fault("attributes are given to plain data");
    }
    pickle_.objects[value.object].state = state;
  }
  void persistent() {
    const PickleRef id = pop();
    push(add(PickleKind::kPersistent, std::vector<PickleRef>{id}));
  }

  void step(std::uint8_t opcode);
  bool step_of_protocol_0(std::uint8_t opcode);

  static constexpr std::uint64_t kMemoGap = 1 << 16;
  static constexpr PickleRef kNothing = ~PickleRef{0};

  const std::string_view bytes_;
  const std::string& file_;
  const PickleLimits& limits_;
  Pickle pickle_;
  std::size_t at_ = 0;     // the next byte
  std::size_t began_ = 0;  // of the opcode at hand
  std::size_t made_ = 0;
  std::size_t made_text_ = 0;
  bool stopped_ = false;
  std::vector<PickleRef> stack_, memo_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::array<PickleRef, 1024> small_{};
  std::array<PickleRef, 2> bools_{};
};

// Returns false for an opcode that is none of those that write lines of text.
bool PickleMachine::step_of_protocol_0(std::uint8_t opcode) {
  switch (opcode) {
    case 'I':
    case 'L':
      return line_integer(take_line()), true;
    case 'F':
      return line_float(take_line()), true;
    case 'S':
      return line_text(false), true;
    case 'V':
      return line_text(true), true;
    case 'p':
      return put(line_number()), true;
    case 'g':
      return get(line_number()), true;
    case 'l':
      return push(add(PickleKind::kList, pop_to_mark())), true;
    case 'd': {
      std::vector<PickleRef> items = pop_to_mark();
      if (items.size() % 2 != 0) fault("a key has no value");
      return push(add(PickleKind::kDict, std::move(items))), true;
    }
    default:
      return false;
  }
}

void PickleMachine::step(std::uint8_t opcode) {
  switch (opcode) {
    case 0x80:  // PROTO
      if (const auto protocol = take_number<std::uint8_t>(); protocol > kNewestProtocol)
        fault("protocol {}, expected at most {}", protocol, kNewestProtocol);
      return;
    case 0x95: {  // FRAME: a hint about what to read at once
      const auto size = take_number<std::uint64_t>();
      if (size > bytes_.size() - at_) fault("a frame of {} bytes ends behind the file", size);
      return;
    }
    case '.':
      pickle_.root = pop();
      stopped_ = true;
      return;
    case '(':
      if (marks_.size() == limits_.marks) fault("more than {} open containers", limits_.marks);
      return marks_.push_back(stack_.size());
    case '0':  // POP
      if (stack_.size() > floor())
        stack_.pop_back();
      else
        pop_to_mark();
      return;
    case '1':
      pop_to_mark();
      return;
    case '2':
      return push(top());
    case 'N':
      return push(0);
    case 0x88:
    case 0x89:
      return push_bool(opcode == 0x88);
    case 'J':
      return push_integer(take_number<std::int32_t>());
    case 'K':
      return push_integer(take_number<std::uint8_t>());
    case 'M':
      return push_integer(take_number<std::uint16_t>());
    case 0x8a:
      return push_long(take(take_number<std::uint8_t>()));
    case 0x8b:
      return push_long(take(take_number<std::uint32_t>()));
    case 'G':
      return push(add(pickle_real(big_endian_double(take(8)))));
    case 'X':
      return push(add(PickleKind::kText, take(take_number<std::uint32_t>())));
    case 0x8c:
      return push(add(PickleKind::kText, take(take_number<std::uint8_t>())));
    case 0x8d:
      return push(add(PickleKind::kText, take(take_number<std::uint64_t>())));
    case 'U':
      return latin_text(take_number<std::uint8_t>());
    case 'T':
      return latin_text(take_number<std::uint32_t>());
    case 'B':
      return push(add(PickleKind::kBytes, take(take_number<std::uint32_t>())));
    case 'C':
      return push(add(PickleKind::kBytes, take(take_number<std::uint8_t>())));
    case 0x8e:
    case 0x96:  // BYTEARRAY8
      return push(add(PickleKind::kBytes, take(take_number<std::uint64_t>())));
    case ')':
      return push(add(PickleKind::kTuple, std::vector<PickleRef>()));
    case 't':
      return push(add(PickleKind::kTuple, pop_to_mark()));
    case 0x85:
    case 0x86:
    case 0x87:
      return tuple(opcode - 0x84u);
    case ']':
      return push(add(PickleKind::kList, std::vector<PickleRef>()));
    case 'a': {
      const PickleRef item = pop();
      return extend(top(), PickleKind::kList, {item});
    }
    case 'e':
      return extend_top(PickleKind::kList);
    case '}':
      return push(add(PickleKind::kDict, std::vector<PickleRef>()));
    case 's': {
      const PickleRef value = pop(), key = pop();
      return extend(top(), PickleKind::kDict, {key, value});
    }
    case 'u':
      return extend_top(PickleKind::kDict);
    case 0x8f:
      return push(add(PickleKind::kSet, std::vector<PickleRef>()));
    case 0x90:
      return extend_top(PickleKind::kSet);
    case 0x91:  // FROZENSET
      return push(add(PickleKind::kSet, pop_to_mark()));
    case 'c': {
      const std::string_view module = take_line();
      return global(module, take_line());
    }
    case 0x93: {  // STACK_GLOBAL
      const PickleRef name = pop(), module = pop();
      if (!at(name).is(PickleKind::kText) || !at(module).is(PickleKind::kText))
        fault("a class has no name");
      return global(at(module).text, at(name).text);
    }
    case 'R':
    case 0x81: {  // REDUCE, NEWOBJ
      const PickleRef arguments = pop(), callable = pop();
      return call(callable, arguments);
    }
    case 0x92: {  // NEWOBJ_EX: keyword arguments, which no class here needs
      pop();
      const PickleRef arguments = pop(), callable = pop();
      return call(callable, arguments);
    }
    case 'b':
      return build();
    case 'q':
      return put(take_number<std::uint8_t>());
    case 'r':
      return put(take_number<std::uint32_t>());
    case 0x94:  // MEMOIZE
      return put(memo_.size());
    case 'h':
      return get(take_number<std::uint8_t>());
    case 'j':
      return get(take_number<std::uint32_t>());
    case 'Q':
      return persistent();
    default:
      if (!step_of_protocol_0(opcode))
        fault("opcode 0x{:02x} is none that model files are made of", opcode);
  }
}

Pickle Pickle::read(std::span<const std::byte> bytes, const std::string& file,
                    const PickleLimits& limits) {
  return PickleMachine(bytes, file, limits).run();
}

}  // namespace tessera
