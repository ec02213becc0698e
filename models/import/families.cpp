// The table of families: one line each; what they are stands in files of their own.
#include "models/import/families/families.h"
#include "models/import/families/tessera.h"

namespace tessera {

const std::vector<Family>& families() {
  static const std::vector<Family> table = {
      kTesseraFamily,        kPaperHanFamily,
      kSgrvinodFamily,       kUvipenFamily,
      kCediasFamily,         kJoungheekimFamily,
      kMilesialFamily,       kWzmiaomiaoFamily,
      kPaperFamily,          kAladdinperssonFamily,
      kMateuszbudaFamily,    kLeejunhyunFamily,
      kUsuyamaFamily,        kJvanvugtFamily,
      kDeepresearchFamily,   kBubbliiiingFamily,
      kTorchEmFamily,        kNucleiBroadFamily,
      kPytorch3dunetFamily,  kSmpFamily,
      kNnunetFamily,         kMonaiUnetFamily,
      kMonaiBasicUnetFamily, kRefusedFamilies,  // the last, because it
                                                // throws
  };
  return table;
}

}  // namespace tessera
