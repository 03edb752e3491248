// TLS and what it binds: the same on both ends, another on every connection, another behind whoever stands between.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <condition_variable>
#include <mutex>

#include "base/file.h"
#include "service/listener.h"
#include "service/tls_channel.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::service {
namespace channel_test {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;

constexpr milliseconds kPatience{5'000};

/// A listener that notes what each connection is bound to, and echoes.
class TlsChannelTest : public ::testing::Test {
 protected:
  struct Echo : Served {
    explicit Echo(wire::UniqueDescriptor socket) : end(std::move(socket)) {
      thread = std::thread([this] {
        std::array<char, 4096> bytes{};
        for (;;) {
          pollfd entry{end.get(), POLLIN, 0};
          ::poll(&entry, 1, -1);
          const ssize_t count = ::recv(end.get(), bytes.data(), bytes.size(), 0);
          if (count <= 0) return;
          for (ssize_t sent = 0; sent < count;) {
            pollfd room{end.get(), POLLOUT, 0};
            ::poll(&room, 1, -1);
            const ssize_t more =
                ::send(end.get(), bytes.data() + sent, static_cast<size_t>(count - sent), MSG_NOSIGNAL);
            if (more < 0 && errno != EAGAIN) return;
            sent += std::max<ssize_t>(more, 0);
          }
        }
      });
    }
    ~Echo() override { thread.join(); }
    wire::UniqueDescriptor end;
    std::thread thread;
  };

  void SetUp() override { start({}); }
  void start(const ListenerLimits& limits) {
    listener_.reset();
    listener_ = std::make_unique<Listener>(
        wire::HostPort{"127.0.0.1", 0}, service_, limits, log_,
        [this](const ChannelBinding& binding, wire::UniqueDescriptor socket) -> std::unique_ptr<Served> {
          {
            const std::lock_guard lock(mutex_);
            bindings_.push_back(binding);
          }
          changed_.notify_all();
          return std::make_unique<Echo>(std::move(socket));
        });
  }
  ChannelBinding binding(size_t index) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return bindings_.size() > index; })) throw RunError("no connection");
    return bindings_[index];
  }
  wire::UniqueDescriptor tcp() const { return connect_to({"127.0.0.1", listener_->port()}, kPatience); }
  std::unique_ptr<TlsChannel> connect(const TlsIdentity& identity) const {
    return std::make_unique<TlsChannel>(tcp(), identity, TlsChannel::Role::kClient, kPatience);
  }

  TempFolder folder_;
  observe::Log log_{(folder_ / "log").string()};
  const TlsIdentity service_ = TlsIdentity::make(), client_ = TlsIdentity::make();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ChannelBinding> bindings_;
  std::unique_ptr<Listener> listener_;
};

TEST_F(TlsChannelTest, BothEndsSeeTheSameBinding) {
  const auto channel = connect(client_);
  const ChannelBinding there = binding(0);
  EXPECT_EQ(channel->binding().exporter, there.exporter);
  EXPECT_EQ(channel->binding().service_spki, there.service_spki);
  EXPECT_EQ(channel->binding().service_spki, service_.spki());
  EXPECT_EQ(there.client, sha256(client_.spki()));
}

TEST_F(TlsChannelTest, EveryConnectionHasItsOwnExporter) {
  const auto one = connect(client_), two = connect(client_);
  EXPECT_NE(one->binding().exporter, two->binding().exporter);
  EXPECT_NE(one->binding().exporter, attest::Digest32{});
}

