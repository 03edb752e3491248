#include "wire/host_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::wire {
namespace host_port_test {

using ::testing::HasSubstr;

TEST(HostPort, NamesAndAddressesAreParsed) {
  for (const char* text : {"worker.example:7000", "127.0.0.1:0", "[::1]:65535", "[fe80::1:2]:1", "gpu_worker_1:7000",
                           "_tempo.internal.:1"})
    EXPECT_EQ(to_string(parse_host_port(text)), text);
  EXPECT_EQ(parse_host_port("[::1]:7000").host, "::1");
  EXPECT_EQ(parse_host_port("a:7000").port, 7000);
}

TEST(HostPort, OtherTextIsRefused) {
  for (const char* text :
       {"", ":", "worker", "worker:", ":7000", "::1:7000", "[::1]", "[::1]7000", "[worker]:7000", "[]:1", "a b:1",
        "a/b:1", "unix:/tmp/x", "-a:1", "a:65536", "a:-1", "a:+1", "a:1 ", "a:0x10"})
    EXPECT_THAT(testing::message_of<InputError>([&] { parse_host_port(text); }), HasSubstr("expected HOST:PORT"))
        << text;
}

TEST(HostPort, LoopbackAndAnyAddressesAreRecognisedAsWritten) {
  for (const char* host : {"127.0.0.1", "127.255.0.7", "::1", "localhost"}) EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"128.0.0.1", "0.0.0.0", "127.1", "::", "::2", "::ffff:127.0.0.1", "localhost.example", ""})
    EXPECT_FALSE(is_loopback(host)) << host;
  for (const char* host : {"0.0.0.0", "::", "0:0:0:0:0:0:0:0"}) EXPECT_TRUE(is_any_address(host)) << host;
  for (const char* host : {"0", "0.0.0.1", "::1", "worker"}) EXPECT_FALSE(is_any_address(host)) << host;
}

}  // namespace host_port_test
}  // namespace tempo::wire
