/// How much memory this process has.
#pragma once

#include <cstdint>

namespace tempo {

/// Bytes of this process that lie in memory now; 0 if the kernel does not say. Cheap enough for once a step.
uint64_t resident_bytes() noexcept;

}  // namespace tempo
