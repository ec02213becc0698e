// The backend "tessera" of NVIDIA's Triton Inference Server: libtriton_tessera.so. Its functions
// are called by the server; none lets an exception out.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <system_error>

#include "kernels/error.h"
#include "tools/serve/served_model.h"

namespace tessera::serve {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// An instance runs one batch at a time. While one waits for the last of its requests, the other
// has the threads: see Model.
constexpr std::uint64_t kInstances = 2;

std::uint64_t now() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

void log(LogLevel level, std::string_view text) {
  TritonError* const error =
      TRITONSERVER_LogMessage(level, "tessera", 0, std::string(text).c_str());
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

template <class Work>
TritonError* guarded(const Work& work) {
  try {
    work();
    return nullptr;
  } catch (...) {
    return current_error();
  }
}

// Of an error that reaches nobody else.
void log_error(TritonError* error) {
  if (error == nullptr) return;
  log(LogLevel::kError, TRITONSERVER_ErrorMessage(error));
  TRITONSERVER_ErrorDelete(error);
}

json read_message(TritonMessage* message) {
  const char* text = nullptr;
  std::size_t size = 0;
  check(TRITONSERVER_MessageSerializeToJson(message, &text, &size));
  return json::parse(text, text + size);
}

json config_of(TritonModel* model) {
  TritonMessage* message = nullptr;
  check(TRITONBACKEND_ModelConfig(model, kConfigVersion, &message));
  const std::unique_ptr<TritonMessage, decltype(&TRITONSERVER_MessageDelete)> owner(
      message, &TRITONSERVER_MessageDelete);
  return read_message(message);
}

void set_config(TritonModel* model, const json& config) {
  const std::string text = config.dump();
  TritonMessage* message = nullptr;
  check(TRITONSERVER_MessageNewFromSerializedJson(&message, text.data(), text.size()));
  const std::unique_ptr<TritonMessage, decltype(&TRITONSERVER_MessageDelete)> owner(
      message, &TRITONSERVER_MessageDelete);
  check(TRITONBACKEND_ModelSetConfig(model, kConfigVersion, message));
}

json command_line(TritonModel* model) {
  TritonBackend* backend = nullptr;
  check(TRITONBACKEND_ModelBackend(model, &backend));
  TritonMessage* message = nullptr;
  check(TRITONBACKEND_BackendConfig(backend, &message));
  return read_message(message);
}

// NAME/VERSION/model.safetensors, or the file that the configuration names.
std::string model_path(TritonModel* model, const json& config) {
  int artifact = 0;
  const char* folder = nullptr;
  std::uint64_t version = 0;
  check(TRITONBACKEND_ModelRepository(model, &artifact, &folder));
  check(TRITONBACKEND_ModelVersion(model, &version));
  const fs::path files = fs::path(folder) / std::to_string(version);
  const std::string named = config.value("default_model_filename", "");
  if (!named.empty() && fs::is_regular_file(files / named)) return files / named;
  require(fs::is_regular_file(files / "model.safetensors"),
          "{} holds no model.safetensors; put the model file there, or name it in config.pbtxt "
          "(default_model_filename)",
          files.string());
  return files / "model.safetensors";
}

// A file's content in memory, under a path of this process, until the copy dies; what has mapped it
// keeps it. A model reads its file as it runs: one that is overwritten in its repository, as cp
// does, would change its answers, and one that is cut short would end the server.
class PrivateCopy {
 public:
  explicit PrivateCopy(const std::string& path)
      : source_(open(path.c_str(), O_RDONLY | O_CLOEXEC)),
        copy_(memfd_create("tessera model", MFD_CLOEXEC)) {
    ssize_t moved = source_ < 0 || copy_ < 0 ? -1 : 1;
    while (moved > 0) moved = sendfile(copy_, source_, nullptr, std::size_t{1} << 30);
    if (moved == 0) return;
    const int cause = errno;
    close_both();
    fail("{} cannot be copied to memory: {}", path, std::generic_category().message(cause));
  }
  ~PrivateCopy() { close_both(); }
  PrivateCopy(const PrivateCopy&) = delete;
  PrivateCopy& operator=(const PrivateCopy&) = delete;

  std::string path() const { return fmt::format("/proc/self/fd/{}", copy_); }

 private:
  void close_both() const {
    if (source_ >= 0) close(source_);
    if (copy_ >= 0) close(copy_);
  }

  int source_, copy_;
};

std::unique_ptr<ServedModel> open_model(const std::string& path, const Settings& settings) {
  const PrivateCopy copy(path);
  try {
    return std::make_unique<ServedModel>(copy.path(), settings);
  } catch (const Error& error) {
    std::string text = error.what();
    for (auto at = text.find(copy.path()); at != text.npos; at = text.find(copy.path()))
      text.replace(at, copy.path().size(), path);
    fail("{}", text);
  }
}

ServedModel& served(TritonInstance* instance) {
  TritonModel* model = nullptr;
  check(TRITONBACKEND_ModelInstanceModel(instance, &model));
  void* state = nullptr;
  check(TRITONBACKEND_ModelState(model, &state));
  return *static_cast<ServedModel*>(state);
}

// A batch of requests: each is answered once, by its outputs or its own error.
class Batch {
 public:
  Batch(TritonInstance* instance, std::span<TritonRequest* const> requests)
      : instance_(instance), requests_(requests), begin_(now()) {}

  void run(const ServedModel& model) {
    if (model.model().task() == Session::Task::kSegment) {
      for (TritonRequest* const request : requests_) {
        const std::uint64_t begin = now();
        answer(request, begin, [&] { return model.segment(request); });
      }
    } else {
      classify(model);
    }
    log_error(TRITONBACKEND_ModelInstanceReportBatchStatistics(
        instance_, std::max(items_, std::uint64_t{1}), begin_, begin_, now(), now()));
  }

 private:
  // All documents of all requests at once.
  void classify(const ServedModel& model) {
    std::vector<TritonRequest*> readable;
    std::vector<ServedModel::Documents> read;
    std::vector<std::string_view> texts;
    for (TritonRequest* const request : requests_) {
      try {
        read.push_back(model.read_documents(request));
        readable.push_back(request);
        texts.insert(texts.end(), read.back().texts.begin(), read.back().texts.end());
      } catch (...) {
        answer_error(request, current_error());
      }
    }
    if (readable.empty()) return;
    const std::uint64_t begin = now();
    std::vector<Classification> answers;
    std::exception_ptr failure;
    try {
      answers = model.classify(texts, readable);
    } catch (...) {
      failure = std::current_exception();
    }
    std::size_t first = 0;
    for (std::size_t i = 0; i < readable.size(); ++i) {
      const std::size_t count = read[i].texts.size();
      answer(readable[i], begin, [&] {
        if (failure) std::rethrow_exception(failure);
        return model.outputs(readable[i], std::span(answers).subspan(first, count));
      });
      first += count;
    }
  }

  template <class Work>
  void answer(TritonRequest* request, std::uint64_t begin, const Work& work) {
    try {
      const std::vector<OutputTensor> outputs = work();
      const std::uint64_t end = now();
      send(request, outputs);
      if (!outputs.empty()) items_ += static_cast<std::uint64_t>(outputs[0].shape[0]);
      release(request, true, begin, end);
    } catch (...) {
      answer_error(request, current_error());
    }
  }

  void answer_error(TritonRequest* request, TritonError* error) {
    log_error(guarded([&] { send_error(request, error); }));
    release(request, false, begin_, begin_);
  }

  void release(TritonRequest* request, bool success, std::uint64_t begin, std::uint64_t end) {
    log_error(TRITONBACKEND_ModelInstanceReportStatistics(instance_, request, success, begin_,
                                                          begin, end, now()));
    log_error(TRITONBACKEND_RequestRelease(request, kReleaseAll));
  }

  TritonInstance* instance_;
  std::span<TritonRequest* const> requests_;
  std::uint64_t begin_;
  std::uint64_t items_ = 0;  // answered images or documents
};

}  // namespace

// What exports.map lets out.
extern "C" {

TritonError* TRITONBACKEND_Initialize(TritonBackend*) {
  return guarded([] {
    std::uint32_t major = 0, minor = 0;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != kApiMajor)
      throw StatusError(ErrorCode::kUnsupported,
                        fmt::format("this backend speaks version {} of TRITONBACKEND, the server "
                                    "{}.{}; build Tessera for this server",
                                    kApiMajor, major, minor));
  });
}

TritonError* TRITONBACKEND_GetBackendAttribute(TritonBackend*, TritonBackendAttribute* attributes) {
  return TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(attributes, InstanceKind::kModel,
                                                                 kInstances, nullptr, 0);
}

TritonError* TRITONBACKEND_ModelInitialize(TritonModel* model) {
  return guarded([&] {
    json config = config_of(model);
    Settings settings = read_settings(command_line(model), config);
    settings.session.on_note = [](std::string_view line) { log(LogLevel::kInfo, line); };
    std::unique_ptr<ServedModel> state = open_model(model_path(model, config), settings);
    bool completes = false;
    check(TRITONBACKEND_ModelAutoCompleteConfig(model, &completes));
    if (completes) {
      complete(config, state->model().task(), settings);
      set_config(model, config);
    }
    require(config.value("max_batch_size", 0) > 0,
            "max_batch_size is 0, but the first axis of every tensor is the batch; set it to 1 or "
            "more, or leave it out");
    check(TRITONBACKEND_ModelSetState(model, state.get()));
    state.release();  // to ModelFinalize
  });
}

TritonError* TRITONBACKEND_ModelFinalize(TritonModel* model) {
  return guarded([&] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelState(model, &state));
    delete static_cast<ServedModel*>(state);
  });
}

TritonError* TRITONBACKEND_ModelInstanceExecute(TritonInstance* instance, TritonRequest** requests,
                                                std::uint32_t count) {
  return guarded([&] {
    const ServedModel& model = served(instance);
    Batch(instance, {requests, count}).run(model);
  });
}

}  // extern "C"

}  // namespace tessera::serve
