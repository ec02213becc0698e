// What the peers of all kinds of nodes have in common.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

class Cudnn;
class CublasLt;

// A tensor in memory of the host.
struct HostTensor {
  TensorType type;
  std::vector<std::byte> bytes;

  explicit HostTensor(const TensorType& tensor) : type(tensor), bytes(tensor.bytes()) {}
  TensorView view() { return {bytes.data(), type}; }
};

// A node as a library computes it, with operands of its own in the GPU's memory.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual std::size_t ways() const = 0;
  virtual std::string way(std::size_t i) const = 0;
  // Why way `i` would be no fair peer; empty where it is.
  virtual std::string objection(std::size_t) const { return ""; }
  // From now on by way `i`. Throws Error where the library does not take it.
  virtual void take(std::size_t i) = 0;
  virtual void enqueue() = 0;
  // The node's first output, (n, h, w, c) or (..., t, features), once all work is finished.
  virtual std::vector<float> output() const = 0;

  const std::string& note() const { return note_; }

 protected:
  void add_note(const std::string& text) { note_ += note_.empty() ? text : "; " + text; }

 private:
  std::string note_;
};

// What a peer is made from. The peer keeps none of it but the libraries.
struct PeerSetup {
  std::span<const TensorView> inputs;   // in memory of the host
  std::span<const TensorView> weights;  // f32, in `parameters` order
  Precision precision;
  CudaStream stream;
  const Cudnn* cudnn;
  const CublasLt* cublas;
};

struct Conv;
struct ConvTranspose;
struct BiRnn;
struct Linear;

// Each throws Error, with the reason, where the library computes no such node.
std::unique_ptr<Peer> peer_of(const Conv& op, const PeerSetup& setup);
std::unique_ptr<Peer> peer_of(const BiRnn& op, const PeerSetup& setup);
std::unique_ptr<Peer> peer_of(const Linear& op, const PeerSetup& setup);
std::unique_ptr<Peer> peer_of(const ConvTranspose& op, const PeerSetup& setup);

// Values as they lie in memory, rounded to nearest even.
std::vector<std::byte> stored(const std::vector<float>& values, DType type);
// In memory of the GPU; done when it returns.
DeviceBuffer on_device(const std::vector<std::byte>& bytes);
std::vector<float> from_device(const DeviceBuffer& buffer, const TensorType& type);
// What a library asks for beside the operands: at least so many bytes, kept from way to way.
void grow(DeviceBuffer& workspace, std::size_t bytes);

}  // namespace tessera
