// What the allocator holds and nobody uses.
#pragma once

namespace tessera {

// Gives it back to the system: a limit of resident memory counts it else.
void return_free_memory();

}  // namespace tessera
