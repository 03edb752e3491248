#include "wire/listen.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "support/temp_folder.h"
#include "tempo/error.h"
#include "wire/host_port.h"

namespace tempo::wire {
namespace listen_test {

using testing::message_of;

TEST(ListenTcp, PortZeroTakesAFreePort) {
  for (const char* host : {"127.0.0.1", "localhost", "::1"}) {
    const UniqueDescriptor first = listen_tcp("test", {host, 0}), second = listen_tcp("test", {host, 0});
    EXPECT_GT(port_of(first), 0) << host;
    EXPECT_NE(port_of(first), port_of(second)) << host;
  }
}

TEST(ListenTcp, ANameWithBothAddressesIsListenedAtOverIPv4) {
  const UniqueDescriptor socket = listen_tcp("test", {"localhost", 0});
  sockaddr_storage bound = {};
  socklen_t length = sizeof bound;
  ASSERT_EQ(getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &length), 0);
  EXPECT_EQ(bound.ss_family, AF_INET);
}

TEST(ListenTcp, AFailureNamesTheAddressAndTheReason) {
  const UniqueDescriptor taken = listen_tcp("test", {"127.0.0.1", 0});
  const HostPort same{"127.0.0.1", port_of(taken)};
  EXPECT_EQ(message_of<InputError>([&] { listen_tcp("metrics", same); }),
            "metrics: cannot listen at " + to_string(same) + ": Address already in use");
  EXPECT_NE(message_of<InputError>([&] {
              listen_tcp("serve", {"no such host", 1});
            }).find("serve: cannot listen at "),
            std::string::npos);
}

}  // namespace listen_test
}  // namespace tempo::wire
