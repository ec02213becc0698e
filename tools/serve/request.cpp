#include "tools/serve/request.h"

#include <cstring>
#include <limits>
#include <new>

#include "kernels/error.h"

namespace tessera::serve {

namespace {

// 0: elements tell their own length.
std::uint64_t element_bytes(const Tensor& tensor) {
  switch (tensor.type) {
    case DataType::kU8:
      return 1;
    case DataType::kU16:
      return 2;
    case DataType::kU32:
    case DataType::kF32:
      return 4;
    case DataType::kBytes:
      return 0;
  }
  fail("input {} has a type that is not read; send UINT8, UINT16, UINT32, FP32 or BYTES",
       tensor.name);
}

// Elements of a shape, of which none may be without some.
std::uint64_t element_count(const Tensor& tensor) {
  std::uint64_t count = 1;
  for (const std::int64_t extent : tensor.shape) {
    require(extent > 0, "input {} has an axis of {} elements; it must have one or more",
            tensor.name, extent);
    require(count <= std::numeric_limits<std::uint32_t>::max() / static_cast<std::uint64_t>(extent),
            "input {} has more than {} elements; send less at once", tensor.name,
            std::numeric_limits<std::uint32_t>::max());
    count *= static_cast<std::uint64_t>(extent);
  }
  return count;
}

std::span<const std::uint8_t> piece(TritonInput* input, std::uint32_t index) {
  const void* buffer = nullptr;
  std::uint64_t bytes = 0;
  MemoryType type = MemoryType::kCpu;
  std::int64_t device = 0;
  check(TRITONBACKEND_InputBuffer(input, index, &buffer, &bytes, &type, &device));
  if (type == MemoryType::kGpu)
    throw StatusError(ErrorCode::kUnsupported,
                      "an input lies in a GPU's memory; send it from the machine's own");
  return {static_cast<const std::uint8_t*>(buffer), bytes};
}

TritonResponse* new_response(TritonRequest* request) {
  TritonResponse* response = nullptr;
  check(TRITONBACKEND_ResponseNew(&response, request));
  return response;
}

void write(TritonResponse* response, const OutputTensor& tensor) {
  TritonOutput* output = nullptr;
  check(TRITONBACKEND_ResponseOutput(response, &output, tensor.name.c_str(), tensor.type,
                                     tensor.shape.data(),
                                     static_cast<std::uint32_t>(tensor.shape.size())));
  void* buffer = nullptr;
  MemoryType type = MemoryType::kCpu;
  std::int64_t device = 0;
  check(TRITONBACKEND_OutputBuffer(output, &buffer, tensor.bytes.size(), &type, &device));
  if (type == MemoryType::kGpu)
    throw StatusError(ErrorCode::kUnsupported,
                      "an output is wanted in a GPU's memory; take it in the machine's own");
  std::memcpy(buffer, tensor.bytes.data(), tensor.bytes.size());
}

}  // namespace

void check(TritonError* error) {
  if (error == nullptr) return;
  const StatusError thrown(TRITONSERVER_ErrorCode(error), TRITONSERVER_ErrorMessage(error));
  TRITONSERVER_ErrorDelete(error);
  throw thrown;
}

TritonError* current_error() {
  try {
    throw;
  } catch (const StatusError& error) {
    return TRITONSERVER_ErrorNew(error.code, error.what());
  } catch (const DeviceError& error) {
    return TRITONSERVER_ErrorNew(ErrorCode::kInternal, error.what());
  } catch (const std::runtime_error& error) {  // what the library says of an input
    return TRITONSERVER_ErrorNew(ErrorCode::kInvalidArgument, error.what());
  } catch (const std::bad_alloc&) {
    return TRITONSERVER_ErrorNew(ErrorCode::kInternal, "out of memory; send less at once");
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(ErrorCode::kInternal, error.what());
  } catch (...) {
    return TRITONSERVER_ErrorNew(ErrorCode::kInternal, "an exception of unknown type");
  }
}

Tensor only_input(TritonRequest* request, std::uint64_t max_bytes) {
  std::uint32_t count = 0;
  check(TRITONBACKEND_RequestInputCount(request, &count));
  require(count == 1, "a request has one input, this one has {}; send the others by themselves",
          count);
  TritonInput* input = nullptr;
  check(TRITONBACKEND_RequestInputByIndex(request, 0, &input));
  Tensor tensor;
  const char* name = nullptr;
  const std::int64_t* shape = nullptr;
  std::uint32_t axes = 0, buffers = 0;
  std::uint64_t bytes = 0;
  check(TRITONBACKEND_InputProperties(input, &name, &tensor.type, &shape, &axes, &bytes, &buffers));
  tensor.name = name;
  tensor.shape.assign(shape, shape + axes);
  require(bytes <= max_bytes,
          "input {} has {} bytes, max_request_bytes is {}; send less at once, or raise it where "
          "the server is started",
          tensor.name, bytes, max_bytes);
  const std::uint64_t expected = element_count(tensor) * element_bytes(tensor);
  require(tensor.type == DataType::kBytes || bytes == expected,
          "input {} has {} bytes, its shape says {}", tensor.name, bytes, expected);
  if (buffers == 1) tensor.bytes = piece(input, 0);
  // Over HTTP numbers lie wherever the text before them ends.
  const bool aligned = reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % sizeof(float) == 0;
  if (buffers != 1 || (!aligned && tensor.type != DataType::kBytes)) {
    tensor.joined.reserve(bytes);
    for (std::uint32_t i = 0; i < buffers; ++i) {
      const auto part = piece(input, i);
      tensor.joined.insert(tensor.joined.end(), part.begin(), part.end());
    }
    tensor.bytes = tensor.joined;
  }
  require(tensor.bytes.size() == bytes, "input {} came with {} of {} bytes", tensor.name,
          tensor.bytes.size(), bytes);
  return tensor;
}

std::vector<std::string_view> elements(const Tensor& tensor) {
  require(tensor.type == DataType::kBytes, "input {} must be of type BYTES", tensor.name);
  const std::uint64_t count = element_count(tensor);
  std::vector<std::string_view> found;
  std::span<const std::uint8_t> rest = tensor.bytes;
  while (found.size() < count) {
    std::uint32_t length = 0;
    require(rest.size() >= sizeof length, "input {} ends before its element {} of {}", tensor.name,
            found.size(), count);
    std::memcpy(&length, rest.data(), sizeof length);
    rest = rest.subspan(sizeof length);
    require(length <= rest.size(), "element {} of input {} says it has {} bytes, {} are left",
            found.size(), tensor.name, length, rest.size());
    found.emplace_back(reinterpret_cast<const char*>(rest.data()), length);
    rest = rest.subspan(length);
  }
  require(rest.empty(), "input {} has {} bytes behind its {} elements", tensor.name, rest.size(),
          count);
  return found;
}

bool is_cancelled(TritonRequest* request) {
  bool cancelled = false;
  check(TRITONBACKEND_RequestIsCancelled(request, &cancelled));
  return cancelled;
}

bool wants(TritonRequest* request, std::string_view output) {
  std::uint32_t count = 0;
  check(TRITONBACKEND_RequestOutputCount(request, &count));
  for (std::uint32_t i = 0; i < count; ++i) {
    const char* name = nullptr;
    check(TRITONBACKEND_RequestOutputName(request, i, &name));
    if (name == output) return true;
  }
  return false;
}

OutputTensor bytes_output(const std::string& name, const std::vector<std::string>& values) {
  OutputTensor output{name, DataType::kBytes, {static_cast<std::int64_t>(values.size()), 1}, {}};
  for (const std::string& value : values) {
    const auto length = static_cast<std::uint32_t>(value.size());
    require(length == value.size(), "an output {} of {} bytes is longer than BYTES can say", name,
            value.size());
    output.bytes.append(reinterpret_cast<const char*>(&length), sizeof length);
    output.bytes += value;
  }
  return output;
}

void send(TritonRequest* request, std::span<const OutputTensor> outputs) {
  TritonResponse* response = new_response(request);
  TritonError* error = nullptr;
  try {
    for (const OutputTensor& output : outputs) write(response, output);
  } catch (...) {
    error = current_error();
  }
  TritonError* const unsent = TRITONBACKEND_ResponseSend(response, kFinalResponse, error);
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
  check(unsent);
}

void send_error(TritonRequest* request, TritonError* error) {
  TritonError* unsent = nullptr;
  try {
    unsent = TRITONBACKEND_ResponseSend(new_response(request), kFinalResponse, error);
  } catch (...) {
    unsent = current_error();
  }
  TRITONSERVER_ErrorDelete(error);
  check(unsent);
}

}  // namespace tessera::serve
