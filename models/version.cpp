#include "models/version.h"

namespace tessera {

std::string program_version() {
  return "tessera " TESSERA_VERSION;
}

}  // namespace tessera
