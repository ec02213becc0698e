// `tessera export`.
#pragma once

#include "tools/program/program.h"

namespace tessera {

Verb make_export_verb(CLI::App& program);

}  // namespace tessera
