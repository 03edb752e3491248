#include "offload/transport/grpc.h"

#include <fmt/format.h>

#include <thread>

#include "base/cpu_time.h"
#include "offload/transport/grpc_connection.h"
#include "tempo/error.h"
#include "wire/certificates.h"
#include "wire/host_port.h"
#include "wire/tls_diagnosis.h"
#include "wire/tls_folder.h"

namespace tempo::offload {
namespace {

class GrpcWorker final : public Worker {
 public:
  GrpcWorker(const std::string& uri, const std::shared_ptr<grpc::Channel>& channel, const GrpcOptions& options)
      : connection_(uri, channel, options), receiving_([this] {
          name_this_thread("tempo-grpc");
          connection_.receive_all();
        }) {}

  ~GrpcWorker() override {
    connection_.close();
    receiving_.join();
  }

  WorkerDescription describe() override {
    const wire::Welcome& welcome = connection_.welcome();
    return {.name = connection_.uri(),
            .device = welcome.device,
            .version = welcome.version,
            .memory_bytes = welcome.memory_bytes,
            .collective = welcome.collective};
  }
  Buffer allocate(const TensorSpec& spec) override { return Buffer::allocate(spec); }
  void put(OperandId id, Buffer operand) override { connection_.put(id, operand); }
  void free(std::vector<OperandId> ids) override { connection_.free(std::move(ids)); }
  std::future<Buffer> submit(Operation operation) override { return connection_.submit(std::move(operation)); }

 private:
  GrpcConnection connection_;
  std::thread receiving_;  // last: it uses the connection
};

grpc::ChannelArguments arguments_of(const GrpcOptions& options) {
  grpc::ChannelArguments arguments;
  const auto keepalive = static_cast<int>(options.keepalive.count());
  arguments.SetMaxReceiveMessageSize(static_cast<int>(wire::kMaxFrameBytes));
  arguments.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);  // nothing is unpacked before its size is checked
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // one connection for each worker
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  return arguments;
}

std::shared_ptr<Worker> connect(const std::string& scheme, const std::string& host_port,
                                const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                const GrpcOptions& options) {
  wire::quiet_grpc();
  const std::string address = wire::to_string(wire::parse_host_port(host_port));
  const auto channel = grpc::CreateCustomChannel("dns:///" + address, credentials, arguments_of(options));
  return std::make_shared<GrpcWorker>(fmt::format("{}://{}", scheme, address), channel, options);
}

}  // namespace

std::string grpc_expiry_warning(const std::filesystem::path& tls_folder) {
  return wire::expiry_warning(wire::load_tls_identity(tls_folder, "master"), tls_folder, "master");
}

std::shared_ptr<Worker> make_grpc_worker(const std::string& host_port, const std::filesystem::path& tls_folder,
                                         const GrpcOptions& options) {
  const wire::HostPort address = wire::parse_host_port(host_port);
  const wire::TlsIdentity identity = wire::load_tls_identity(tls_folder, "master");
  wire::refuse_tls_before_1_3();
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = identity.ca;
  tls.pem_cert_chain = identity.certificate;
  tls.pem_private_key = identity.key;
  try {
    return connect("grpc", host_port, grpc::SslCredentials(tls), options);
  } catch (const WorkerLostError& error) {
    const std::string reason = wire::explain_tls_failure(address, identity, options.connect);
    if (reason.empty()) throw;
    throw WorkerLostError(fmt::format("grpc://{}: {}", wire::to_string(address), reason));
  }
}

std::shared_ptr<Worker> make_insecure_worker(const std::string& host_port, const GrpcOptions& options) {
  return connect("insecure", host_port, grpc::InsecureChannelCredentials(), options);
}

}  // namespace tempo::offload
