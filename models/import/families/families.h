// The families, each in a file of its name.
#pragma once

#include "models/import/import.h"

namespace tessera {

extern const Family kMilesialFamily, kWzmiaomiaoFamily, kPaperFamily;

extern const Family kPaperHanFamily, kSgrvinodFamily, kUvipenFamily, kCediasFamily,
    kJoungheekimFamily;

}  // namespace tessera
