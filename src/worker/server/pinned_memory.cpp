#include "worker/server/pinned_memory.h"

#ifdef TEMPO_CUDA
#include <cuda_runtime_api.h>

#include "observe/standard_streams.h"
#endif

namespace tempo::worker {

#ifdef TEMPO_CUDA

PinnedMemory::PinnedMemory(std::span<std::byte> memory, const std::string& device) {
  if (!device.starts_with("cuda")) return;
  const cudaError_t status = cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable);
  if (status == cudaSuccess) {
    pinned_ = memory.data();
    return;
  }
  cudaGetLastError();  // or the next product would report it
  observe::note("tempo-worker: a segment of {} bytes could not be pinned ({}): copies to {} are slower\n",
                memory.size(), cudaGetErrorString(status), device);
}

PinnedMemory::~PinnedMemory() {
  if (pinned_ != nullptr) cudaHostUnregister(pinned_);
}

#else

PinnedMemory::PinnedMemory(std::span<std::byte>, const std::string&) {}
PinnedMemory::~PinnedMemory() = default;

#endif

}  // namespace tempo::worker
