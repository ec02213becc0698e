#include "models/training/training.h"

#include <chrono>
#include <cmath>

#include "engine/device/machine.h"
#include "engine/files/atomic_file.h"
#include "engine/files/digest.h"
#include "engine/train/gradient_sum.h"
#include "engine/train/weight_average.h"
#include "models/training/checkpoint.h"
#include "models/training/training_log.h"

namespace tessera {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

const std::string kAverage = "average/";  // before names in a checkpoint

// {"iou": {"cell": 0.8}} as {"iou/cell": 0.8}.
std::map<std::string, double> flat(const json& figures) {
  std::map<std::string, double> all;
  for (const auto& [name, value] : figures.items()) {
    if (value.is_number()) all[name] = value.get<double>();
    if (!value.is_object()) continue;
    for (const auto& [part, figure] : flat(value)) all[name + "/" + part] = figure;
  }
  return all;
}

class Training {
 public:
  Training(TrainingTask& task, const LoopOptions& options, const Device& device,
           const TrainEvents& events)
      : task_(task),
        options_(options),
        ranks_(*options.ranks),
        events_(events),
        queue_(device.queue()),
        steps_per_epoch_(steps_per_epoch(task, options)),
        total_(total_steps(task, options)),
        parameters_(make_parameters()),
        gradients_(make_gradients()),
        optimiser_(options.optimiser, parameters_, queue_,
                   open_transport(queue_, options.ranks, events.note, options.nccl)),
        sum_(gradients_, optimiser_.sharing(), options.accumulate) {
    for (const Gradients::Weight& weight : gradients_.weights()) {
      weights_.push_back(weight.value);
      weight_gradients_.push_back(weight.gradient);
    }
    if (options.average > 0) average_.emplace(gradients_, queue_, options.average);
    setup_.optimiser = &optimiser_;
    setup_.schedule = options.schedule;
    setup_.settings = {{"model", to_json(task.config())},
                       {"data", task.settings()},
                       {"rate", options.rate},
                       {"accumulate", options.accumulate},
                       {"average", options.average},
                       {"best", options.best},
                       {"validate_every", options.validate_every}};
  }

  TrainResult run() {
    require_memory();
    prepare_folder();
    require_agreement();
    note_sizes();
    std::optional<MetricsLog> log;
    if (ranks_.is_first())
      log.emplace(options_.folder / "metrics.jsonl",
                  options_.resume ? std::optional(state_.step) : std::nullopt);
    TrainResult result;
    while (state_.step < total_ && !is_early()) {
      one_step();
      const bool epoch_ends = state_.batch == task_.batches();
      const bool due =
          options_.validate_every > 0 ? state_.step % options_.validate_every == 0 : epoch_ends;
      if (epoch_ends) {
        ++state_.epoch;
        state_.batch = 0;
      }
      const bool goes_on = !(due || state_.step == total_) || measure(log);
      if (state_.step < total_ && !is_early() && any(ranks_, !goes_on || events_.stop())) {
        save({"last.safetensors"});
        if (!fs::exists(options_.model)) write_model(progress());
        result.end = TrainResult::End::kStopped;
        break;
      }
    }
    if (result.end != TrainResult::End::kStopped) {
      write_result();
      if (is_early()) result.end = TrainResult::End::kEarly;
    }
    result.model = options_.model.string();
    result.step = state_.step;
    result.train_loss = train_loss_;
    result.best = state_.best_metric;
    result.best_epoch = state_.best_epoch;
    result.rank = ranks_.rank();
    ranks_.finish();
    return result;
  }

 private:
  std::vector<TrainedParameter> make_parameters() const {
    const std::vector<std::string> frozen = task_.frozen();
    return trained_parameters(task_.graph(), example_inputs(task_.config()), frozen);
  }

  Gradients make_gradients() const {
    const FloatTensors initial = task_.initial_weights();
    const WeightSource source = [&](const std::string& name, const Shape& shape) {
      const auto found = initial.find(name);
      require(found != initial.end() && found->second.shape == shape,
              "the initial weights have no '{}' of shape {}", name, shape);
      return found->second.view();
    };
    std::vector<std::string> frozen;
    for (const TrainedParameter& parameter : parameters_) {
      if (parameter.frozen) frozen.push_back(parameter.name);
    }
    return {task_.graph(), source, example_inputs(task_.config()),
            queue_,        frozen, options_.recompute};
  }

  bool is_early() const { return options_.patience > 0 && worse_ >= options_.patience; }

