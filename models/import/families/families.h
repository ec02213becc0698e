// The families, each in a file of its name.
#pragma once

#include "models/import/import.h"

namespace tessera {

extern const Family kMilesialFamily, kWzmiaomiaoFamily, kPaperFamily, kAladdinperssonFamily,
    kMateuszbudaFamily, kLeejunhyunFamily, kUsuyamaFamily, kJvanvugtFamily, kDeepresearchFamily,
    kBubbliiiingFamily, kTorchEmFamily, kNucleiBroadFamily, kPytorch3dunetFamily, kSmpFamily,
    kNnunetFamily, kMonaiUnetFamily, kMonaiBasicUnetFamily, kRefusedFamilies;

extern const Family kPaperHanFamily, kSgrvinodFamily, kUvipenFamily, kCediasFamily,
    kJoungheekimFamily;

}  // namespace tessera
