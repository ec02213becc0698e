// What training frameworks put around a network: prefixes of its tensors' names.
#pragma once

#include <optional>

#include "models/import/contents.h"

namespace tessera {

// `contents` without the prefix that all of its tensors share, if it is one that wrappers write:
// "module." (DataParallel), "_orig_mod." (torch.compile), "model.", "net.", "network.", "unet."
// (Lightning modules and the like; the weights of losses beside the network are left out, and
// noted). Nothing where there is none. MONAI's own names begin with "model.", so families are tried
// before and after.
std::optional<Contents> without_wrapper(const Contents& contents);

}  // namespace tessera