  // What a new run finds there is another run's.
  void make_folder() const {
    AtomicFile probe(options_.model);  // an output that cannot be written is said now
    // The folder alone: a parent that is missing is rather a wrong path than one to be made.
    std::error_code error;
    fs::create_directory(options_.folder, error);
    require(!error, "cannot make the folder '{}': {}; choose one in an existing, writable folder",
            options_.folder.string(), error.message());
    // Two checkpoints and the model, with room for one that is being replaced.
    constexpr std::uint64_t kFiles = 4;
    const FloatTensors values = all_values();
    require_space(options_.folder / "last.safetensors",
                  kFiles * checkpoint_bytes(views_of(values), optimiser_));
    for (const char* name : {"last.safetensors", "best.safetensors"}) {
      if (!options_.resume) fs::remove(options_.folder / name, error);
    }
  }

  void prepare_folder() {
    const fs::path last = options_.folder / "last.safetensors";
    require(!options_.resume || fs::exists(last),
            "nothing to resume: '{}' is not there; start without --resume", last.string());
    if (ranks_.is_first()) make_folder();
    if (!options_.resume) return;
    const FloatTensors values = all_values();
    state_ = load_checkpoint(last, views_of(values), setup_);
    set_all_values(values);
    worse_ = state_.extra.at("worse").get<std::int64_t>();
    loss_sum_ = state_.extra.at("loss").get<double>();
    correct_ = state_.extra.at("correct").get<std::int64_t>();
    counted_ = state_.extra.at("total").get<std::int64_t>();
    batches_summed_ = state_.extra.at("batches").get<std::int64_t>();
    train_loss_ = state_.extra.at("train_loss").get<double>();
    events_.note(fmt::format("resumed at step {} of {}", state_.step, total_));
  }

  // All that decides the result, on every rank as on rank 0.
  void require_agreement() {
    if (ranks_.count() == 1) return;
    const Device& device = queue_->device();
    json own = description_of(setup_);
    own["run"] = {{"steps", total_},
                  {"early_stop", options_.patience},
                  {"precision", name_of(device.precision())},
                  // Their kernels round differently: those of GPUs by compute capability.
                  {"device", device.is_host() ? "cpu" : device.details().front().second},
                  {"resume", options_.resume},
                  {"step", state_.step},
                  {"weights", digest_of_weights()}};
    const json first = json::parse(broadcast_text(ranks_, own.dump()));
    const std::string name = fmt::format("on rank {}", ranks_.rank());
    const std::string different =
        gather_text(ranks_, differences(first, json::parse(own.dump()), "on rank 0", name));
    require(different.empty(),
            "the ranks were told different things; give all of them the same options, data and "
            "folder, or train each by itself with --ranks none:{}",
            different);
    const std::int64_t batches = std::min<std::int64_t>(task_.batches(), options_.accumulate);
    const std::int64_t working = sum_.working(batches);
    events_.note(fmt::format(
        "{} ranks share the {} batches of a step{}, and the {} of the optimiser's state: {} here",
        ranks_.count(), batches,
        working < ranks_.count() ? fmt::format(", but {} of them alone get any", working) : "",
        format_bytes(optimiser_.state_bytes()), format_bytes(optimiser_.own_state_bytes())));
  }
  std::string digest_of_weights() const {
    Digest digest;
    for (const auto& [name, tensor] : all_values())
      digest.add(std::span<const float>(tensor.values));
    return digest.hex();
  }

  // Before anything is written: a plan is made, which a device that cannot train the network
  // refuses, and it must fit. On a GPU its own memory counts, which its driver tells.
  void require_memory() {
    gradients_.plan(task_.largest_batch());
    if (!queue_->device().is_host()) return;
    const std::int64_t whole = task_.largest_batch()[0].shape[0];
    // Smaller batches are more to accumulate.
    const auto times = [&](std::int64_t batch) {
      return (whole * options_.accumulate + batch - 1) / batch;
    };
    const auto needed = [&](std::int64_t batch) {
      std::vector<TensorType> inputs = task_.largest_batch();
      std::size_t bytes = 0;
      for (TensorType& type : inputs) {
        type.shape[0] = batch;
        bytes += type.bytes();
      }
      return bytes + sum_.bytes(times(batch)) + gradients_.plan(inputs).peak;
    };
    const auto sharers = static_cast<std::size_t>(ranks_beside(ranks_).machine);
    const std::size_t available = available_bytes() / sharers;
    if (needed(whole) <= available) return;
    std::int64_t batch = whole;
    while (batch > 1 && needed(batch) > available) batch /= 2;
    const bool fits = needed(batch) <= available;
    fail("a batch of {} needs {}, and {} of memory are free; {}", whole,
         format_bytes(needed(whole)), format_bytes(available),
         fits ? fmt::format("give --batch {} --accumulate {}, which takes the same steps", batch,
                            times(batch))
         : task_.config().is_of_images()
             ? std::string("give a smaller --tile: half of it needs a quarter; or a smaller --base")
             : std::string("give smaller --max-sentences and --max-words"));
  }

