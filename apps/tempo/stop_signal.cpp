#include "stop_signal.h"

#include <csignal>

namespace tempo::apps {
namespace {

void on_stop(int signal) {
  stop_asked = true;
  std::signal(signal, SIG_DFL);
}

}  // namespace

std::atomic<bool> stop_asked{false};

void listen_for_stop() {
  std::signal(SIGINT, on_stop);
  std::signal(SIGTERM, on_stop);
}

}  // namespace tempo::apps
