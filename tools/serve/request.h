// A request to the server, as values: checked tensors in, tensors or an error out.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/triton_api.h"

namespace tessera::serve {

// An error that the client hears under another status than INVALID_ARGUMENT.
class StatusError : public std::runtime_error {
 public:
  StatusError(ErrorCode status, const std::string& text) : std::runtime_error(text), code(status) {}
  ErrorCode code;
};

// Throws a StatusError unless `error` is null.
void check(TritonError* error);
// What the exception in flight says, for the server; to be called in a handler alone.
TritonError* current_error();

// An input, whole and in the machine's own memory.
struct Tensor {
  std::string name;
  DataType type{};
  std::vector<std::int64_t> shape;      // the batch first; none below 0
  std::span<const std::uint8_t> bytes;  // of a number type: as many as the shape says
  std::vector<std::uint8_t> joined;     // owns them where the server holds them in pieces
};

// The only input of a request. Throws where there is none or a second one, and for more than
// `max_bytes`.
Tensor only_input(TritonRequest* request, std::uint64_t max_bytes);
// The elements of a tensor of type BYTES: each is its length in 4 bytes, then as many bytes.
std::vector<std::string_view> elements(const Tensor& tensor);

bool is_cancelled(TritonRequest* request);
bool wants(TritonRequest* request, std::string_view output);

struct OutputTensor {
  std::string name;
  DataType type{};
  std::vector<std::int64_t> shape;
  std::string bytes;
};
OutputTensor bytes_output(const std::string& name, const std::vector<std::string>& values);

void send(TritonRequest* request, std::span<const OutputTensor> outputs);
// Deletes `error`.
void send_error(TritonRequest* request, TritonError* error);

}  // namespace tessera::serve
