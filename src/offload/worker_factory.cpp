#include "offload/worker_factory.h"

#include <fmt/format.h>

#include "offload/transport/inprocess.h"
#include "offload/transport/shm.h"
#include "tempo/error.h"
#include "worker/executor.h"

namespace tempo::offload {

std::shared_ptr<Worker> make_worker(const std::string& uri, int threads) {
  constexpr std::string_view kInprocess = "inprocess:";
  if (uri.starts_with(kInprocess)) {
    const std::string device = uri.substr(kInprocess.size());
    return make_inprocess_worker(device.empty() ? worker::Executor::default_device() : device, threads);
  }
  constexpr std::string_view kShm = "shm://";
  if (uri.starts_with(kShm)) return make_shm_worker(uri.substr(kShm.size()));
  throw InputError(fmt::format("workers: got \"{}\", expected local, inprocess:, inprocess:DEVICE or shm://NAME", uri));
}

}  // namespace tempo::offload
