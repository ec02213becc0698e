// A build without CUDA, or configured where the headers of cuDNN and cuBLASLt were not found.
#include "kernels/error.h"
#include "tools/peers/peers.h"

namespace tessera {

struct Peers::State {};

Peers::Peers(Precision, const PeerOptions&) {
  fail(
      "this build cannot run layers beside cuDNN: it was made without CUDA, or without the headers "
      "cudnn.h and cublasLt.h; pip install nvidia-cudnn-cu13, and configure with "
      "-DTESSERA_CUDNN_HEADERS=FOLDER");
}
Peers::~Peers() = default;
std::vector<std::string> Peers::names() const {
  return {};
}
PeerRow Peers::compare(const Node&, Types, std::span<const TensorView>) {
  return {};
}

}  // namespace tessera
