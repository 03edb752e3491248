/// Memory that a GPU may read by itself, for as long as this lives.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace tempo::worker {

class PinnedMemory {
 public:
  /// Pins for "cuda:N"; all of it comes into being then. Does nothing for "cpu", in a build without CUDA, or where the
  /// driver refuses: copies to the GPU are slower then, and right.
  PinnedMemory(std::span<std::byte> memory, const std::string& device);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

 private:
  std::byte* pinned_ = nullptr;
};

}  // namespace tempo::worker
