// What the backend uses of Triton's C interface for backends, major version 1: names, arguments and
// values are Triton's. The server itself has the functions; libtriton_tessera.so leaves them open.
// Every function that gives a TritonError gives null where all went well, else an object that the
// caller deletes. Everything asked of a request dies with it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera::serve {

struct TritonError;
struct TritonMessage;  // JSON
struct TritonBackend;
struct TritonBackendAttribute;
struct TritonModel;
struct TritonInstance;
struct TritonRequest;
struct TritonInput;
struct TritonResponse;
struct TritonOutput;

enum class ErrorCode : int {
  kInternal = 1,
  kInvalidArgument = 3,
  kUnsupported = 5,
  kCancelled = 7,  // to servers older than 2.38 an unknown error
};
enum class DataType : int { kU8 = 2, kU16 = 3, kU32 = 4, kF32 = 11, kBytes = 13 };
enum class MemoryType : int { kCpu = 0, kPinned = 1, kGpu = 2 };
enum class LogLevel : int { kInfo = 0, kWarning = 1, kError = 2 };
enum class InstanceKind : int { kModel = 3 };  // the model chooses its device

inline constexpr std::uint32_t kApiMajor = 1;
inline constexpr std::uint32_t kConfigVersion = 1;
inline constexpr std::uint32_t kFinalResponse = 1;
inline constexpr std::uint32_t kReleaseAll = 1;

extern "C" {

TritonError* TRITONSERVER_ErrorNew(ErrorCode code, const char* message);
void TRITONSERVER_ErrorDelete(TritonError* error);
ErrorCode TRITONSERVER_ErrorCode(TritonError* error);
const char* TRITONSERVER_ErrorMessage(TritonError* error);
TritonError* TRITONSERVER_LogMessage(LogLevel level, const char* file, int line,
                                     const char* message);

// Of `base` a copy is made.
TritonError* TRITONSERVER_MessageNewFromSerializedJson(TritonMessage** message, const char* base,
                                                       std::size_t size);
TritonError* TRITONSERVER_MessageSerializeToJson(TritonMessage* message, const char** base,
                                                 std::size_t* size);
TritonError* TRITONSERVER_MessageDelete(TritonMessage* message);

TritonError* TRITONBACKEND_ApiVersion(std::uint32_t* major, std::uint32_t* minor);
// {"cmdline": {NAME: VALUE, ..}}: --backend-config=tessera,NAME=VALUE. Owned by the server.
TritonError* TRITONBACKEND_BackendConfig(TritonBackend* backend, TritonMessage** config);
TritonError* TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(
    TritonBackendAttribute* attributes, InstanceKind kind, std::uint64_t count,
    const std::uint64_t* devices, std::uint64_t device_count);

TritonError* TRITONBACKEND_ModelBackend(TritonModel* model, TritonBackend** backend);
// The folder NAME of the repository; `artifact` is 0, a file system.
TritonError* TRITONBACKEND_ModelRepository(TritonModel* model, int* artifact, const char** folder);
TritonError* TRITONBACKEND_ModelVersion(TritonModel* model, std::uint64_t* version);
// The caller deletes the message.
TritonError* TRITONBACKEND_ModelConfig(TritonModel* model, std::uint32_t config_version,
                                       TritonMessage** config);
TritonError* TRITONBACKEND_ModelAutoCompleteConfig(TritonModel* model, bool* wanted);
// Takes inputs, outputs, the batch size and, where none was, the scheduler.
TritonError* TRITONBACKEND_ModelSetConfig(TritonModel* model, std::uint32_t config_version,
                                          TritonMessage* config);
TritonError* TRITONBACKEND_ModelState(TritonModel* model, void** state);
TritonError* TRITONBACKEND_ModelSetState(TritonModel* model, void* state);

TritonError* TRITONBACKEND_ModelInstanceModel(TritonInstance* instance, TritonModel** model);
// Times are nanoseconds of std::chrono::steady_clock.
TritonError* TRITONBACKEND_ModelInstanceReportStatistics(
    TritonInstance* instance, TritonRequest* request, bool success, std::uint64_t begin,
    std::uint64_t compute_begin, std::uint64_t compute_end, std::uint64_t end);
TritonError* TRITONBACKEND_ModelInstanceReportBatchStatistics(
    TritonInstance* instance, std::uint64_t batch_size, std::uint64_t begin,
    std::uint64_t compute_begin, std::uint64_t compute_end, std::uint64_t end);

TritonError* TRITONBACKEND_RequestInputCount(TritonRequest* request, std::uint32_t* count);
TritonError* TRITONBACKEND_RequestInputByIndex(TritonRequest* request, std::uint32_t index,
                                               TritonInput** input);
// The outputs that the client names, or all where it names none.
TritonError* TRITONBACKEND_RequestOutputCount(TritonRequest* request, std::uint32_t* count);
TritonError* TRITONBACKEND_RequestOutputName(TritonRequest* request, std::uint32_t index,
                                             const char** name);
TritonError* TRITONBACKEND_RequestIsCancelled(TritonRequest* request, bool* cancelled);
TritonError* TRITONBACKEND_RequestRelease(TritonRequest* request, std::uint32_t flags);

TritonError* TRITONBACKEND_InputProperties(TritonInput* input, const char** name, DataType* type,
                                           const std::int64_t** shape, std::uint32_t* axes,
                                           std::uint64_t* bytes, std::uint32_t* buffers);
// `type` and `device`: in the wish, out what it is.
TritonError* TRITONBACKEND_InputBuffer(TritonInput* input, std::uint32_t index, const void** buffer,
                                       std::uint64_t* bytes, MemoryType* type,
                                       std::int64_t* device);

TritonError* TRITONBACKEND_ResponseNew(TritonResponse** response, TritonRequest* request);
TritonError* TRITONBACKEND_ResponseOutput(TritonResponse* response, TritonOutput** output,
                                          const char* name, DataType type,
                                          const std::int64_t* shape, std::uint32_t axes);
TritonError* TRITONBACKEND_OutputBuffer(TritonOutput* output, void** buffer, std::uint64_t bytes,
                                        MemoryType* type, std::int64_t* device);
// Takes the response, not the error.
TritonError* TRITONBACKEND_ResponseSend(TritonResponse* response, std::uint32_t flags,
                                        TritonError* error);

}  // extern "C"

}  // namespace tessera::serve
