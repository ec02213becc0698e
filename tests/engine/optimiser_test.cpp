// Ten steps against PyTorch, the same bytes for any number of threads, and the saved state.
#include "engine/train/optimiser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/files/safetensors.h"
#include "engine/files/weights.h"
#include "engine/train/random.h"
#include "engine/train/schedule.h"
#include "kernels/error.h"
#include "models/networks/han.h"
#include "models/networks/unet.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/targets.h"
#include "tests/support/thread_ranks.h"

namespace tessera {
namespace {

using test::error_of;

using ::testing::HasSubstr;

Weights goldens() {
  return Weights::open(test::source_dir() / "tests/golden/optimiser/optimiser.safetensors");
}

FloatTensor copy_of(const TensorView& view) {
  FloatTensor copy(view.shape());
  std::memcpy(copy.values.data(), view.pointer, view.type.bytes());
  return copy;
}

Optimiser::Config config_of(const nlohmann::json& golden) {
  using Kind = Optimiser::Kind;
  Optimiser::Config config;
  const std::string kind = golden.at("kind");
  config.kind = kind == "sgd" ? Kind::kSgd : kind == "adam" ? Kind::kAdam : Kind::kAdamW;
  config.momentum = golden.value("momentum", config.momentum);
  config.nesterov = golden.value("nesterov", config.nesterov);
  config.beta1 = golden.value("beta1", config.beta1);
  config.beta2 = golden.value("beta2", config.beta2);
  config.eps = golden.value("eps", config.eps);
  config.weight_decay = golden.value("weight_decay", config.weight_decay);
  config.clip_norm = golden.value("clip_norm", config.clip_norm);
  return config;
}

// Step `step` of a golden tensor (steps, ...).
TensorView part(const TensorView& all, std::int64_t step, const Shape& shape) {
  return {all.as<float>() + step * shape.elements(), {DType::kF32, shape}};
}

void expect_near(const TensorView& expected, const FloatTensor& actual, double bound) {
  for (std::size_t i = 0; i < actual.values.size(); ++i) {
    const double want = expected.as<const float>()[i], found = actual.values[i];
    EXPECT_LE(std::abs(want - found), bound * std::max(1.0, std::abs(want))) << "element " << i;
  }
}

TEST(OptimiserTest, TenStepsAreThoseOfPyTorch) {
  Weights golden = goldens();
  const nlohmann::json cases = nlohmann::json::parse(*golden.metadata("cases"));
  ASSERT_EQ(cases.size(), 7u);
  test::for_each_target([&] {
    for (const auto& item : cases.items()) {
      const std::string& name = item.key();
      const nlohmann::json& attributes = item.value();
      SCOPED_TRACE(name);
      const auto take = [&](const char* tensor) {
        return golden.take_any_shape(name + "/" + tensor);
      };
      FloatTensor weight = copy_of(take("weight")), bias = copy_of(take("bias"));
      Optimiser optimiser(config_of(attributes),
                          {{.name = "weight", .shape = weight.shape},
                           {.name = "bias", .shape = bias.shape, .decays = false}},
                          open_cpu_device(1)->queue());
      const std::vector<TensorView> weights{weight.view(), bias.view()};
      for (std::int64_t step = 0; step < 10; ++step) {
        SCOPED_TRACE(step);
        const double norm =
            optimiser.step(weights,
                           std::vector{part(take("weight_gradients"), step, weight.shape),
                                       part(take("bias_gradients"), step, bias.shape)},
                           attributes.at("rate"));
        const double expected = take("norms").as<const float>()[step];
        EXPECT_LE(std::abs(norm - expected), 1e-6 * expected);
        // Each step rounds a handful of numbers of order one, and momentum sums what came before:
        // 10 steps x 10 roundings of 2^-24 at a momentum that hardly forgets.
        expect_near(part(take("weights"), step, weight.shape), weight, 6e-6);
        expect_near(part(take("biases"), step, bias.shape), bias, 6e-6);
      }
    }
  });
}

TEST(OptimiserTest, ScheduleFactorsAreThoseOfPyTorch) {
  Weights golden = goldens();
  using Kind = Schedule::Kind;
  const std::pair<const char*, Schedule> cases[] = {
      {"cosine", {.kind = Kind::kCosine, .total_steps = 40, .final_factor = 0.1}},
      {"step", {.kind = Kind::kStep, .step_size = 7, .gamma = 0.5}},
      {"warm_cosine", {.kind = Kind::kCosine, .warmup_steps = 5, .total_steps = 40}}};
  for (const auto& [name, schedule] : cases) {
    SCOPED_TRACE(name);
    const TensorView factors = golden.take_any_shape(std::string("schedule/") + name);
    ASSERT_EQ(factors.shape().elements(), 40);
    for (std::int64_t step = 0; step < 40; ++step)
      EXPECT_NEAR(rate_factor(schedule, step), factors.as<const float>()[step], 1e-7) << step;
  }
}

TEST(OptimiserTest, SchedulesHoldTheirEnds) {
  const Schedule cosine{.kind = Schedule::Kind::kCosine, .total_steps = 10, .final_factor = 0.25};
  EXPECT_EQ(rate_factor(cosine, 0), 1);
  EXPECT_EQ(rate_factor(cosine, 10), 0.25);
  EXPECT_EQ(rate_factor(cosine, 1'000'000), 0.25);
  const Schedule all_warm{.kind = Schedule::Kind::kCosine, .warmup_steps = 10, .total_steps = 10};
  EXPECT_EQ(rate_factor(all_warm, 10), 0);
  const Schedule constant{.warmup_steps = 3};
  EXPECT_EQ(rate_factor(constant, 0), 0.25);
  EXPECT_EQ(rate_factor(constant, 3), 1);
}

// Three tensors: smaller than a piece, not a whole number of vectors, several pieces.
struct Problem {
  Problem() {
    Random random(1);
    for (const Shape& shape : {Shape{3}, Shape{1021}, Shape{5, 10007}}) {
      parameters.push_back({.name = shape.to_string(), .shape = shape});
      for (auto* list : {&weights, &gradients}) {
        FloatTensor& tensor = list->emplace_back(shape);
        for (float& value : tensor.values) value = static_cast<float>(random.normal());
      }
    }
  }

