// Stands in for the gRPC server where Tempo was built with TEMPO_GRPC=OFF.
#include "tempo/error.h"
#include "worker/server/grpc_server.h"

namespace tempo::worker {

std::unique_ptr<Server> serve_grpc(const std::string&, const ServerOptions&) {
  throw InputError("grpc://: this program was built without gRPC (TEMPO_GRPC=OFF), expected shm://NAME");
}

std::unique_ptr<Server> serve_insecure(const std::string&, const ServerOptions&) {
  throw InputError("insecure://: this program was built without gRPC (TEMPO_GRPC=OFF), expected shm://NAME");
}

}  // namespace tempo::worker
