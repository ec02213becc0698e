// Which Tessera this is.
#pragma once

#include <string>

namespace tessera {

std::string program_version();  // "tessera 0.1.0", as each model that is trained names it
// What the file of the program or library is known by that this function lies in; no other build
// has it.
std::string build_digest();

}  // namespace tessera
