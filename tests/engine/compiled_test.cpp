// One Compiled under many threads: each with its Executor, the bytes of one thread, no weight
// twice.
#include "engine/run/compiled.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <thread>

#include "engine/passes/passes.h"
#include "tests/support/network.h"

namespace tessera {
namespace {

using test::RandomWeights;
using test::Tensor;
using Inputs = std::vector<Tensor>;

std::shared_ptr<const Compiled> compile(const Graph& graph, RandomWeights& weights,
                                        const Inputs& example,
                                        Precision precision = Precision::kFp32) {
  const std::shared_ptr<Device> device = open_cpu_device(2, precision);
  const std::vector<TensorType> types = test::types(example);
  return std::make_shared<Compiled>(device->optimise(graph, types, true), weights.source(), types,
                                    device);
}

// Images of several sizes that `config` takes.
std::vector<Inputs> images(const UNetConfig& config) {
  std::vector<Inputs> list;
  for (const auto& [count, height, width] : {std::array<std::int64_t, 3>{1, 32, 48},
                                             {2, 16, 64},
                                             {1, 48, 32},
                                             {3, 16, 16},
                                             {1, 64, 16},
                                             {1, 80, 32}})
    list.push_back({test::random({count, height, width, config.channels},
                                 static_cast<unsigned>(height + width + count))});
  return list;
}

// Documents of several sizes; each list begins with words that the others do not have.
std::vector<Inputs> documents(const HanConfig& config) {
  std::vector<Inputs> list;
  for (std::int32_t i = 0; i < 6; ++i) {
    const std::int32_t count = 1 + i % 3, sentences = 1 + i % 4, words = 3 + i;
    std::vector<std::int32_t> ids, word_counts, sentence_counts;
    for (std::int32_t document = 0; document < count; ++document) {
      sentence_counts.push_back(1 + (document + i) % sentences);
      for (std::int32_t sentence = 0; sentence < sentences; ++sentence) {
        const bool exists = sentence < sentence_counts.back();
        word_counts.push_back(exists ? 1 + (sentence + document) % words : 0);
        for (std::int32_t word = 0; word < words; ++word) {
          const std::int32_t id = (i * 11 + document * 7 + sentence * 5 + word * 3) % config.words;
          ids.push_back(word < word_counts.back() ? id : 0);
        }
      }
    }
    Inputs inputs{Tensor::of_ids({count, sentences, words}, ids)};
    if (config.masked) {
      inputs.push_back(Tensor::of_ids({count, sentences}, word_counts));
      inputs.push_back(Tensor::of_ids({count}, sentence_counts));
    }
    list.push_back(std::move(inputs));
  }
  return list;
}

// Four threads at once, each with all inputs in an order of its own, against a Compiled that one
// thread runs.
void expect_bytes_of_one_thread(const Graph& graph, const std::vector<Inputs>& inputs,
                                Precision precision = Precision::kFp32) {
  RandomWeights weights;
  std::vector<std::vector<Tensor>> expected;
  Executor alone(compile(graph, weights, inputs[0], precision), 1);
  for (const Inputs& one : inputs) expected.push_back(test::run_executor(alone, one));

  const std::shared_ptr<const Compiled> shared = compile(graph, weights, inputs[0], precision);
  constexpr std::size_t kThreads = 4;
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      Executor executor(shared, thread % 2 == 0 ? 2 : 1);
      for (std::size_t step = 0; step < 2 * inputs.size(); ++step) {
        const std::size_t i = (step + thread * 2) % inputs.size();
        const std::vector<Tensor> got = test::run_executor(executor, inputs[i]);
        for (std::size_t output = 0; output < got.size(); ++output)
          EXPECT_TRUE(got[output].same_bytes(expected[i][output])) << "inputs " << i;
      }
      EXPECT_GT(shared->arena_bytes(), 0u);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shared->packed().bytes(), alone.compiled().packed().bytes()) << "packed once for all";
  EXPECT_EQ(shared->arena_bytes(), 0u) << "of Executors that are gone";
}

// Bytes of packed weights after each of the inputs, on an Executor for all and on one for each.
void expect_one_packing(const Graph& graph, const std::vector<Inputs>& inputs,
                        Precision precision = Precision::kFp32) {
  RandomWeights weights;
  const std::shared_ptr<const Compiled> compiled = compile(graph, weights, inputs[0], precision);
  EXPECT_EQ(compiled->packed().bytes(), 0u);
  Executor executor(compiled, 2);
  executor.plan(test::types(inputs[0]));
  const std::size_t bytes = compiled->packed().bytes();
  EXPECT_GT(bytes, 0u);
  for (const Inputs& one : inputs) {
    test::run_executor(executor, one);
    Executor(compiled, 1).plan(test::types(one));
    EXPECT_EQ(compiled->packed().bytes(), bytes);
  }
}

const UNetConfig kUNet{.depth = 2, .base = 16, .padding = UNetConfig::Padding::kSame};

TEST(Compiled, OfImagesGivesFourThreadsTheBytesOfOne) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    SCOPED_TRACE(name_of(precision));
    expect_bytes_of_one_thread(build_unet(kUNet, true), images(kUNet), precision);
  }
}

TEST(Compiled, OfDocumentsGivesFourThreadsTheBytesOfOne) {
  for (const test::HanVariant& variant : test::han_variants()) {
    SCOPED_TRACE(variant.name);
    expect_bytes_of_one_thread(build_han(variant.config), documents(variant.config));
  }
}

TEST(Compiled, OtherShapesPackNothing) {
  for (const test::UNetVariant& variant : test::unet_variants()) {
    SCOPED_TRACE(variant.name);
    const UNetConfig& config = variant.config;
    const std::int64_t h = variant.height, w = variant.width;
    const std::vector<Inputs> inputs{{test::random({1, h, w, config.channels}, 1)},
                                     {test::random({5, h, w, config.channels}, 2)},
                                     {test::random({1, w, h, config.channels}, 3)}};
    expect_one_packing(build_unet(config, true), inputs);
    expect_one_packing(build_unet(config, true), inputs, Precision::kBf16);
  }
  for (const test::HanVariant& variant : test::han_variants()) {
    SCOPED_TRACE(variant.name);
    expect_one_packing(build_han(variant.config), documents(variant.config));
  }
}

TEST(Compiled, NodesOfOneNameHaveWeightsOfTheirOwn) {
  Graph graph;
  ValueId x = graph.add_input("image");
  const Window same = square(3, 1);
  x = graph.add("twin", Conv{.c_out = 4, .window = same}, {x});
  x = graph.add("twin", Conv{.c_out = 40, .window = same}, {x});
  graph.outputs = {x};
  const Inputs input{test::random({1, 6, 7, 3}, 1)};
  // By shape, since the names are one.
  std::map<std::string, Tensor> made;
  const WeightSource weights = [&](const std::string& name, const Shape& shape) {
    const std::string key = name + shape.to_string();
    if (!made.contains(key)) made[key] = test::random(shape, static_cast<unsigned>(made.size()));
    return made[key].view();
  };
  const std::vector<Tensor> expected = test::run_graph_reference(graph, weights, input);
  Executor executor(graph, weights, test::types(input), open_cpu_device(1));
  test::expect_close(test::run_executor(executor, input)[0], expected[0], {1e-4, 0});
}

}  // namespace
}  // namespace tessera