  void note_sizes() {
    std::size_t weights = 0, trained = 0;
    for (const Gradients::Weight& weight : gradients_.weights()) {
      const auto elements = static_cast<std::size_t>(weight.value.shape().elements());
      weights += elements;
      if (weight.trained) trained += elements;
    }
    events_.note(
        fmt::format("{} weights, {} of them trained; activations and their gradients take "
                    "{} at most",
                    weights, trained, format_bytes(gradients_.plan(task_.largest_batch()).peak)));
  }

  void one_step() {
    const std::int64_t count =
        std::min<std::int64_t>(task_.batches() - state_.batch, options_.accumulate);
    const std::vector<LossResult> results = sum_.run(count, [&](std::int64_t i) {
      return task_.add(gradients_, state_.epoch, state_.batch + i);
    });
    double loss = 0;
    for (const LossResult& batch : results) {
      loss += batch.loss / static_cast<double>(count);
      loss_sum_ += batch.loss;
      correct_ += batch.correct;
      counted_ += batch.counted;
      ++batches_summed_;
    }
    state_.batch += count;
    const double rate = options_.rate * rate_factor(options_.schedule, state_.step);
    optimiser_.step(weights_, weight_gradients_, rate, 1 / static_cast<double>(count));
    ++state_.step;
    if (average_) average_->add(state_.step);
    events_.step({state_.step, total_, (state_.step - 1) / steps_per_epoch_, loss, rate});
  }

  // The end of an epoch or interval: validation, log, picture, checkpoints. Whether to go on.
  bool measure(std::optional<MetricsLog>& log) {
    const double epoch = static_cast<double>(state_.step) / static_cast<double>(steps_per_epoch_);
    train_loss_ = loss_sum_ / static_cast<double>(batches_summed_);
    const double train_accuracy =
        counted_ > 0 ? static_cast<double>(correct_) / static_cast<double>(counted_) : 0;
    loss_sum_ = 0;
    correct_ = counted_ = 0;
    batches_summed_ = 0;
    const FloatTensors weights = model_values();
    const std::optional<Evaluation> validation =
        task_.validate(views_of(weights), queue_->device(), ranks_);
    nlohmann::ordered_json line;
    line["step"] = state_.step;
    line["epoch"] = epoch;
    line["train_loss"] = train_loss_;
    line["train_accuracy"] = train_accuracy;
    std::string note = fmt::format("epoch {:.4g}, step {}: loss {:.4f}, accuracy {:.4f}", epoch,
                                   state_.step, train_loss_, train_accuracy);
    bool better = false;
    if (validation) {
      require(std::isfinite(validation->loss),
              "the validation loss is not finite; lower the learning rate or clip the gradients");
      const double figure = validation->figure(options_.best);
      better = !state_.best_metric || (options_.best == "loss" ? figure < *state_.best_metric
                                                               : figure > *state_.best_metric);
      line["validation_loss"] = validation->loss;
      line["validation_accuracy"] = validation->accuracy;
      for (const auto& [key, value] : validation->more.items()) line["validation_" + key] = value;
      note += fmt::format("; validation: loss {:.4f}, accuracy {:.4f}{}", validation->loss,
                          validation->accuracy, better ? ", the best so far" : "");
      worse_ = better ? 0 : worse_ + 1;
      if (better) {
        line["best"] = true;
        state_.best_metric = figure;
        state_.best_epoch = (state_.step + steps_per_epoch_ - 1) / steps_per_epoch_;
      }
    }
    line["rate"] = options_.rate * rate_factor(options_.schedule, state_.step - 1);
    const json reached = json::parse(line.dump());
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    line["seconds"] = seconds;
    if (log) {
      log->append(line);
      write_text(options_.folder / "learning_curves.svg",
                 learning_curves_svg(epochs_of(read_metrics(options_.folder / "metrics.jsonl")),
                                     options_.model.filename().string()));
    }
    if (better || !validation) {
      reached_ = reached;
      write_model(reached);
    }
    if (better) save({"best.safetensors", "last.safetensors"});
    if (!better) save({"last.safetensors"});
    events_.note(note);
    TrainEvents::Epoch told{.step = state_.step,
                            .epoch = epoch,
                            .training = {train_loss_, train_accuracy},
                            .best = better,
                            .rate = line["rate"],
                            .seconds = seconds};
    if (validation)
      told.validation = {validation->loss, validation->accuracy, flat(validation->more)};
    return events_.epoch(told);
  }

  // What the model file gets.
  FloatTensors model_values() const { return average_ ? average_->values() : gradients_.values(); }

