#include "worker/server/shm_server.h"

#include <fmt/format.h>

#include <atomic>
#include <list>
#include <thread>

#include "tempo/error.h"
#include "wire/acceptor.h"
#include "wire/shm_layout.h"
#include "wire/shm_socket.h"
#include "worker/executor.h"
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
    for (Served& served : sessions_) served.session->stop();
    for (Served& served : sessions_) served.thread.join();
  }

  [[nodiscard]] std::string address() const override { return "shm://" + name_; }

 private:
  struct Served {
    std::unique_ptr<ShmSession> session;
    std::atomic<bool> is_over = false;
    std::thread thread;
  };

  void accept_masters() {
    while (wire::UniqueDescriptor socket = acceptor_.next()) {
      forget_finished();
      if (sessions_.size() < options_.max_sessions)
        begin_session(std::move(socket));
      else
        refuse(socket);
    }
  }

  void refuse(const wire::UniqueDescriptor& socket) {
    options_.monitor->session_refused("shm");
    wire::send_shm_refusal(socket, fmt::format("it serves {} masters already", sessions_.size()));
  }

  /// Whatever goes wrong here concerns one master, which sees the connection close.
  void begin_session(wire::UniqueDescriptor socket) try {
    auto session = std::make_unique<ShmSession>(std::move(socket), options_);
    std::list<Served> served(1);
    served.front().session = std::move(session);
    served.front().thread = std::thread([&served = served.front()] {
      served.session->run();
      served.is_over = true;
    });
    sessions_.splice(sessions_.end(), served);  // keeps its address
  } catch (const std::exception&) {
  }

  void forget_finished() {
    sessions_.remove_if([](Served& served) {
      if (!served.is_over) return false;
      served.thread.join();
      return true;
    });
  }

  const std::string name_;
  const ServerOptions options_;
  wire::Acceptor acceptor_;
  std::list<Served> sessions_;  // of the accepting thread, until it has ended
  std::thread accepting_;       // last: it uses everything above
};

}  // namespace

std::unique_ptr<Server> serve_shm(const std::string& name, const ServerOptions& options) {
  wire::ShmLayout::of(options.segment_bytes);
  Executor(options.device);  // says what is wrong with a device before anybody connects
  return std::make_unique<ShmServer>(name, options);
}

}  // namespace tempo::worker
