// Tiles against the whole image: the halo that the graph gives is enough, to the byte.
#include <gtest/gtest.h>

#include "engine/graph/tiling.h"
#include "engine/passes/passes.h"
#include "models/networks/unet.h"
#include "models/segmenter.h"
#include "tests/support/network.h"

namespace tessera {
namespace {

using test::RandomWeights;
using test::Tensor;

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

UNetConfig same(UNetConfig::Up up, bool align_corners) {
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
                    TilingCase{"same_direct", same(UNetConfig::Up::kTransposed2, false),
                               DType::kF32, false, 141, 99, 80},
                    TilingCase{"same_winograd", same(UNetConfig::Up::kTransposed2, false),
                               DType::kF32, true, 235, 203, 160},
                    TilingCase{"same_bf16", same(UNetConfig::Up::kTransposed2, false), DType::kBF16,
                               false, 141, 99, 80},
                    TilingCase{"same_bilinear", same(UNetConfig::Up::kBilinear, false), DType::kF32,
                               true, 235, 203, 160}),
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

  const auto runs = [&](std::int64_t size) {
    return unet_output_size(one.config, size).has_value();
  };
  const auto rows = tile_axis(graph, one.height, one.tile, runs);
  const auto columns = tile_axis(graph, one.width, one.tile, runs);
  ASSERT_TRUE(rows.has_value() && columns.has_value());
  EXPECT_GT(rows->size() * columns->size(), 3u) << "a tiling of one tile proves nothing";
  const std::int64_t width = whole.type().shape[2], classes = whole.type().shape[3];
  std::vector<bool> seen(static_cast<std::size_t>(whole.type().shape.elements()), false);
  for (const AxisTile& row : *rows) {
    for (const AxisTile& column : *columns) {
      std::vector<float> window;
      for (std::int64_t y = 0; y < row.input_size; ++y) {
        const auto from = pixels.begin() + (row.input_begin + y) * one.width + column.input_begin;
        window.insert(window.end(), from, from + column.input_size);
      }
      const Tensor tile = test::run_executor(
          executor, {Tensor::of({1, row.input_size, column.input_size, 1}, window)})[1];
      const std::vector<float> values = tile.values();
      for (std::int64_t y = row.keep_begin; y < row.keep_end; ++y) {
        for (std::int64_t x = column.keep_begin; x < column.keep_end; ++x) {
          for (std::int64_t c = 0; c < classes; ++c) {
            const auto at = static_cast<std::size_t>((y * width + x) * classes + c);
            const auto in_tile = static_cast<std::size_t>(
                ((y - row.output_begin) * column.output_size + x - column.output_begin) * classes +
                c);
            ASSERT_EQ(std::bit_cast<std::uint32_t>(values[in_tile]),
                      std::bit_cast<std::uint32_t>(expected[at]))
                << "pixel " << y << ", " << x << " of the tile at " << row.input_begin << ", "
                << column.input_begin;
            EXPECT_FALSE(seen[at]);
            seen[at] = true;
          }
        }
      }
    }
  }
  EXPECT_TRUE(std::ranges::all_of(seen, [](bool one_seen) { return one_seen; }));
}

TEST(Tiling, HaloOfThePapersNetwork) {
  const Graph graph = optimise_for_cpu(build_unet({}, false),
                                       std::vector<TensorType>{{DType::kF32, {1, 188, 188, 1}}},
                                       DType::kF32, false);
  EXPECT_EQ(tile_alignment(graph), 16);
  // A valid network is exact in all that it computes: 92 pixels a side are simply not computed.
  const TileExtent extent = tile_output(graph, 1212, 160, 572);
  EXPECT_EQ(extent.begin, 160);
  EXPECT_EQ(extent.size, 388);
  EXPECT_EQ(extent.exact_begin, 160);
  EXPECT_EQ(extent.exact_end, 548);
}

TEST(Tiling, OneTileWhenEverythingFits) {
  const Graph graph = build_unet({.depth = 1, .base = 4}, false);
  const auto any = [](std::int64_t size) { return size >= 20 && size % 2 == 0; };
  const auto tiles = tile_axis(graph, 40, 100, any);
  ASSERT_TRUE(tiles.has_value());
  ASSERT_EQ(tiles->size(), 1u);
  EXPECT_EQ(tiles->front().keep_end, tiles->front().output_size);
}

TEST(Tiling, TooSmallATileIsRefused) {
  const UNetConfig config{};
  const Graph graph = build_unet(config, false);
  const auto runs = [&](std::int64_t size) { return unet_output_size(config, size).has_value(); };
  EXPECT_FALSE(tile_axis(graph, 1212, 100, runs).has_value());
  EXPECT_TRUE(tile_axis(graph, 1212, 220, runs).has_value());
}

TEST(Tiling, AlignCornersCannotBeTiled) {
  const Graph graph = build_unet(same(UNetConfig::Up::kBilinear, true), false);
  EXPECT_THROW(tile_output(graph, 256, 0, 64), Error);
}

TEST(Tiling, UnalignedWindowsAreRefused) {
  EXPECT_THROW(tile_output(build_unet({}, false), 1212, 8, 572), Error);
}

}  // namespace
}  // namespace tessera
