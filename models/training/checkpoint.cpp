#include "models/training/checkpoint.h"

#include <cmath>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/files/json_fields.h"
#include "engine/files/safetensors.h"
#include "engine/files/weights.h"
#include "models/model_file.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr const char* kCheckpointKey = "tessera_checkpoint";
constexpr int kCheckpointFormat = 1;
constexpr const char* kWeights = "weights/";
constexpr const char* kOptimiser = "optimiser/";

constexpr JsonNames<Optimiser::Kind, 3> kKindNames{{{Optimiser::Kind::kSgd, "sgd"},
                                                    {Optimiser::Kind::kAdam, "adam"},
                                                    {Optimiser::Kind::kAdamW, "adamw"}}};
constexpr JsonNames<Schedule::Kind, 3> kScheduleNames{{{Schedule::Kind::kConstant, "constant"},
                                                       {Schedule::Kind::kCosine, "cosine"},
                                                       {Schedule::Kind::kStep, "step"}}};

json to_json(const TrainingState& state) {
  json random = json::object();
  for (const auto& [name, stream] : state.random) {
    random[name] = {
        {"seed", stream.seed}, {"stream", stream.stream}, {"position", stream.position}};
  }
  return {{"epoch", state.epoch},
          {"batch", state.batch},
          {"step", state.step},
          {"best_metric", state.best_metric ? json(*state.best_metric) : json()},
          {"best_epoch", state.best_epoch},
          {"random", std::move(random)},
          {"extra", state.extra}};
}

std::int64_t read_count(JsonFields& fields, const char* key) {
  std::int64_t value = -1;
  fields.read(key, value);
  require(value >= 0, "state.{}: expected a whole number from 0, found {}", key, value);
  return value;
}

TrainingState state_from_json(const json& object) {
  TrainingState state;
  JsonFields fields(object, "state");
  state.epoch = read_count(fields, "epoch");
  state.batch = read_count(fields, "batch");
  state.step = read_count(fields, "step");
  if (!fields.take_required("best_metric").is_null())
    fields.read("best_metric", state.best_metric.emplace());
  state.best_epoch = read_count(fields, "best_epoch");
  const json& random = fields.take_required("random");
  require(random.is_object(), "state.random: expected an object");
  for (const auto& [name, value] : random.items()) {
    JsonFields inner(value, "state.random." + name);
    Random::State& stream = state.random[name];
    for (const auto& [key, into] : {std::pair{"seed", &stream.seed},
                                    {"stream", &stream.stream},
                                    {"position", &stream.position}}) {
      const json& number = inner.take_required(key);
      require(number.is_number_unsigned(), "state.random.{}.{}: expected a whole number from 0",
              name, key);
      *into = number.get<std::uint64_t>();
    }
    inner.refuse_unknown();
  }
  state.extra = fields.take_required("extra");
  fields.refuse_unknown();
  return state;
}

// The weights and the optimiser's state by their names in the file.
TensorViews tensors_of(const TensorViews& weights, const TensorViews& optimiser) {
  TensorViews tensors;
  for (const auto& [name, view] : weights) tensors.emplace(kWeights + name, view);
  for (const auto& [name, view] : optimiser) tensors.emplace(kOptimiser + name, view);
  return tensors;
}

}  // namespace

json description_of(const TrainingSetup& setup) {
  const Optimiser::Config& config = setup.optimiser->config();
  const Schedule& schedule = setup.schedule;
  json parameters = json::object();
  for (const TrainedParameter& parameter : setup.optimiser->parameters()) {
    parameters[parameter.name] = {{"decays", parameter.decays},
                                  {"frozen", parameter.frozen},
                                  {"rate_scale", parameter.rate_scale}};
  }
  return {{"settings", setup.settings},
          {"optimiser",
           {{"kind", json_name(config.kind, kKindNames)},
            {"momentum", config.momentum},
            {"nesterov", config.nesterov},
            {"beta1", config.beta1},
            {"beta2", config.beta2},
            {"eps", config.eps},
            {"weight_decay", config.weight_decay},
            {"clip_norm", config.clip_norm},
            {"parameters", std::move(parameters)}}},
          {"schedule",
           {{"kind", json_name(schedule.kind, kScheduleNames)},
            {"warmup_steps", schedule.warmup_steps},
            {"total_steps", schedule.total_steps},
            {"final_factor", schedule.final_factor},
            {"step_size", schedule.step_size},
            {"gamma", schedule.gamma}}}};
}

