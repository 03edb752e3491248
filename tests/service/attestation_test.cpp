// Attacks on the attestation: each refused by the client with exit code 4, before anything else is sent, and logged by
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/messages.h"
#include "service_peers.h"

namespace tempo::service {
namespace attestation_test {

using namespace testing_peers;  // NOLINT: the cast of every test here
using ::testing::HasSubstr;

/// The reason for which a client of `owner` refuses its service.
std::string refused_with(const Owner& owner, const ClientOptions& options) {
  try {
    owner.connect(options);
  } catch (const AttestationError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kAttestation);
    EXPECT_THAT(owner.refusal(), HasSubstr(R"("level":"warning","event":"service_refused","reason":")"));
    EXPECT_THAT(owner.refusal(), HasSubstr(error.what()));
    return error.what();
  }
  return "nothing";
}

/// Stands between: its own TLS to either side, and whatever passes in between in plain.
class Relay {
 public:
  Relay(uint16_t service_port, observe::Log& log)
      : listener_({"127.0.0.1", 0}, identity_, {}, log,
                  [this, service_port](const ChannelBinding& binding, wire::UniqueDescriptor socket) {
                    return std::make_unique<Passing>(*this, service_port, binding, std::move(socket));
                  }) {}
  [[nodiscard]] uint16_t port() const { return listener_.port(); }
  [[nodiscard]] bool has_other_exporter() const { return has_other_exporter_; }

 private:
  struct Passing : Served {
    Passing(Relay& relay, uint16_t port, const ChannelBinding& binding, wire::UniqueDescriptor from)
        : socket(std::move(from)),
          onward(connect_to({"127.0.0.1", port}, std::chrono::seconds(5)), relay.identity_, TlsChannel::Role::kClient,
                 std::chrono::seconds(5)) {
      relay.has_other_exporter_ = onward.binding().exporter != binding.exporter;
      thread = std::thread([this] { onward.pump(socket.get(), std::chrono::seconds(20), stop); });
    }
    ~Passing() override {
      stop = true;
      thread.join();
    }
    wire::UniqueDescriptor socket;
    TlsChannel onward;
    std::atomic<bool> stop = false;
    std::thread thread;
  };

  const TlsIdentity identity_ = TlsIdentity::make();
  std::atomic<bool> has_other_exporter_ = false;
  Listener listener_;
};

TEST(Attestation, AnHonestServiceIsAccepted) {
  const Service service;
  const Owner owner;
  const auto client = owner.connect(service);
  EXPECT_TRUE(client->appraisal().accepted);
  EXPECT_THAT(client->configuration(), HasSubstr("\"transports\":[\"local\"]"));
}

TEST(Attestation, ReplayedEvidenceIsRefused) {
  Service service;
  const Owner owner;
  owner.connect(service);  // an honest one, whose evidence the service keeps
  service.evidence.is_replaying = true;
  EXPECT_THAT(refused_with(owner, owner.options(service.server->port())), HasSubstr("report"));
}

TEST(Attestation, EvidenceOverAnotherNonceOfTheSameConnectionIsRefused) {
  Service service;
  const Owner owner;
  const auto client = owner.connect(service);
  owner.submit(*client);  // each release takes an attestation of its own
  owner.submit(*client);
  service.evidence.is_replaying = true;  // the first of this connection: only its nonce is another
  EXPECT_THAT(testing::message_of<AttestationError>([&] { owner.submit(*client); }), HasSubstr("report_data"));
  EXPECT_THAT(owner.refusal(), HasSubstr("report_data"));
}

TEST(Attestation, EvidenceRelayedToAnotherTlsEndpointIsRefused) {
  Service service;
  Relay relay(service.server->port(), service.log);
  const Owner owner;
  EXPECT_THAT(refused_with(owner, owner.options(relay.port())), HasSubstr("report"));
  EXPECT_TRUE(relay.has_other_exporter());
}

TEST(Attestation, TheMeasurementOfOtherCodeIsRefused) {
  const Service service;
  const Owner owner;
  ClientOptions options = owner.options(service.server->port());
  options.policy.insecure_simulated->measurements[0][0] ^= std::byte{1};
  EXPECT_THAT(refused_with(owner, options), HasSubstr("measurement"));
}

TEST(Attestation, SimulatedEvidenceIsRefusedUnlessThePolicyNamesIt) {
  const Service service;
  const Owner owner;
  ClientOptions options = owner.options(service.server->port());
  options.policy.insecure_simulated.reset();
  options.policy.sev_snp.emplace();
  EXPECT_NE(refused_with(owner, options), "nothing");
}

TEST(Attestation, AnotherConfigurationIsRefusedIfThePolicyPinsOne) {
  const Service service;
  const Owner owner;
  ClientOptions options = owner.options(service.server->port());
  const std::string& configuration = service.server->configuration();
  options.policy.config_hashes = {sha256(bytes_of(configuration))};
  EXPECT_TRUE(owner.connect(options)->appraisal().accepted);
  options.policy.config_hashes = {attest::Digest32{}};
  EXPECT_THAT(refused_with(owner, options), HasSubstr("config"));
}

/// A caller that skips what `Client` insists on.
class Careless {
 public:
  Careless(const Service& service, const TlsIdentity& identity)
      : channel_(connect_to({"127.0.0.1", service.server->port()}, std::chrono::seconds(5)), identity,
                 TlsChannel::Role::kClient, std::chrono::seconds(5)),
        pump_([this] { channel_.pump(pair_.ours.get(), std::chrono::seconds(20), stop_); }) {
    caller_ = std::make_unique<SessionCaller>(std::move(pair_.grpcs));
  }
  ~Careless() {
    caller_.reset();
    stop_ = true;
    pump_.join();
  }
  v1::JobReply call(const v1::JobRequest& request) {
    caller_->send(request);
    return caller_->receive();
  }
  [[nodiscard]] const ChannelBinding& binding() const { return channel_.binding(); }

