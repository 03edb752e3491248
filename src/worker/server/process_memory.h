/// How a process that does nothing but serve should use the heap.
#pragma once

#include <cstdint>

namespace tempo::worker {

/// Keeps what is freed for the next result instead of giving it back to the system, which would hand out, and zero, new
/// pages for every product: for 16 MiB that costs as much as copying them. The process keeps the most it ever needed.
/// To be called first in `main`.
void keep_freed_memory();

/// Bytes of the machine's memory, for descriptions.
uint64_t machine_memory();

}  // namespace tempo::worker
