// Stands in where a build has no CUDA.
#include "worker/device_queues.h"

namespace tempo::worker {

std::unique_ptr<DeviceQueues> make_device_queues(const at::Device&) { return nullptr; }

}  // namespace tempo::worker
