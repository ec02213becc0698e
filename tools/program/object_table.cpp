#include "tools/program/object_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace tessera {

ObjectTable::ObjectTable(const std::filesystem::path& path, ObjectFormat format,
                         const std::vector<ClassInfo>& classes)
    : file_(path, Durability::kPower), format_(format) {
  for (const ClassInfo& one : classes)
    names_.push_back(
        nlohmann::json(one.name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  if (format_ == ObjectFormat::kCsv)
    file_.stream() << "label,class,area,x,y,width,height,centroid_x,centroid_y\n";
}

void ObjectTable::add(const Instance& one) {
  if (format_ == ObjectFormat::kCsv) {
    file_.stream() << fmt::format("{},{},{},{},{},{},{},{},{}\n", one.label, one.class_id, one.area,
                                  one.x, one.y, one.width, one.height, one.centroid_x,
                                  one.centroid_y);
    return;
  }
  constexpr double kMiddle = 0.5;
  file_.stream() << fmt::format(
      R"({{"type":"Feature","id":{},"bbox":[{},{},{},{}],)"
      R"("geometry":{{"type":"Point","coordinates":[{},{}]}},)"
      R"("properties":{{"label":{},"class":{},"classification":{{"name":{}}},"area":{}}}}})"
      "\n",
      one.label, one.x, one.y, one.x + one.width, one.y + one.height, one.centroid_x + kMiddle,
      one.centroid_y + kMiddle, one.label, one.class_id, names_.at(one.class_id), one.area);
}

}  // namespace tessera
