// Stands in for the gRPC transport where Tempo was built with TEMPO_GRPC=OFF.
#include "offload/transport/grpc.h"
#include "tempo/error.h"

namespace tempo::offload {

std::shared_ptr<Worker> make_grpc_worker(const std::string&, const std::filesystem::path&, const GrpcOptions&) {
  throw InputError("grpc://: this program was built without gRPC (TEMPO_GRPC=OFF), expected inprocess: or shm://NAME");
}

std::string grpc_expiry_warning(const std::filesystem::path&) { return {}; }

std::shared_ptr<Worker> make_insecure_worker(const std::string&, const GrpcOptions&) {
  throw InputError(
      "insecure://: this program was built without gRPC (TEMPO_GRPC=OFF), expected inprocess: or shm://NAME");
}

}  // namespace tempo::offload
