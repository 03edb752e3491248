#include "worker/server/grpc_server.h"

#include <fmt/format.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <mutex>
#include <optional>
#include <thread>

#include "observe/standard_streams.h"
#include "tempo/error.h"
#include "wire/acceptor.h"
#include "wire/certificates.h"
#include "wire/host_port.h"
#include "wire/listen.h"
#include "wire/tls_folder.h"
#include "worker/executor.h"
#include "worker/server/grpc_server_stream.h"
#include "worker/server/grpc_session.h"
#include "worker/server/served_sessions.h"

namespace tempo::worker {
namespace {

constexpr size_t kTransportBytes = size_t{512} << 20;  // of gRPC's own buffers, all masters together
constexpr int kSparesPerConnection = 4;                // streams beside sessions: health checks
constexpr auto kStopPatience = std::chrono::seconds(5);

/// Takes connections for a gRPC server. gRPC's own listener closes its socket for good once accept4(2) finds no
/// descriptor left; this one waits until there are some.
class ConnectionFeeder {
 public:
  /// @param builder of the server that is fed; nothing is accepted before `start`.
  ConnectionFeeder(wire::UniqueDescriptor listening, grpc::ServerBuilder& builder,
                   const std::shared_ptr<grpc::ServerCredentials>& credentials)
      : acceptor_(without_delay(std::move(listening)), SOCK_NONBLOCK),
        server_(builder.experimental().AddExternalConnectionAcceptor(
            grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials)) {}
  ~ConnectionFeeder() {
    acceptor_.stop();
    if (thread_.joinable()) thread_.join();
  }

  void start() {
    thread_ = std::thread([this] {
      while (wire::UniqueDescriptor connection = acceptor_.next()) {
        grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
        parameters.listener_fd = acceptor_.listening().get();
        parameters.fd = connection.release();
        server_->HandleNewConnection(&parameters);
      }
    });
  }
  [[nodiscard]] uint16_t port() const { return wire::port_of(acceptor_.listening()); }

 private:
  /// Connections inherit it.
  static wire::UniqueDescriptor without_delay(wire::UniqueDescriptor socket) {
    const int on = 1;
    setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return socket;
  }

  wire::Acceptor acceptor_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> server_;
  std::thread thread_;
};

class GrpcServer final : public Server, private grpc::CallbackGenericService {
 public:
  /// @param scheme of the address it says.
  GrpcServer(const std::string& scheme, wire::HostPort listen, const ServerOptions& options,
             const std::shared_ptr<grpc::ServerCredentials>& credentials)
      : options_(options) {
    wire::quiet_grpc();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    bound(builder);
    feeder_.emplace(wire::listen_tcp(scheme, listen), builder, credentials);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr)
      throw InputError(fmt::format("{}://{}: the certificates do not fit", scheme, wire::to_string(listen)));
    listen.port = feeder_->port();
    feeder_->start();
    address_ = fmt::format("{}://{}", scheme, wire::to_string(listen));
  }

  ~GrpcServer() override {
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
      sessions_.for_each([](GrpcSession& session) { session.stop(); });
    }
    feeder_.reset();
    end_sessions();  // nobody adds any more
    server_->Shutdown(std::chrono::system_clock::now() + kStopPatience);
  }

  [[nodiscard]] std::string address() const override { return address_; }

 private:
  /// Limits of what any peer can make gRPC hold or do.
  void bound(grpc::ServerBuilder& builder) const {
    grpc::ResourceQuota quota("tempo-worker");
    quota.Resize(kTransportBytes);
    builder.SetResourceQuota(quota);
    builder.SetMaxReceiveMessageSize(static_cast<int>(wire::kMaxFrameBytes));
    // A few kilobytes that unpack to gigabytes would come before any check of ours: nothing is unpacked.
    builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                               static_cast<int>(options_.max_sessions) + kSparesPerConnection);
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 60'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
  }

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    const std::shared_ptr<GrpcServerStream> stream = GrpcServerStream::of(context);
    if (context->method() != wire::kSessionMethod)
      stream->refuse(grpc::StatusCode::UNIMPLEMENTED, "no such method");
    else
      begin_session(stream);
    return stream.get();
  }

  /// Whatever goes wrong here concerns one master.
  void begin_session(const std::shared_ptr<GrpcServerStream>& stream) try {
    const std::lock_guard lock(mutex_);
    if (is_stopping_) return stream->refuse(grpc::StatusCode::UNAVAILABLE, "the worker stops");
    if (sessions_.count() >= options_.max_sessions) {
      options_.monitor->session_refused("grpc");
      return stream->refuse(grpc::StatusCode::RESOURCE_EXHAUSTED,
                            fmt::format("it serves {} masters already", sessions_.count()));
    }
    sessions_.begin(std::make_unique<GrpcSession>(stream, options_));
  } catch (const std::exception&) {
    stream->refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "no thread for another master");
  }

  /// Those that have not finished in time, because their masters read nothing, are cut off.
  void end_sessions() {
    if (!sessions_.wait_until_over(std::chrono::steady_clock::now() + kStopPatience))
      sessions_.for_each([](GrpcSession& session) { session.cut_off(); });
    sessions_.join();
  }

  const ServerOptions options_;
  std::string address_;
  std::mutex mutex_;
  bool is_stopping_ = false;
  ServedSessions<GrpcSession> sessions_;
  std::unique_ptr<grpc::Server> server_;    // it calls the rest
  std::optional<ConnectionFeeder> feeder_;  // last: it feeds the server
};

std::shared_ptr<grpc::ServerCredentials> credentials_of(const std::string& folder) {
  const wire::TlsIdentity identity = wire::load_tls_identity(folder, "worker");
  if (const std::string warning = wire::expiry_warning(identity, folder, "worker"); !warning.empty())
    observe::note("{}\n", warning);
  wire::refuse_tls_before_1_3();
  grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  tls.pem_root_certs = identity.ca;
  tls.pem_key_cert_pairs.push_back({identity.key, identity.certificate});
  return grpc::SslServerCredentials(tls);
}

std::unique_ptr<Server> serve(const std::string& scheme, const std::string& host_port, const ServerOptions& options,
                              const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  Executor(options.device);  // says what is wrong with a device before anybody connects
  return std::make_unique<GrpcServer>(scheme, wire::parse_host_port(host_port), options, credentials);
}

}  // namespace

std::unique_ptr<Server> serve_grpc(const std::string& host_port, const ServerOptions& options) {
  wire::parse_host_port(host_port);
  return serve("grpc", host_port, options, credentials_of(options.tls_folder));
}

std::unique_ptr<Server> serve_insecure(const std::string& host_port, const ServerOptions& options) {
  return serve("insecure", host_port, options, grpc::InsecureServerCredentials());
}

}  // namespace tempo::worker