  // What a checkpoint keeps.
  FloatTensors all_values() const {
    FloatTensors values = gradients_.values();
    if (!average_) return values;
    for (auto& [name, tensor] : average_->values()) values.emplace(kAverage + name, tensor);
    return values;
  }
  void set_all_values(const FloatTensors& values) {
    gradients_.set_values(views_of(values));
    if (!average_) return;
    TensorViews averages;
    for (const auto& [name, tensor] : values) {
      if (name.starts_with(kAverage)) averages.emplace(name.substr(kAverage.size()), tensor.view());
    }
    average_->set_values(averages);
  }

  json progress() const { return {{"step", state_.step}, {"interrupted", true}}; }

  void save(std::initializer_list<const char*> names) {
    const FloatTensors optimiser = optimiser_.state();  // of all ranks, so all are asked
    if (!ranks_.is_first()) return;
    state_.extra = {{"worse", worse_},    {"loss", loss_sum_},          {"correct", correct_},
                    {"total", counted_},  {"batches", batches_summed_}, {"train_loss", train_loss_},
                    {"reached", reached_}};
    const FloatTensors weights = all_values();
    for (const char* name : names)
      save_checkpoint(options_.folder / name, views_of(weights), views_of(optimiser), setup_,
                      state_);
  }

  void write_model(const json& reached) const {
    if (!ranks_.is_first()) return;
    ModelConfig config = task_.config();
    config.provenance.update(options_.provenance);  // what it was imported from stays
    config.provenance["training"] = reached;
    const FloatTensors weights = model_values();
    save_model(options_.model, config, views_of(weights), task_.vocabulary(), options_.storage);
  }

  // The best model once more: the file may have been written by the part of the run before an
  // interruption, with another name or command.
  void write_result() {
    if (!ranks_.is_first()) return;
    const fs::path best =
        options_.folder / (state_.best_metric ? "best.safetensors" : "last.safetensors");
    const FloatTensors values = all_values();
    const TrainingState of_best = load_checkpoint(best, views_of(values), setup_);
    set_all_values(values);
    write_model(of_best.extra.at("reached"));
  }

  TrainingTask& task_;
  const LoopOptions& options_;
  Ranks& ranks_;
  const TrainEvents& events_;
  std::shared_ptr<Queue> queue_;
  std::int64_t steps_per_epoch_, total_;
  std::vector<TrainedParameter> parameters_;
  Gradients gradients_;
  Optimiser optimiser_;
  GradientSum sum_;
  std::optional<WeightAverage> average_;
  std::vector<TensorView> weights_, weight_gradients_;  // in the optimiser's order
  TrainingSetup setup_;
  TrainingState state_;
  // Since the last measurement.
  double loss_sum_ = 0;
  std::int64_t correct_ = 0, counted_ = 0;
  std::int64_t batches_summed_ = 0;
  std::int64_t worse_ = 0;  // validations since the best one
  double train_loss_ = 0;
  json reached_ = json::object();  // the metrics of the model that was written last
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

double Evaluation::figure(const std::string& name) const {
  if (name == "loss") return loss;
  if (name == "accuracy") return accuracy;
  const auto found = more.find(name);
  require(found != more.end() && found->is_number(),
          "a validation has no figure '{}' to tell the best one by", name);
  return found->get<double>();
}

std::int64_t steps_per_epoch(const TrainingTask& task, const LoopOptions& options) {
  require(options.accumulate >= 1, "accumulate: expected a number from 1, found {}",
          options.accumulate);
  return (task.batches() + options.accumulate - 1) / options.accumulate;
}

std::int64_t total_steps(const TrainingTask& task, const LoopOptions& options) {
  return options.steps > 0 ? options.steps : options.epochs * steps_per_epoch(task, options);
}

TrainResult train(TrainingTask& task, const LoopOptions& options,
                  std::shared_ptr<const Device> device, const TrainEvents& events) {
  require(task.batches() > 0, "there is nothing to train on");
  return Training(task, options, *device, events).run();
}

void add_ranks(ConfusionMatrix& counts, Ranks& ranks) {
  const std::size_t classes = counts.classes(), cells = classes * classes;
  std::vector<std::int64_t> own;
  for (std::size_t i = 0; i < cells; ++i) own.push_back(counts.at(i / classes, i % classes));
  const std::vector<std::int64_t> all = gather_values(ranks, own);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool is_counted = i / cells == static_cast<std::size_t>(ranks.rank());
    if (!is_counted) counts.add(i % cells / classes, i % classes, all[i]);
  }
}

Executor make_evaluator(const ModelConfig& config, const Graph& graph, const TensorViews& weights,
                        const Device& device) {
  const std::vector<TensorType> example = example_inputs(config);
  const WeightSource source = [&](const std::string& name, const Shape&) {
    return weights.at(name);
  };
  return {device.optimise(graph, example, true), source, example, device.shared_from_this()};
}

}  // namespace tessera
