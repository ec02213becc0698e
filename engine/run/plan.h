// Where every intermediate tensor lives: offsets in one arena, from first and last use alone.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tessera {

// Something that needs memory from step `first` to step `last`, both included.
struct PlanBuffer {
  std::string name;
  std::size_t bytes = 0;
  std::size_t first = 0;
  std::size_t last = 0;
  std::size_t offset = 0;  // made by `make_plan`; a multiple of kPlanAlignment
};

inline constexpr std::size_t kPlanAlignment = 64;

struct Plan {
  std::vector<PlanBuffer> buffers;  // in the order given
  std::size_t peak = 0;             // bytes of the arena

  // Bytes that are live at once in the worst step: no placement can need less.
  std::size_t lower_bound() const;
  // One line per buffer: offset, size, life, name; then the peak.
  std::string memory_map() const;
};

// Places the buffers, largest first, each at the lowest offset that is free during its life. A pure
// function: equal buffers give an equal plan.
Plan make_plan(std::vector<PlanBuffer> buffers);

}  // namespace tessera
