// How a model is served: what the server's command line and the model's configuration say, and the
// configuration made whole where it says nothing.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "models/session.h"

namespace tessera::serve {

// What a served image model may be sent, and may answer. Every request has one input and asks for
// any outputs; the batch is the first axis of all.
inline constexpr const char* kMask = "MASK";                    // (n, h, w) UINT8
inline constexpr const char* kProbabilities = "PROBABILITIES";  // (n, h, w, outputs), (n, classes)
inline constexpr const char* kObjects = "OBJECTS";              // (n, 1) JSON
inline constexpr const char* kLabel = "LABEL";                  // (n, 1) a class's name
inline constexpr const char* kAttention = "ATTENTION";          // (n, 1) JSON

struct Settings {
  SessionOptions session;
  // Of one input; decoded, of an encoded image, too. 64 MiB are what newer servers take over HTTP.
  std::uint64_t max_request_bytes = std::uint64_t{64} << 20;

  // Takes an option by name: device, precision, threads, max_memory, tile, range, probabilities,
  // max_request_bytes. Throws on an unknown one and on a value that is none.
  void set(const std::string& name, const std::string& value);
};

// `command_line` is {"cmdline": {..}}, in which the server's own names have dashes; `config` is the
// model's, whose "parameters" win.
Settings read_settings(const nlohmann::json& command_line, const nlohmann::json& config);

// Fills what `config` leaves out: inputs, outputs, batch size and scheduler.
void complete(nlohmann::json& config, Session::Task task, const Settings& settings);

}  // namespace tessera::serve
