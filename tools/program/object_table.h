// The objects of one mask as a file that is written object by object: CSV, or GeoJSON with a
// feature in each line, as programs for slides and maps read it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/files/atomic_file.h"
#include "models/image/instances.h"
#include "models/session.h"

namespace tessera {

enum class ObjectFormat { kCsv, kGeoJson };

class ObjectTable {
 public:
  // Appears with commit(). `classes` give a feature its class's name, by id.
  ObjectTable(const std::filesystem::path& path, ObjectFormat format,
              const std::vector<ClassInfo>& classes);

  // A line of CSV has Instance's members, a feature the centroid as its point. In GeoJSON a pixel
  // reaches from its number to the next one, so that its middle lies at a half, and "bbox" is left,
  // top, right and bottom edge.
  void add(const Instance& object);
  void commit() { file_.commit(); }

 private:
  AtomicFile file_;
  ObjectFormat format_;
  std::vector<std::string> names_;  // of classes, as JSON
};

}  // namespace tessera
