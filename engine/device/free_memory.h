// What the allocator holds and nobody uses.
#pragma once

namespace tessera {

// Gives it back to the system: a limit of resident memory counts it else.
void return_free_memory();

// Blocks of a MiB and more that are freed from now on go back at once: the allocator would keep
// those of up to 32 MiB, in a heap for each thread.
void return_large_blocks_at_once();

}  // namespace tessera
