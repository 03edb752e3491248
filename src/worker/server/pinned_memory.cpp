#include "worker/server/pinned_memory.h"

#ifdef TEMPO_CUDA
#include <cuda_runtime_api.h>
#endif

namespace tempo::worker {

#ifdef TEMPO_CUDA

PinnedMemory::PinnedMemory(std::span<std::byte> memory, const std::string& device) {
  if (!device.starts_with("cuda")) return;
  if (cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable) == cudaSuccess)
    pinned_ = memory.data();
  else
    cudaGetLastError();  // or the next product would report it
}

PinnedMemory::~PinnedMemory() {
  if (pinned_ != nullptr) cudaHostUnregister(pinned_);
}

#else

PinnedMemory::PinnedMemory(std::span<std::byte>, const std::string&) {}
PinnedMemory::~PinnedMemory() = default;

#endif

}  // namespace tempo::worker
