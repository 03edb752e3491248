#include "obfuscation/scratch.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>
#include <memory>

#include "tempo/error.h"

namespace tempo::obfuscation {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

struct Scratch {
  std::unique_ptr<std::byte, Free> memory;
  size_t bytes = 0;
};

}  // namespace

std::byte* thread_scratch(size_t bytes) {
  thread_local Scratch scratch;
  if (bytes <= scratch.bytes) return scratch.memory.get();
  scratch = {};  // freed before allocating anew: both at once might not fit
  const size_t alignment = bytes < kHugePage ? kLine : kHugePage;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  scratch.memory.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, rounded)));
  if (!scratch.memory) throw RunError(fmt::format("blind: no memory for {} bytes of scratch", rounded));
  // Only a hint: row rounds jump from row to row, and with small pages would wait for address translation.
  if (alignment == kHugePage) static_cast<void>(madvise(scratch.memory.get(), rounded, MADV_HUGEPAGE));
  scratch.bytes = rounded;
  return scratch.memory.get();
}

Tickets::Tickets(int count) {
  for (int i = count; i > 0; --i) free_.push_back(static_cast<size_t>(i - 1));
}

Tickets::Held::Held(Tickets& from) : from_(from) {
  const std::lock_guard lock(from_.mutex_);
  number_ = from_.free_.back();
  from_.free_.pop_back();
}

Tickets::Held::~Held() {
  const std::lock_guard lock(from_.mutex_);
  from_.free_.push_back(number_);
}

}  // namespace tempo::obfuscation
