#include "offload/worker_factory.h"

#include <fmt/format.h>

#include "offload/transport/grpc.h"
#include "offload/transport/inprocess.h"
#include "offload/transport/shm.h"
#include "tempo/error.h"
#include "worker/executor.h"

namespace tempo::offload {

std::shared_ptr<Worker> make_worker(const std::string& uri, int threads, const std::string& tls_folder) {
  if (uri.find(',') != std::string::npos)
    throw InputError(fmt::format("workers: got several (\"{}\"), expected one: several are not there yet", uri));
  constexpr std::string_view kInprocess = "inprocess:";
  if (uri.starts_with(kInprocess)) {
    const std::string device = uri.substr(kInprocess.size());
    return make_inprocess_worker(device.empty() ? worker::Executor::default_device() : device, threads);
  }
  constexpr std::string_view kShm = "shm://";
  if (uri.starts_with(kShm)) return make_shm_worker(uri.substr(kShm.size()));
  constexpr std::string_view kGrpc = "grpc://", kInsecure = "insecure://";
  if (uri.starts_with(kGrpc)) return make_grpc_worker(uri.substr(kGrpc.size()), tls_folder);
  if (uri.starts_with(kInsecure)) return make_insecure_worker(uri.substr(kInsecure.size()));
  throw InputError(
      fmt::format("workers: got \"{}\", expected local, inprocess:, inprocess:DEVICE, shm://NAME, "
                  "grpc://HOST:PORT or insecure://HOST:PORT",
                  uri));
}

}  // namespace tempo::offload