TEST_F(TlsChannelTest, PumpCarriesAnyNumberOfBytesInBothDirections) {
  const auto channel = connect(client_);
  SocketPair pair;
  std::atomic<bool> stop = false;
  std::jthread pump([&] { channel->pump(pair.ours.get(), milliseconds(20'000), stop); });
  std::string sent(3'000'017, 'x'), got;
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 131 + i / 251);
  size_t begun = 0;
  std::array<char, 50'000> piece{};
  while (got.size() < sent.size()) {
    pollfd entry{pair.grpcs.get(), static_cast<short>(POLLIN | (begun < sent.size() ? POLLOUT : 0)), 0};
    if (::poll(&entry, 1, 5'000) <= 0) break;
    if (entry.revents & POLLOUT) {
      const ssize_t count = ::send(pair.grpcs.get(), sent.data() + begun, sent.size() - begun, MSG_NOSIGNAL);
      if (count > 0) begun += static_cast<size_t>(count);
    }
    const ssize_t count = ::recv(pair.grpcs.get(), piece.data(), piece.size(), 0);
    if (count == 0) break;
    if (count > 0) got.append(piece.data(), static_cast<size_t>(count));
  }
  EXPECT_TRUE(got == sent) << got.size() << " of " << sent.size() << " bytes came back";
  pair.grpcs.reset();
}

TEST_F(TlsChannelTest, AClientWithoutACertificateIsRefusedAndLogged) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
  const unsigned char alpn[] = {7, 't', 'e', 'm', 'p', 'o', '/', '1'};
  SSL_set_alpn_protos(ssl.get(), alpn, sizeof alpn);
  const wire::UniqueDescriptor socket = tcp();
  const int flags = ::fcntl(socket.get(), F_GETFL);
  ::fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK);
  SSL_set_fd(ssl.get(), socket.get());
  char byte = 0;
  const bool is_through = SSL_connect(ssl.get()) == 1 && SSL_read(ssl.get(), &byte, 1) > 0;
  EXPECT_FALSE(is_through);
  listener_.reset();
  EXPECT_TRUE(bindings_.empty());
  EXPECT_THAT(read_text_file(folder_ / "log", 1 << 20), HasSubstr("connection_refused"));
}

TEST_F(TlsChannelTest, Tls12IsRefused) {
  const unsigned char alpn[] = {7, 't', 'e', 'm', 'p', 'o', '/', '1'};
  for (const int newest : {TLS1_3_VERSION, TLS1_2_VERSION}) {  // the same client twice, but for the version
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    SSL_CTX_clear_options(context.get(), SSL_OP_NO_TLSv1_2);
    SSL_CTX_set_max_proto_version(context.get(), newest);
    ASSERT_EQ(SSL_CTX_use_certificate(context.get(), client_.certificate()), 1);
    ASSERT_EQ(SSL_CTX_use_PrivateKey(context.get(), client_.key()), 1);
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
    ASSERT_EQ(SSL_set_alpn_protos(ssl.get(), alpn, sizeof alpn), 0);
    const wire::UniqueDescriptor socket = tcp();
    const int flags = ::fcntl(socket.get(), F_GETFL);
    ::fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK);
    SSL_set_fd(ssl.get(), socket.get());
    EXPECT_EQ(SSL_connect(ssl.get()) == 1, newest == TLS1_3_VERSION);
  }
}

TEST_F(TlsChannelTest, AConnectionThatSendsNothingIsClosed) {
  ListenerLimits limits;
  limits.handshake = milliseconds(200);
  start(limits);
  const wire::UniqueDescriptor silent = tcp();
  pollfd entry{silent.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 5'000), 1);
  char byte = 0;
  EXPECT_LE(::recv(silent.get(), &byte, 1, 0), 0);
}

TEST_F(TlsChannelTest, AnIdleConnectionIsClosed) {
  ListenerLimits limits;
  limits.idle = milliseconds(300);
  start(limits);
  const auto channel = connect(client_);
  SocketPair pair;
  const std::atomic<bool> stop = false;
  const auto before = std::chrono::steady_clock::now();
  channel->pump(pair.ours.get(), milliseconds(20'000), stop);
  EXPECT_LT(std::chrono::steady_clock::now() - before, milliseconds(5'000));
}

TEST_F(TlsChannelTest, ConnectionsBeyondTheLimitAreClosed) {
  ListenerLimits limits;
  limits.connections = 2;
  start(limits);
  const auto one = connect(client_), two = connect(client_);
  binding(1);
  EXPECT_THROW(connect(client_), ProtocolError);
}

TEST(TlsIdentity, AnIdentityIsMadeOnceAndReadBack) {
  const TempFolder folder;
  bool created = false;
  const auto path = folder / "keys/client.pem";
  const auto made = TlsIdentity::load_or_create(path, &created);
  EXPECT_TRUE(created);
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0600));
  EXPECT_EQ(TlsIdentity::load_or_create(path, &created).spki(), made.spki());
  EXPECT_FALSE(created);
  std::filesystem::permissions(path, std::filesystem::perms(0644));
  EXPECT_THAT(message_of<InputError>([&] { TlsIdentity::load_or_create(path, nullptr); }),
              HasSubstr("group or others"));
}

TEST(TlsIdentity, AFileWithoutAKeyOnP256IsRefused) {
  const TempFolder folder;
  std::ofstream(folder / "bad") << "-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n";
  std::filesystem::permissions(folder / "bad", std::filesystem::perms(0600));
  EXPECT_THAT(message_of<InputError>([&] { TlsIdentity::load_or_create(folder / "bad", nullptr); }),
              HasSubstr("P-256"));
}

}  // namespace channel_test
}  // namespace tempo::service