std::string differences(const json& one, const json& other, const std::string& of_one,
                        const std::string& of_other) {
  constexpr int kShown = 10;
  const json a = one.flatten(), b = other.flatten();
  std::vector<std::string> lines;
  const auto value_in = [](const json& flat, const std::string& key) {
    const auto found = flat.find(key);
    return found == flat.end() ? "nothing" : JsonFields::shown(*found);
  };
  const auto compare = [&](const std::string& key) {
    lines.push_back(fmt::format("\n  {}: {} {}, {} {}", key.substr(1), value_in(a, key), of_one,
                                value_in(b, key), of_other));
  };
  for (const auto& item : a.items()) {
    const auto found = b.find(item.key());
    if (found == b.end() || *found != item.value()) compare(item.key());
  }
  for (const auto& item : b.items()) {
    if (!a.contains(item.key())) compare(item.key());
  }
  std::string text;
  for (std::size_t i = 0; i < lines.size() && i < kShown; ++i) text += lines[i];
  if (lines.size() > kShown) text += fmt::format("\n  and {} more", lines.size() - kShown);
  return text;
}

void save_checkpoint(const std::filesystem::path& path, const TensorViews& weights,
                     const TensorViews& optimiser, const TrainingSetup& setup,
                     const TrainingState& state) {
  require(!state.best_metric || std::isfinite(*state.best_metric),
          "{}: the best metric is {}; a checkpoint is of a run that goes well", path.string(),
          state.best_metric.value_or(0));
  json object = description_of(setup);
  object["format"] = kCheckpointFormat;
  object["optimiser_steps"] = setup.optimiser->steps();
  object["state"] = to_json(state);
  std::string text;
  try {
    text = object.dump();
  } catch (const json::exception& error) {
    fail("{}: a setting is not UTF-8: {}", path.string(), error.what());
  }
  write_safetensors(path, tensors_of(weights, optimiser), {{kCheckpointKey, text}});
}

TrainingState load_checkpoint(const std::filesystem::path& path, const TensorViews& weights,
                              const TrainingSetup& setup) {
  Weights file = Weights::open(path);
  const json object = metadata_json(file, kCheckpointKey,
                                    "it is no checkpoint of a training: give last.safetensors or "
                                    "best.safetensors of the run's folder");
  TrainingState state;
  std::int64_t steps = 0;
  json saved = json::object();
  try {
    JsonFields fields(object, kCheckpointKey);
    int format = 0;
    fields.read("format", format, kCheckpointFormat, kCheckpointFormat);
    require(format == kCheckpointFormat, "the format is missing");
    steps = read_count(fields, "optimiser_steps");
    state = state_from_json(fields.take_required("state"));
    for (const char* key : {"settings", "optimiser", "schedule"})
      saved[key] = fields.take_required(key);
    fields.refuse_unknown();
  } catch (const Error& error) {
    fail("{}: {}", path.string(), error.what());
  }

  // Through text, as the checkpoint's went: 1 and 1.0 are then the same on both sides.
  const json now = json::parse(description_of(setup).dump());
  const std::string different = differences(saved, now, "in the checkpoint", "now");
  require(different.empty(),
          "{}: the checkpoint is of another run, so it cannot be resumed; give the options of that "
          "run, or start a new one in another folder:{}",
          path.string(), different);

  const TensorViews own = tensors_of(weights, setup.optimiser->state_types());
  TensorViews found;
  for (const auto& [name, view] : own) {
    found.emplace(name, file.take(name, view.shape()));
    require(found.at(name).type == view.type, "{}: the tensor {} is {}, expected {}", path.string(),
            in_quotes(name), found.at(name).type, view.type);
  }
  file.check_all_used();

  TensorViews optimiser_state;
  for (const auto& [name, view] : found) {
    if (name.starts_with(kOptimiser))
      optimiser_state.emplace(name.substr(std::strlen(kOptimiser)), view);
  }
  setup.optimiser->restore(optimiser_state, steps);
  for (const auto& [name, view] : weights)
    std::memcpy(view.pointer, found.at(kWeights + name).pointer, view.type.bytes());
  return state;
}

std::uint64_t checkpoint_bytes(const TensorViews& weights, const Optimiser& optimiser) {
  std::uint64_t bytes = optimiser.state_bytes();
  for (const auto& entry : weights) bytes += entry.second.type.bytes();
  return bytes;
}

void require_space(const std::filesystem::path& path, std::uint64_t bytes) {
  constexpr double kMiB = 1 << 20;
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  require(!error, "cannot write '{}': {}; choose an output in an existing, writable folder",
          path.string(), error.message());
  require(
      space.available >= bytes,
      "'{}' needs {:.1f} MiB, its disk has {:.1f} MiB left; free space or choose another folder",
      path.string(), static_cast<double>(bytes) / kMiB,
      static_cast<double>(space.available) / kMiB);
}

}  // namespace tessera