 private:
  TlsChannel channel_;
  SocketPair pair_;
  std::atomic<bool> stop_ = false;
  std::thread pump_;
  std::unique_ptr<SessionCaller> caller_;
};

v1::JobRequest challenge_of(const std::string& nonce) {
  v1::JobRequest request;
  request.mutable_challenge()->set_version(1);
  request.mutable_challenge()->set_nonce(nonce);
  return request;
}

TEST(Attestation, NoRequestIsAnsweredBeforeAChallenge) {
  const Service service;
  const Owner owner;
  Careless caller(service, owner.identity);
  v1::JobRequest status;
  status.mutable_status();
  EXPECT_THAT(caller.call(status).failure().message(), HasSubstr("expected a challenge first"));
  EXPECT_THAT(caller.call(v1::JobRequest()).failure().message(), HasSubstr("expected a challenge first"));
  EXPECT_THAT(service.logged(), HasSubstr("request_refused"));
}

TEST(Attestation, ANonceOfAnotherSizeIsRefused) {
  const Service service;
  const Owner owner;
  Careless caller(service, owner.identity);
  for (const size_t size : {0U, 31U, 33U})
    EXPECT_THAT(caller.call(challenge_of(std::string(size, 'n'))).failure().message(), HasSubstr("nonce"));
}

TEST(Attestation, KeysSealedForAnotherConnectionDoNotOpen) {
  const Service service;
  const Owner owner;
  Careless one(service, owner.identity), two(service, owner.identity);
  const std::string nonce(kNonceBytes, 'n');
  const v1::Attestation attestation = one.call(challenge_of(nonce)).attestation();
  two.call(challenge_of(nonce));
  v1::JobRequest create;
  create.mutable_create();
  const std::string job = two.call(create).jobs().jobs(0).job();
  Release release;
  release.job = fixed<16>(job, "job");
  release.data_key = SecretKey::random();
  release.is_first = true;
  const attest::Digest32 transcript = hash_of({.nonce = bytes_of(nonce),
                                               .binding = one.binding(),
                                               .release_key = bytes_of(attestation.release_key()),
                                               .config_hash = sha256(bytes_of(attestation.configuration())),
                                               .evidence = bytes_of(attestation.evidence())});
  v1::JobRequest request;
  request.mutable_release()->set_job(job);
  request.mutable_release()->set_sealed(
      text_of(seal_release(release, fixed<32>(attestation.release_key(), "key"), transcript)));
  EXPECT_THAT(two.call(request).failure().message(), HasSubstr("made for another attestation"));
  EXPECT_THAT(two.call(request).failure().message(), HasSubstr("each attestation serves one release"));
  EXPECT_THAT(one.call(request).jobs().jobs_size(), 1) << "on its own connection it is good";
}

}  // namespace attestation_test
}  // namespace tempo::service
