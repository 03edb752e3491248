#include "worker/server/shm_server.h"

#include <fmt/format.h>

#include <thread>

#include "tempo/error.h"
#include "wire/acceptor.h"
#include "wire/shm_layout.h"
#include "wire/shm_socket.h"
#include "worker/executor.h"
#include "worker/server/served_sessions.h"
#include "worker/server/shm_session.h"

namespace tempo::worker {
namespace {

class ShmServer final : public Server {
 public:
  ShmServer(const std::string& name, const ServerOptions& options)
      : name_(name), options_(options), acceptor_(wire::listen_shm(name)), accepting_([this] { accept_masters(); }) {}

  ~ShmServer() override {
    acceptor_.stop();
    accepting_.join();
    sessions_.for_each([](ShmSession& session) { session.stop(); });
  }

  [[nodiscard]] std::string address() const override { return "shm://" + name_; }

 private:
  void accept_masters() {
    while (wire::UniqueDescriptor socket = acceptor_.next()) {
      if (sessions_.count() < options_.max_sessions)
        begin_session(std::move(socket));
      else
        refuse(socket);
    }
  }

  void refuse(const wire::UniqueDescriptor& socket) {
    options_.monitor->session_refused("shm");
    wire::send_shm_refusal(socket, fmt::format("it serves {} masters already", sessions_.count()));
  }

  /// Whatever goes wrong here concerns one master, which sees the connection close.
  void begin_session(wire::UniqueDescriptor socket) try {
    sessions_.begin(std::make_unique<ShmSession>(std::move(socket), options_));
  } catch (const std::exception&) {
  }

  const std::string name_;
  const ServerOptions options_;
  wire::Acceptor acceptor_;
  ServedSessions<ShmSession> sessions_;
  std::thread accepting_;  // last: it uses everything above
};

}  // namespace

std::unique_ptr<Server> serve_shm(const std::string& name, const ServerOptions& options) {
  wire::ShmLayout::of(options.segment_bytes);
  Executor(options.device);  // says what is wrong with a device before anybody connects
  return std::make_unique<ShmServer>(name, options);
}

}  // namespace tempo::worker
