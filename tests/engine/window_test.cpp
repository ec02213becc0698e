// Pieces against the whole, to the byte: of each operator, and of networks.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "engine/graph/window.h"
#include "engine/passes/passes.h"
#include "models/networks/unet.h"
#include "tests/support/network.h"

namespace tessera {
namespace {

using test::RandomWeights;
using test::Tensor;

// Elements [part.begin, part.end) along `axis`.
Tensor slice(const Tensor& from, int axis, Interval part) {
  const Shape& shape = from.type().shape;
  TensorType type = from.type();
  if (shape.rank() <= axis) return from;  // never cut
  type.shape[axis] = part.size();
  Tensor to(type);
  const std::size_t inner =
      size_of(type.dtype) * static_cast<std::size_t>(shape.elements(axis + 1, shape.rank()));
  const auto row = [&](const Tensor& of, std::int64_t outer, std::int64_t i) {
    return of.view().as<std::byte>() +
           static_cast<std::size_t>(outer * of.type().shape[axis] + i) * inner;
  };
  for (std::int64_t outer = 0; outer < shape.elements(0, axis); ++outer)
    std::memcpy(row(to, outer, 0), row(from, outer, part.begin),
                static_cast<std::size_t>(part.size()) * inner);
  return to;
}

// Every interval of each output, made by the part of the operator, from inputs that hold what the
// extent says, and from some that hold more.
template <class Op>
void check_pieces(const Op& op, const std::vector<Tensor>& inputs,
                  const std::vector<Tensor>& weights) {
  const std::vector<Tensor> whole = test::run_cpu(op, inputs, weights, 1);
  std::mt19937 random(7);
  for (const int axis : {1, 2}) {
    const auto read = sizes_along(test::types(inputs), axis);
    const auto made = sizes_along(test::types(whole), axis);
    const Along along{axis, read, made};
    for (std::size_t output = 0; output < whole.size(); ++output) {
      for (std::int64_t begin = 0; begin < made[output]; ++begin) {
        for (std::int64_t end = begin + 1; end <= made[output]; ++end) {
          std::vector<Interval> wanted(whole.size());
          wanted[output] = {begin, end};
          Extent piece = extent(op, along, wanted);
          for (std::size_t i = 0; i < inputs.size(); ++i) {
            ASSERT_TRUE(piece.inputs[i].begin >= 0 && !piece.inputs[i].is_empty() &&
                        piece.inputs[i].end <= read[i]);
            if (end % 2 == 0) continue;
            piece.inputs[i] = clip({piece.inputs[i].begin - static_cast<std::int64_t>(random() % 4),
                                    piece.inputs[i].end + static_cast<std::int64_t>(random() % 4)},
                                   read[i]);
          }
          const Op of_piece = part(op, along, piece);
          std::vector<Tensor> held;
          for (std::size_t i = 0; i < inputs.size(); ++i)
            held.push_back(slice(inputs[i], axis, piece.inputs[i]));
          const Tensor y = test::run_cpu(of_piece, held, weights, 1)[output];
          const Interval have = piece.outputs[output];
          ASSERT_EQ(y.type().shape[axis], have.size());
          ASSERT_TRUE(have.begin <= begin && end <= have.end);
          ASSERT_TRUE(slice(y, axis, {begin - have.begin, end - have.begin})
                          .same_bytes(slice(whole[output], axis, {begin, end})))
              << Op::kName << " [" << begin << ", " << end << ") of " << made[output]
              << " along axis " << axis;
        }
      }
    }
  }
}

template <class Op>
void check_pieces(const Op& op, const std::vector<Shape>& shapes) {
  SCOPED_TRACE(Op::kName);
  std::vector<Tensor> inputs, weights;
  for (const Shape& shape : shapes)
    inputs.push_back(test::random(shape, static_cast<unsigned>(inputs.size()) + 3));
  RandomWeights random;
  for (const Parameter& one : parameters(op, test::types(inputs))) {
    random(one.name, one.shape);
    weights.push_back(random.all().at(one.name));
  }
  check_pieces(op, inputs, weights);
}

TEST(Part, OfElementwiseOperators) {
  const std::vector<Shape> x{{1, 7, 9, 3}};
  check_pieces(Activation{Activation::Kind::kSigmoid}, x);
  check_pieces(Argmax{}, x);
  check_pieces(BatchNorm{}, x);
  check_pieces(Dropout{}, x);
  check_pieces(Head{.classes = 3, .probabilities = true}, x);
  check_pieces(Linear{.units = 5}, x);
  check_pieces(Softmax{}, x);
}

TEST(Part, OfGlobalOperatorsIsEverything) {
  const std::int64_t read[]{6, 1}, made[]{6};
  const Interval wanted[]{{2, 3}};
  const Along along{1, read, made};
  EXPECT_EQ(extent(BiRnn{.units = 2}, along, wanted).inputs[0], (Interval{0, 6}));
  EXPECT_EQ(extent(Attention{.units = 2}, along, wanted).outputs[0], (Interval{0, 6}));
}

TEST(Part, OfConvolutions) {
  for (const Window& window : {same(3), square(3), square(1), square(3, 1, 2), square(5, 2, 3),
                               square(3, 4), Window{{3, 2}, {2, 1}, {1, 3}, {0, 2, 3, 1}},
                               Window{{3, 3}, {1, 1}, {1, 1}, {-1, 0, 1, -2}}}) {
    check_pieces(Conv{.c_out = 3, .window = window}, {{1, 9, 11, 2}});
    check_pieces(Conv{.c_out = 4, .window = window, .groups = 2, .norm = Conv::Norm::kAfterRelu},
                 {{1, 9, 11, 4}});
    check_pieces(Conv{.c_out = 4, .window = window, .groups = 4}, {{1, 9, 11, 4}});
  }
}

TEST(Part, OfConvolutionsWithAResidual) {
  Conv op{.c_out = 16, .window = same(3)};
  op.epilogue.residual = true;
  op.epilogue.activation = Activation{Activation::Kind::kLeakyRelu};
  check_pieces(op, {{1, 9, 11, 2}, {1, 9, 11, 16}});
  op.pool = true;
  check_pieces(op, {{1, 9, 13, 2}, {1, 9, 13, 16}});
  op.epilogue.residual = false, op.technique = Conv::Technique::kWinograd;
  check_pieces(op, {{1, 9, 13, 16}});
  op = {.c_out = 3, .window = square(3, 1, 2), .concat = CropConcat{CropConcat::Align::kEqual}};
  op.epilogue.residual = true;
  check_pieces(op, {{1, 9, 11, 2}, {1, 9, 11, 3}, {1, 5, 6, 3}});
}

TEST(Part, OfConvolutionsThatPool) {
  for (const std::int64_t h : {6, 9}) {
    check_pieces(Conv{.c_out = 3, .window = same(3), .relu = true, .pool = true}, {{1, h, 11, 2}});
    check_pieces(
        Conv{.c_out = 16, .window = same(3), .pool = true, .technique = Conv::Technique::kWinograd},
        {{1, h, 13, 16}});
  }
}

TEST(Part, OfWinogradConvolutions) {
  for (const Window& window : {same(3), square(3), square(3, 2)})
    check_pieces(Conv{.c_out = 16, .window = window, .technique = Conv::Technique::kWinograd},
                 {{1, 11, 14, 16}});
}

TEST(Part, OfConcats) {
  using Align = CropConcat::Align;
  check_pieces(CropConcat{Align::kEqual}, {{1, 6, 5, 2}, {1, 6, 5, 3}});
  for (const bool first : {true, false}) {
    check_pieces(CropConcat{Align::kCropSkip, first}, {{1, 11, 8, 2}, {1, 6, 5, 3}});
    check_pieces(CropConcat{Align::kPadUp, first}, {{1, 11, 8, 2}, {1, 4, 5, 3}});
    for (const Align align : {Align::kCropSkip, Align::kPadUp}) {
      check_pieces(Conv{.c_out = 3, .window = same(3), .concat = CropConcat{align, first}},
                   {{1, 11, 8, 2}, {1, 6, 5, 3}});
      check_pieces(Conv{.c_out = 16,
                        .window = same(3),
                        .concat = CropConcat{align, first},
                        .technique = Conv::Technique::kWinograd},
                   {{1, 13, 9, 16}, {1, 10, 6, 16}});
    }
  }
}

TEST(Part, OfPoolsAndUpSampling) {
  for (const std::int64_t h : {2, 7, 10}) {
    check_pieces(MaxPool{}, {{1, h, 9, 3}});
    check_pieces(ConvTranspose{.c_out = 3, .kernel = 2}, {{1, h, 5, 2}});
    check_pieces(ConvTranspose{.c_out = 3, .kernel = 3}, {{1, h, 5, 2}});
    check_pieces(Upsample{false}, {{1, h, 5, 3}});
    check_pieces(Upsample{true}, {{1, h, 5, 3}});
  }
}

TEST(Part, OfTransposedConvolutions) {
  for (const Window& window : {square(4, 1, 2), square(3, 1, 3), square(2, 0, 4), square(3, 2),
                               Window{{3, 2}, {2, 1}, {1, 3}, {0, -1, 1, 2}}}) {
    for (const int groups : {1, 2})
      check_pieces(ConvTranspose{.c_out = 4, .kernel = 0, .window = window, .groups = groups},
                   {{1, 6, 7, 2}});
  }
}

TEST(Part, OfGeneralPools) {
  for (const Window& window : {square(3, 1, 2), square(2, 0, 2), square(3, 1), square(3, 0, 4),
                               Window{{3, 2}, {2, 1}, {1, 2}, {1, 2, 0, 1}}}) {
    for (const bool ceil : {false, true}) {
      check_pieces(MaxPool{.window = window, .ceil_mode = ceil}, {{1, 10, 11, 3}});
      for (const bool count : {false, true})
        check_pieces(AvgPool{.window = window, .ceil_mode = ceil, .count_include_pad = count},
                     {{1, 10, 11, 3}});
    }
  }
}

TEST(Part, OfResizing) {
  using Coordinates = Resize::Coordinates;
  for (const Resize::Mode mode :
       {Resize::Mode::kNearest, Resize::Mode::kLinear, Resize::Mode::kCubic}) {
    for (const Coordinates coordinates : {Coordinates::kHalfPixel, Coordinates::kPytorchHalfPixel,
                                          Coordinates::kAlignCorners, Coordinates::kAsymmetric}) {
      Resize op{.mode = mode, .coordinates = coordinates, .scale_h = 2, .scale_w = 0.7};
      check_pieces(op, {{1, 5, 11, 2}});
      op.sizes = {12, 9};
      check_pieces(op, {{1, 5, 11, 2}});
      check_pieces(op, {{1, 5, 11, 2}, {1, 13, 8, 1}});
    }
  }
}

TEST(Part, OfPadsAndSlices) {
  for (const Pad::Mode mode : {Pad::Mode::kConstant, Pad::Mode::kReflect, Pad::Mode::kEdge}) {
    check_pieces(Pad{.mode = mode, .pads = {0, 3, 2, 0, 0, 4, 5, 0}, .value = 2}, {{1, 6, 7, 2}});
    check_pieces(Pad{.mode = mode, .pads = {0, -2, 1, 0, 0, 4, -3, 0}}, {{1, 6, 7, 2}});
  }
  check_pieces(Slice{.starts = {1, -9}, .ends = {100, -1}, .axes = {1, 2}, .steps = {2, 3}},
               {{1, 8, 10, 2}});
  check_pieces(Slice{.starts = {1}, .ends = {3}, .axes = {-1}, .steps = {}}, {{1, 6, 5, 4}});
  check_pieces(Slice{.starts = {-1}, .ends = {-100}, .axes = {1}, .steps = {-1}}, {{1, 6, 5, 4}});
}

TEST(Part, OfMapsThatAreJoined) {
  for (const int axis : {1, 2, 3, -1, -3})
    check_pieces(Concat{axis}, {{1, 6, 7, 2}, {1, 6, 7, 2}, {1, 6, 7, 2}});
  check_pieces(Binary{}, {{1, 6, 7, 2}, {1, 6, 7, 2}});
  check_pieces(Binary{Binary::Kind::kMul}, {{1, 6, 7, 2}, {1, 1, 7, 1}});
  check_pieces(Binary{Binary::Kind::kMul}, {{2}, {1, 6, 7, 2}});
  for (const std::vector<int>& constant : {std::vector{2}, {1, 1, 2}, {7, 1}, {1, 6, 1, 2}})
    check_pieces(Binary{.kind = Binary::Kind::kSub, .constant = constant}, {{1, 6, 7, 2}});
}

TEST(Part, OfNormsReductionsAndOtherShapes) {
  check_pieces(GroupNorm{}, {{1, 5, 6, 4}});
  check_pieces(LayerNorm{}, {{1, 5, 6, 4}});
  check_pieces(Reduce{.axes = {1, 2}}, {{1, 5, 6, 4}});
  check_pieces(Reduce{.axes = {-3}}, {{1, 5, 6, 4}});
  check_pieces(Reduce{.axes = {3}}, {{1, 5, 6, 4}});
  check_pieces(Transpose{.order = {0, 2, 1, 3}}, {{1, 5, 6, 4}});
}

struct TilingCase {
  const char* name;
  UNetConfig config;
  DType precision;
  bool winograd;
  std::int64_t height, width;  // of the network's input
  std::int64_t tile;
};

void PrintTo(const TilingCase& one, std::ostream* out) {
  *out << one.name;
}

class Tiling : public testing::TestWithParam<TilingCase> {};

UNetConfig same_unet(UNetConfig::Up up, bool align_corners) {
  return {.depth = 2,
          .base = 32,
          .padding = UNetConfig::Padding::kSame,
          .up = up,
          .align_corners = align_corners};
}

const UNetConfig kValid{.depth = 2, .base = 32};
const UNetConfig kTutorial{.depth = 2,
                           .base = 32,
                           .norm = Conv::Norm::kAfterRelu,
                           .up = UNetConfig::Up::kTransposed3,
                           .skip_first = false,
                           .head = UNetConfig::HeadKind::kConv3};

INSTANTIATE_TEST_SUITE_P(
    Networks, Tiling,
    testing::Values(TilingCase{"valid_direct", kValid, DType::kF32, false, 140, 188, 84},
                    TilingCase{"valid_winograd", kValid, DType::kF32, true, 252, 204, 172},
                    TilingCase{"valid_bf16", kValid, DType::kBF16, false, 140, 188, 84},
                    TilingCase{"tutorial_direct", kTutorial, DType::kF32, false, 140, 124, 92},
                    TilingCase{"tutorial_winograd", kTutorial, DType::kF32, true, 236, 204, 172},
                    TilingCase{"same_direct", same_unet(UNetConfig::Up::kTransposed2, false),
                               DType::kF32, false, 141, 99, 80},
                    TilingCase{"same_winograd", same_unet(UNetConfig::Up::kTransposed2, false),
                               DType::kF32, true, 235, 203, 160},
                    TilingCase{"same_bf16", same_unet(UNetConfig::Up::kTransposed2, false),
                               DType::kBF16, false, 141, 99, 80},
                    TilingCase{"same_aligned", same_unet(UNetConfig::Up::kBilinear, true),
                               DType::kF32, true, 235, 203, 160},
                    TilingCase{"same_aligned_bf16", same_unet(UNetConfig::Up::kBilinear, true),
                               DType::kBF16, false, 141, 99, 80},
                    TilingCase{"same_bilinear", same_unet(UNetConfig::Up::kBilinear, false),
                               DType::kF32, true, 235, 203, 160}),
    testing::PrintToStringParamName());

TEST_P(Tiling, TiledEqualsUntiledToTheByte) {
  const TilingCase& one = GetParam();
  const Tensor image = test::random({1, one.height, one.width, 1}, 11);
  const std::vector<TensorType> whole_type{image.type()};
  RandomWeights weights;
  const Graph graph =
      optimise_for_cpu(build_unet(one.config, true), whole_type, one.precision, one.winograd);
  Executor executor(graph, weights.source(), whole_type, open_cpu_device(2));
  const Tensor whole = test::run_executor(executor, {image})[1];
  const std::vector<float> expected = whole.values(), pixels = image.values();

  const std::vector<TensorType> types = infer_types(graph, whole_type);
  const auto row_sizes = sizes_along(types, 1), column_sizes = sizes_along(types, 2);
  const std::int64_t height = whole.type().shape[1], width = whole.type().shape[2],
                     classes = whole.type().shape[3];
  std::vector<int> seen(static_cast<std::size_t>(height * width), 0);
  const auto check = [&](const AxisPiece& row, const AxisPiece& column) {
    const Interval from_y = row.input(graph), from_x = column.input(graph);
    std::vector<float> pixels_read;
    for (std::int64_t y = from_y.begin; y < from_y.end; ++y) {
      const auto from = pixels.begin() + y * one.width;
      pixels_read.insert(pixels_read.end(), from + from_x.begin, from + from_x.end);
    }
    const Tensor input = Tensor::of({1, from_y.size(), from_x.size(), 1}, pixels_read);
    const Graph piece = piece_of(graph, row, column);
    const std::vector<TensorType> made = infer_types(piece, std::vector{input.type()});
    std::vector<Tensor> outputs;
    for (const ValueId value : graph.outputs) outputs.emplace_back(made[value]);
    executor.run(piece, std::vector{input.view()}, test::views(outputs));
    const std::vector<float> values = outputs[1].values();
    const Interval to_y = row.output(graph), to_x = column.output(graph);
    for (std::int64_t y = row.wanted.begin; y < row.wanted.end; ++y) {
      for (std::int64_t x = column.wanted.begin; x < column.wanted.end; ++x) {
        ++seen[static_cast<std::size_t>(y * width + x)];
        for (std::int64_t c = 0; c < classes; ++c) {
          const auto at = static_cast<std::size_t>((y * width + x) * classes + c);
          const auto in_tile = static_cast<std::size_t>(
              ((y - to_y.begin) * to_x.size() + x - to_x.begin) * classes + c);
          ASSERT_EQ(std::bit_cast<std::uint32_t>(values[in_tile]),
                    std::bit_cast<std::uint32_t>(expected[at]))
              << "pixel " << y << ", " << x << " of rows [" << row.wanted.begin << ", "
              << row.wanted.end << "), columns [" << column.wanted.begin << ", "
              << column.wanted.end << ")";
        }
      }
    }
  };
  const auto rows = cut(graph, 1, types, height, one.tile);
  const auto columns = cut(graph, 2, types, width, one.tile);
  EXPECT_GT(rows.size() * columns.size(), 3u) << "a tiling of one tile proves nothing";
  for (const AxisPiece& row : rows) {
    EXPECT_LE(row.input(graph).size(), one.tile);
    for (const AxisPiece& column : columns) ASSERT_NO_FATAL_FAILURE(check(row, column));
  }
  EXPECT_TRUE(std::ranges::all_of(seen, [](int times) { return times == 1; }));

  std::mt19937 random(3);
  const auto any = [&](int axis, std::span<const std::int64_t> sizes, std::int64_t size) {
    const auto begin = static_cast<std::int64_t>(random()) % size;
    const auto most = std::min<std::int64_t>(size - begin, 30);
    return window(graph, axis, sizes,
                  {begin, begin + 1 + static_cast<std::int64_t>(random()) % most});
  };
  for (int i = 0; i < 12; ++i)
    ASSERT_NO_FATAL_FAILURE(check(any(1, row_sizes, height), any(2, column_sizes, width)));
}

// The paper's network, direct, of 1212 pixels.
struct PapersNetwork {
  Graph graph = optimise_for_cpu(build_unet({}, false),
                                 std::vector<TensorType>{{DType::kF32, {1, 188, 188, 1}}},
                                 DType::kF32, false);
  std::vector<TensorType> types =
      infer_types(graph, std::vector<TensorType>{{DType::kF32, {1, 1212, 1212, 1}}});
  std::vector<std::int64_t> sizes = sizes_along(types, 1);
};

TEST(Window, OfThePapersNetwork) {
  const PapersNetwork paper;
  // A tile of 572 pixels gives 388, as in the paper.
  const AxisPiece piece = window(paper.graph, 1, paper.sizes, {160, 548});
  EXPECT_EQ(piece.input(paper.graph), (Interval{160, 732}));
  EXPECT_EQ(piece.output(paper.graph), (Interval{160, 548}));
  // The least image that gives pixels has 188, too: 4 of them, which pools do not tell apart.
  EXPECT_EQ(receptive_field(paper.graph, 1, paper.sizes), 188);
}

TEST(Window, PiecesBetweenTheEndsHaveOneShape) {
  const PapersNetwork paper;
  const auto pieces = cut(paper.graph, 1, paper.types, 1028, 300);
  ASSERT_GT(pieces.size(), 5u);
  for (const AxisPiece& piece : pieces) EXPECT_LE(piece.input(paper.graph).size(), 300);
  const auto ops = [&](const AxisPiece& piece) {
    std::vector<Op> list;
    for (const Node& node : piece_of(paper.graph, piece, pieces[2]).nodes) list.push_back(node.op);
    return list;
  };
  EXPECT_EQ(ops(pieces[1]), ops(pieces[2]));
  EXPECT_EQ(ops(pieces[1]), ops(pieces[3]));
}

TEST(Window, WherePiecesDoNotFitTheLeastThatDoIsKnown) {
  const PapersNetwork paper;
  const std::int64_t least = least_cut(paper.graph, 1, paper.types, 1028);
  EXPECT_GT(least, 188);
  EXPECT_TRUE(cut(paper.graph, 1, paper.types, 1028, least - 1).empty());
  EXPECT_FALSE(cut(paper.graph, 1, paper.types, 1028, least).empty());
}

}  // namespace
}  // namespace tessera
