#include "yardstick.h"

#include <cstring>
#include <ctime>

namespace tempo::bench {
namespace {

contract::Buffer zeros(size_t bytes) {
  const auto elements = static_cast<int64_t>(bytes / sizeof(float));
  contract::Buffer buffer = contract::Buffer::allocate({contract::ElementType::kFloat32, {elements}});
  std::memset(buffer.data(), 0, buffer.bytes());
  return buffer;
}

}  // namespace

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Yardstick::Yardstick(size_t bytes) : from_(zeros(bytes)), to_(zeros(bytes)) {}

void Yardstick::run() {
  const double start = cpu_seconds();
  std::memcpy(to_.data(), from_.data(), from_.bytes());
  benchmark::DoNotOptimize(to_.data());
  benchmark::ClobberMemory();
  seconds_ += cpu_seconds() - start;
  bytes_ += 2 * static_cast<double>(from_.bytes());
}

}  // namespace tempo::bench
