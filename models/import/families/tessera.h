// Our own exports among the families.
#pragma once

#include "models/import/import.h"

namespace tessera {

extern const Family kTesseraFamily;

}  // namespace tessera
