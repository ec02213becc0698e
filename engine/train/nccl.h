// Ranks that each have a GPU hand each other its memory by NVIDIA's NCCL. The library is opened
// when several ranks train on GPUs, so that nobody else needs one: NCCL 2.7 or newer, whose binary
// interface the library's name stands for. The ranks' own means, MPI, bring them together.
//
// NCCL's own sums are not used, because their order is NCCL's: ncclSend and ncclRecv move what the
// device then adds (engine/train/sharing.h), and ncclBroadcast hands out the new weights.
#pragma once

#include "engine/train/transport.h"

namespace tessera {

struct NcclTransport {
  std::shared_ptr<Transport> transport;  // null where it cannot be had on every rank
  std::string what;                      // its name and version, or what is missing on which rank
};

// All ranks call it, and all get one or none does. `library`: its file.
NcclTransport open_nccl(const std::shared_ptr<Queue>& queue, const std::shared_ptr<Ranks>& ranks,
                        const std::string& library);

}  // namespace tessera
