/// How a process that does nothing but serve should use the heap.
#pragma once

#include <cstdint>

namespace tempo::worker {

/// Keeps what is freed for the next result instead of giving it back to the system, which would hand out, and zero, new
/// pages for every product: for 16 MiB that costs as much as copying them. The process keeps the most it ever needed,
/// until `give_back_freed_memory`. To be called first in `main`.
void keep_freed_memory();

/// Gives all that is free back to the system: for when a master has left, whose operands nobody needs any more.
void give_back_freed_memory() noexcept;

/// Bytes of the machine's memory, for descriptions.
uint64_t machine_memory();

}  // namespace tempo::worker
