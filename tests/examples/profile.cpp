// Times the nodes of a network and shows the slowest: profile UNET.safetensors
#include <tessera/session.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <vector>

int main(int, char** argv) try {
  const std::vector<std::uint8_t> pixels(256 * 256, 128);
  const tessera::ImageView image{pixels.data(), 256, 256};

  tessera::Session unet = tessera::Session::open(argv[1]);
  unet.segment(image);  // The first run also prepares the network for this size.
  unet.keep_node_times(true);
  unet.segment(image);

  std::vector<tessera::NodeTime> nodes = unet.node_times();
  std::ranges::sort(nodes, std::ranges::greater(), &tessera::NodeTime::seconds);
  double flops = 0;
  for (const tessera::NodeTime& node : nodes) flops += node.flops;
  for (const tessera::NodeTime& node : std::vector(nodes.begin(), nodes.begin() + 3))
    std::printf("%-16s %-16s %8.3f ms %7.1f GFLOP/s\n", node.name.c_str(), node.kind.c_str(),
                1e3 * node.seconds, node.flops / node.seconds / 1e9);
  std::printf("%zu nodes, %.2f GFLOP\n", nodes.size(), flops / 1e9);
} catch (const std::runtime_error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
