// Which Tessera this is.
#pragma once

#include <string>

namespace tessera {

std::string program_version();  // "tessera 0.1.0", as each model that is trained names it

}  // namespace tessera