  static std::vector<TensorView> views(const std::vector<FloatTensor>& tensors) {
    std::vector<TensorView> list;
    for (const FloatTensor& tensor : tensors) list.push_back(tensor.view());
    return list;
  }
  Optimiser optimiser(const Optimiser::Config& config, int threads = 1) const {
    return {config, parameters, open_cpu_device(threads)->queue()};
  }
  double step(Optimiser& optimiser) const {
    return optimiser.step(views(weights), views(gradients), 0.1, 0.5);
  }
  std::vector<float> all_weights() const {
    std::vector<float> all;
    for (const FloatTensor& tensor : weights)
      all.insert(all.end(), tensor.values.begin(), tensor.values.end());
    return all;
  }

  std::vector<TrainedParameter> parameters;
  std::vector<FloatTensor> weights, gradients;
};

const Optimiser::Config kConfigs[] = {
    {.kind = Optimiser::Kind::kSgd, .momentum = 0.9, .nesterov = true, .clip_norm = 1},
    {.kind = Optimiser::Kind::kAdam, .weight_decay = 0.1},
    {.kind = Optimiser::Kind::kAdamW, .weight_decay = 0.1, .clip_norm = 1}};

TEST(OptimiserTest, AnyNumberOfThreadsGivesTheSameBytes) {
  for (const Optimiser::Config& config : kConfigs) {
    Problem one, many;
    Optimiser alone = one.optimiser(config), shared = many.optimiser(config, 3);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(one.step(alone), many.step(shared));
    EXPECT_EQ(one.all_weights(), many.all_weights());
  }
}

// Each keeps a share of the state, of a tensor that is cut too; more ranks than pieces, and a state
// that goes on with other ranks.
TEST(OptimiserTest, AnyNumberOfRanksGivesTheSameBytes) {
  for (const Optimiser::Config& config : kConfigs) {
    Problem one;
    Optimiser alone = one.optimiser(config);
    std::vector<double> norms;
    for (int i = 0; i < 4; ++i) norms.push_back(one.step(alone));
    const FloatTensors whole = alone.state();
    FloatTensors half_way;
    for (const int count : {1, 2, 3, 4, 9}) {
      std::vector<std::uint64_t> kept(static_cast<std::size_t>(count));
      const auto train = [&](const std::shared_ptr<Ranks>& ranks) {
        Problem own;
        const std::shared_ptr<Queue> queue = open_cpu_device(1)->queue();
        Optimiser shared(config, own.parameters, queue, host_transport(queue, ranks));
        kept[static_cast<std::size_t>(ranks->rank())] = shared.own_state_bytes();
        for (std::size_t i = 0; i < 4; ++i) {
          EXPECT_EQ(own.step(shared), norms[i]);
          const FloatTensors state = shared.state();
          EXPECT_EQ(state.size(), ranks->is_first() ? whole.size() : 0);
          if (i != 1 || half_way.empty()) continue;
          // The state that other ranks left, in the place of its own.
          shared.restore(views_of(half_way), shared.steps());
        }
        EXPECT_EQ(own.all_weights(), one.all_weights());
        for (const auto& [name, tensor] : shared.state())
          EXPECT_EQ(tensor.values, whole.at(name).values) << name;
      };
      EXPECT_THAT(test::run_ranks(count, train), testing::Each(""));
      const std::uint64_t most = *std::ranges::max_element(kept);
      constexpr std::uint64_t kPiece = 16384 * sizeof(float) * 2;  // Adam's of the pieces' elements
      EXPECT_LE(most, alone.own_state_bytes() / static_cast<std::uint64_t>(count) + kPiece);
      EXPECT_GE(std::accumulate(kept.begin(), kept.end(), std::uint64_t{0}), alone.state_bytes());
      if (count == 1) {
        Problem begun;
        Optimiser first = begun.optimiser(config);
        for (int i = 0; i < 2; ++i) begun.step(first);
        half_way = first.state();
      }
    }
  }
}

TEST(OptimiserTest, AGradientThatIsNotFiniteOnOneRankEndsAll) {
  const auto errors = test::run_ranks(3, [&](const std::shared_ptr<Ranks>& ranks) {
    Problem problem;
    const std::shared_ptr<Queue> queue = open_cpu_device(1)->queue();
    Optimiser shared(kConfigs[1], problem.parameters, queue, host_transport(queue, ranks));
    if (ranks->rank() == 2)
      problem.gradients[2].values.back() = std::numeric_limits<float>::quiet_NaN();
    problem.step(shared);
  });
  EXPECT_THAT(errors, testing::Each(HasSubstr("gradient of '(5, 10007)' is not finite")));
}

TEST(OptimiserTest, TheNormIsThatOfAllGradients) {
  Problem problem;
  Optimiser optimiser = problem.optimiser(kConfigs[0]);
  double squares = 0;
  for (const FloatTensor& gradient : problem.gradients) {
    for (const double value : gradient.values) squares += 0.25 * value * value;
  }
  EXPECT_NEAR(problem.step(optimiser), std::sqrt(squares), 1e-9);
}

TEST(OptimiserTest, ASavedStateGoesOnWithTheSameBytes) {
  const auto file = std::filesystem::temp_directory_path() /
                    ("tessera_optimiser_" + std::to_string(::getpid()) + ".safetensors");
  for (const Optimiser::Config& config : kConfigs) {
    Problem whole, cut;
    Optimiser through = whole.optimiser(config), first = cut.optimiser(config);
    for (int i = 0; i < 2; ++i) {
      whole.step(through);
      cut.step(first);
    }
    const FloatTensors of_first = first.state();
    write_safetensors(file, views_of(of_first), {});
    Weights saved = Weights::open(file);
    TensorViews state;
    for (const std::string& name : saved.names()) state.emplace(name, saved.take_any_shape(name));
    Optimiser second = cut.optimiser(config);
    second.restore(state, first.steps());
    for (int i = 0; i < 2; ++i) {
      whole.step(through);
      cut.step(second);
    }
    EXPECT_EQ(whole.all_weights(), cut.all_weights());
    EXPECT_EQ(second.steps(), 4);
  }
  std::filesystem::remove(file);
}

TEST(OptimiserTest, AStateThatDoesNotFitIsRefused) {
  Problem problem;
  Optimiser adam = problem.optimiser(kConfigs[1]), sgd = problem.optimiser(kConfigs[0]);
  const FloatTensors of_sgd = sgd.state(), of_adam = adam.state();
  EXPECT_THAT(error_of([&] { adam.restore(views_of(of_sgd), 1); }), HasSubstr("has no 'mean/"));
  TensorViews state = views_of(of_adam);
  state.emplace("mean/other", state.begin()->second);
  EXPECT_THAT(error_of([&] { adam.restore(state, 1); }), HasSubstr("'mean/other'"));
  state.erase("mean/other");
  state.begin()->second.type.shape = {7};
  EXPECT_THAT(error_of([&] { adam.restore(state, 1); }), HasSubstr("is f32 (7)"));
  EXPECT_EQ(adam.steps(), 0);
}

TEST(OptimiserTest, AGradientThatIsNotFiniteChangesNothing) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Problem problem;
    const std::vector<float> before = problem.all_weights();
    Optimiser optimiser = problem.optimiser(kConfigs[1]);
    problem.gradients[2].values[40'000] = bad;
    EXPECT_THAT(error_of([&] { problem.step(optimiser); }),
                HasSubstr("gradient of '(5, 10007)' is not finite"));
    EXPECT_EQ(problem.all_weights(), before);
    EXPECT_EQ(optimiser.steps(), 0);
  }
}

TEST(OptimiserTest, FrozenTensorsStayAndNeedNoGradient) {
  Problem problem;
  problem.parameters[1].frozen = true;
  Optimiser optimiser = problem.optimiser(kConfigs[1]);
  std::vector<TensorView> gradients = Problem::views(problem.gradients);
  gradients[1] = {};
  const std::vector<float> before = problem.weights[1].values;
  const std::vector<float> moved = problem.weights[0].values;
  optimiser.step(Problem::views(problem.weights), gradients, 0.1);
  EXPECT_EQ(problem.weights[1].values, before);
  EXPECT_NE(problem.weights[0].values, moved);
  EXPECT_EQ(optimiser.state().size(), 4u);
}

TEST(OptimiserTest, RateScaleIsAFactorOfTheRate) {
  Problem problem;
  problem.parameters[0].rate_scale = 0;
  Optimiser optimiser = problem.optimiser(kConfigs[0]);
  const std::vector<float> before = problem.weights[0].values;
  problem.step(optimiser);
  EXPECT_EQ(problem.weights[0].values, before);
}

TEST(OptimiserTest, BadOptionsAndOperandsAreErrors) {
  Problem problem;
  const auto make = [&](Optimiser::Config config) {
    return error_of([&] { problem.optimiser(config); });
  };
  EXPECT_THAT(make({.momentum = 1}), HasSubstr("momentum is 1"));
  EXPECT_THAT(make({.beta2 = -1}), HasSubstr("beta2 is -1"));
  EXPECT_THAT(make({.eps = 0}), HasSubstr("eps is 0"));
  EXPECT_THAT(make({.weight_decay = std::nan("")}), HasSubstr("weight decay"));
  EXPECT_THAT(make({.kind = Optimiser::Kind::kSgd, .nesterov = true}), HasSubstr("Nesterov"));
  Optimiser optimiser = problem.optimiser(kConfigs[0]);
  problem.gradients[1].shape = {1020};
  EXPECT_THAT(error_of([&] { problem.step(optimiser); }), HasSubstr("'(1021)' is f32 (1021)"));
  problem.parameters.push_back(problem.parameters.front());
  EXPECT_THAT(make({}), HasSubstr("given twice"));
}

TEST(OptimiserTest, BiasesNormsAndContextsDoNotDecayAndStatisticsAreFrozen) {
  const Graph unet = build_unet({.depth = 1, .base = 2, .norm = Conv::Norm::kAfterRelu}, true);
  std::map<std::string, TrainedParameter> found;
  const std::vector<TensorType> image{{DType::kF32, {1, 44, 44, 1}}};
  for (const TrainedParameter& parameter : trained_parameters(unet, image))
    found.emplace(parameter.name, parameter);
  EXPECT_TRUE(found.at("down0/conv1/weight").decays);
  EXPECT_FALSE(found.at("down0/conv1/bias").decays);
  EXPECT_FALSE(found.at("down0/conv1/norm/weight").decays);
  EXPECT_FALSE(found.at("down0/conv1/norm/weight").frozen);
  EXPECT_TRUE(found.at("down0/conv1/norm/running_var").frozen);

  const Graph han = build_han({.words = 9, .features = 4, .units = 2, .masked = false});
  const std::vector<TensorType> ids{{DType::kI32, {1, 15, 150}}};
  const std::vector<std::string> frozen{"embedding/"};
  found.clear();
  for (const TrainedParameter& parameter : trained_parameters(han, ids, frozen))
    found.emplace(parameter.name, parameter);
  EXPECT_TRUE(found.at("embedding/weight").frozen);
  EXPECT_TRUE(found.at("word/rnn/weight_hh_reverse").decays);
  EXPECT_FALSE(found.at("word/rnn/bias_hh_reverse").decays);
  EXPECT_FALSE(found.at("word/attention/context").decays);
  EXPECT_FALSE(found.at("word/attention/context").frozen);
}

}  // namespace
}  // namespace tessera
