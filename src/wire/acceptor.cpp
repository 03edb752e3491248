#include "wire/acceptor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "tempo/error.h"

namespace tempo::wire {
namespace {

constexpr std::chrono::milliseconds kPause{200};

/// An error of the connection that was to be taken: the next one may do better at once.
bool concerns_one_connection(int error) { return error == EINTR || error == EAGAIN || error == ECONNABORTED; }

}  // namespace

Acceptor::Acceptor(UniqueDescriptor listening, int flags)
    : listening_(std::move(listening)), stopping_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), flags_(flags) {
  if (!stopping_ || fcntl(listening_.get(), F_SETFL, O_NONBLOCK) != 0)
    throw RunError(fmt::format("cannot wait for connections: {}", std::generic_category().message(errno)));
}

UniqueDescriptor Acceptor::next() {
  while (!is_stopping_) {
    pollfd events[] = {{.fd = listening_.get(), .events = POLLIN, .revents = 0},
                       {.fd = stopping_.get(), .events = POLLIN, .revents = 0}};
    if (poll(events, 2, -1) < 0) {
      if (errno != EINTR) pause();
      continue;
    }
    if (events[1].revents != 0) break;
    UniqueDescriptor connection(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | flags_));
    if (connection) return connection;
    if (!concerns_one_connection(errno)) pause();
  }
  return {};
}

void Acceptor::stop() {
  is_stopping_ = true;
  eventfd_write(stopping_.get(), 1);
}

void Acceptor::pause() const {
  pollfd event = {.fd = stopping_.get(), .events = POLLIN, .revents = 0};
  if (poll(&event, 1, static_cast<int>(kPause.count())) < 0) std::this_thread::sleep_for(kPause);
}

}  // namespace tempo::wire
