// Backward of Embedding on the GPU: ids of one and of several passes of the sort, within one
// segment and over many.
#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaEmbeddingBackward = CudaTest;

TrainCase<Embedding> case_of(int words, int features, Shape shape,
                             const std::function<std::int64_t(std::int64_t)>& id) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < shape.elements(); ++i)
    ids.push_back(static_cast<std::int32_t>(id(i) % words));
  return {{words, features}, {Tensor::of_ids(shape, ids)}, {random({words, features}, 14)}};
}

// The forward run copies. A row's gradient is a sum of `places` terms of order one.
void check(const TrainCase<Embedding>& c, std::int64_t places) {
  check_cuda_backward(c, {.forward = {}, .input = {}, .weight = sum_bound(places + 1)});
}

TEST_F(CudaEmbeddingBackward, AddsEveryPlace) {
  for (const int features : {1, 3, 4, 100, 129, 132}) {
    SCOPED_TRACE(features);
    check(case_of(13, features, {2, 150}, [](std::int64_t i) { return i * i % 11; }), 60);
  }
}

TEST_F(CudaEmbeddingBackward, AroundSegmentsAndUnits) {
  for (const std::int64_t count : {1, 31, 32, 33, 63, 64, 65, 128, 511, 513, 1030}) {
    SCOPED_TRACE(count);
    check(case_of(7, 2, {count}, [](std::int64_t i) { return i * 3 + i / 7; }), count / 7 + 8);
  }
}

// More counts of digits than the block that adds them has threads.
TEST_F(CudaEmbeddingBackward, ManyUnits) {
  check(case_of(300, 1, {2600}, [](std::int64_t i) { return i * i + i / 11; }), 60);
}

TEST_F(CudaEmbeddingBackward, NoPlaces) {
  check(case_of(3, 2, {0, 4}, [](std::int64_t) { return 0; }), 0);
}

TEST_F(CudaEmbeddingBackward, OneIdOverManySegments) {
  // Alone; with others before, behind and among its places.
  check(case_of(1, 5, {700}, [](std::int64_t) { return 0; }), 700);
  check(case_of(9, 8, {1400}, [](std::int64_t i) { return i % 5 == 0 ? i % 9 : 4; }), 1400);
}

TEST_F(CudaEmbeddingBackward, TablesOfEverySize) {
  // 1, 2 and 3 passes of the sort.
  for (const int words : {256, 257, 65536, 70001}) {
    SCOPED_TRACE(words);
    check(case_of(words, 2, {150}, [](std::int64_t i) { return i * 40503 + i % 3 * 255; }), 4);
  }
}

TEST_F(CudaEmbeddingBackward, NanStaysInItsRow) {
  TrainCase<Embedding> c = case_of(5, 3, {100}, [](std::int64_t i) { return i; });
  c.output_gradients = {random({100, 3}, 4)};
  c.output_gradients[0].view().as<float>()[3 * 77 + 1] = NAN;  // of id 2
  CudaBackwardMemory memory{types(c.inputs),    infer(c.op, types(c.inputs)),
                            c.inputs,           c.weights,
                            {Tensor()},         {},
                            c.output_gradients, {Tensor()},
                            {random({5, 3}, 6)}};
  run_cuda_backward([&](const CudaSetup& setup) { return cuda_backward(c.op, setup); }, memory, {});
  const std::vector<float> gradient = memory.weight_gradients[0].values();
  for (std::size_t i = 0; i < gradient.size(); ++i)
    EXPECT_EQ(std::isnan(gradient[i]), i == 2 * 3 + 1) << i;
}

// The host refuses such ids; the forward run reads the nearest row, which gets the gradient.
TEST_F(CudaEmbeddingBackward, AnIdOutsideTheTableCountsAsItsNearestRow) {
  const Embedding op{.words = 3, .features = 2};
  const std::vector<Tensor> inputs{Tensor::of_ids({4}, {-1, 3, 1 << 30, INT32_MIN})};
  const Tensor dy = Tensor::of({4, 2}, {1, 2, 4, 8, 16, 32, 64, 128});
  CudaBackwardMemory memory{types(inputs),
                            infer(op, types(inputs)),
                            inputs,
                            {random({3, 2}, 1)},
                            {Tensor()},
                            {},
                            {dy},
                            {Tensor()},
                            {Tensor::of({3, 2}, {0, 0, 0, 0, 0, 0})}};
  run_cuda_backward([&](const CudaSetup& setup) { return cuda_backward(op, setup); }, memory, {});
  EXPECT_EQ(memory.weight_gradients[0].values(), (std::vector<float>{65, 130, 0, 0, 20, 40}));
}

}  // namespace
}  // namespace tessera::test
