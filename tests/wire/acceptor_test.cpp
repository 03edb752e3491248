#include "wire/acceptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>

#include <chrono>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "tempo/error.h"
#include "wire/shm_socket.h"

namespace tempo::wire {
namespace acceptor_test {

using std::chrono::milliseconds;

/// Lets the process open no descriptor beyond those that it has.
class NoDescriptorsLeft {
 public:
  NoDescriptorsLeft() {
    getrlimit(RLIMIT_NOFILE, &old_);
    const UniqueDescriptor next(open("/dev/null", O_RDONLY | O_CLOEXEC));
    const rlimit few = {static_cast<rlim_t>(next.get()), old_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
  }
  ~NoDescriptorsLeft() { setrlimit(RLIMIT_NOFILE, &old_); }
  NoDescriptorsLeft(const NoDescriptorsLeft&) = delete;
  NoDescriptorsLeft& operator=(const NoDescriptorsLeft&) = delete;

 private:
  rlimit old_ = {};
};

std::string unused_name() {
  static int count = 0;
  return "acceptor-test-" + std::to_string(getpid()) + "-" + std::to_string(++count);
}

double process_cpu_seconds() {
  timespec time = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

TEST(Acceptor, ConnectionsAreAcceptedUntilStopped) {
  const std::string name = unused_name();
  Acceptor acceptor(listen_shm(name));
  const UniqueDescriptor first = connect_shm(name, milliseconds(0)), second = connect_shm(name, milliseconds(0));
  const UniqueDescriptor one = acceptor.next();
  EXPECT_TRUE(one);
  EXPECT_NE(fcntl(one.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_TRUE(acceptor.next());
  std::thread stopper([&] { acceptor.stop(); });
  EXPECT_FALSE(acceptor.next());
  stopper.join();
  const UniqueDescriptor third = connect_shm(name, milliseconds(0));
  EXPECT_FALSE(acceptor.next()) << "stop lasts";
}

TEST(Acceptor, AnAcceptorWithoutDescriptorsSleepsAndAcceptsTheConnectionLater) {
  const std::string name = unused_name();
  Acceptor acceptor(listen_shm(name));
  const UniqueDescriptor peer = connect_shm(name, milliseconds(0));
  UniqueDescriptor taken;
  std::thread accepting;
  double cpu = 0;
  {
    const NoDescriptorsLeft few;
    accepting = std::thread([&] { taken = acceptor.next(); });
    const double before = process_cpu_seconds();
    poll(nullptr, 0, 500);
    cpu = process_cpu_seconds() - before;
  }
  accepting.join();
  EXPECT_LT(cpu, 0.1) << "a loop at full speed takes up to 0.5 s";
  EXPECT_TRUE(taken);
}

TEST(Acceptor, StopWorksWithoutDescriptors) {
  const std::string name = unused_name();
  Acceptor acceptor(listen_shm(name));
  const UniqueDescriptor peer = connect_shm(name, milliseconds(0));
  const NoDescriptorsLeft few;
  std::thread stopper([&] { acceptor.stop(); });
  EXPECT_FALSE(acceptor.next());
  stopper.join();
}

TEST(Acceptor, ConstructionFailsWithoutADescriptor) {
  UniqueDescriptor listening = listen_shm(unused_name());
  const NoDescriptorsLeft few;
  EXPECT_THROW(Acceptor(std::move(listening)), RunError);
}

}  // namespace acceptor_test
}  // namespace tempo::wire
