// Evidence that hardware signed over this very connection, and that must be refused all the same: of a debuggable
// guest, or vouched for by collateral that is over or older than what the client has seen. Each beside its like without
// the attack, which is accepted.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attest/synthetic_intel.h"
#include "attest/synthetic_snp.h"
#include "attest/vectors.h"
#include "service_peers.h"

namespace tempo::service {
namespace hostile_evidence_test {

using namespace testing_peers;   // NOLINT: the cast of every test here
using namespace tempo::testing;  // NOLINT: the whole vocabulary of synthetic machines
using ::testing::HasSubstr;

constexpr const char *kInTime = "2025-07-01", *kTooLate = "2025-07-20";  // of collateral, which ends on July 15th

template <size_t kBytes>
std::array<std::byte, kBytes> filled(uint8_t value) {
  std::array<std::byte, kBytes> out{};
  out.fill(std::byte{value});
  return out;
}

/// Hardware that does not exist, under a root that only this test trusts. It signs whatever the service asks for.
class Machine : public attest::EvidenceSource {
 public:
  [[nodiscard]] virtual attest::VendorRoots roots() const = 0;
  [[nodiscard]] virtual attest::Policy policy() const = 0;
  /// @param number of its version
  [[nodiscard]] virtual attest::Collateral collateral(uint64_t number) const = 0;
  bool is_debuggable = false;
};

class IntelMachine final : public Machine {
 public:
  explicit IntelMachine(attest::Tee tee) : tee_(tee) {}
  [[nodiscard]] attest::Tee tee() const override { return tee_; }
  attest::Evidence collect(std::span<const std::byte, 64> report_data) override {
    QuoteSpec spec;
    spec.version = is_tdx() ? 4 : 3;
    spec.edit = [&](Bytes& body) {
      put(body, is_tdx() ? kTdReportData : kSgxReportData, report_data);
      if (is_debuggable)
        body[is_tdx() ? kTdAttributes : kSgxAttributes] |= std::byte{is_tdx() ? uint8_t{1} : uint8_t{2}};
    };
    return intel_.evidence(spec);
  }
  [[nodiscard]] attest::VendorRoots roots() const override { return intel_.roots(); }
  [[nodiscard]] attest::Policy policy() const override {
    attest::Policy policy;
    if (is_tdx())
      policy.tdx.emplace().mrtd = {filled<48>(0x22)};
    else
      policy.sgx.emplace().mrenclave = {filled<32>(0x22)};
    return policy;
  }
  [[nodiscard]] attest::Collateral collateral(uint64_t number) const override {
    attest::Json info = SyntheticIntel::tcb_info(is_tdx()), identity = SyntheticIntel::qe_identity(is_tdx());
    info["tcbEvaluationDataNumber"] = identity["tcbEvaluationDataNumber"] = number;
    return intel_.collateral_with(info, identity);
  }

 private:
  [[nodiscard]] bool is_tdx() const { return tee_ == attest::Tee::kTdx; }
  const attest::Tee tee_;
  const SyntheticIntel intel_;
};

class AmdMachine final : public Machine {
 public:
  [[nodiscard]] attest::Tee tee() const override { return attest::Tee::kSevSnp; }
  attest::Evidence collect(std::span<const std::byte, 64> report_data) override {
    SnpSpec spec;
    spec.report_data.assign(report_data.begin(), report_data.end());
    if (is_debuggable) spec.guest_policy |= 1U << 19U;
    return amd_.evidence(spec);
  }
  [[nodiscard]] attest::VendorRoots roots() const override { return amd_.roots(); }
  [[nodiscard]] attest::Policy policy() const override {
    attest::Policy policy;
    attest::SnpPolicy& snp = policy.sev_snp.emplace();
    snp.measurements = {filled<48>(0x22)};
    snp.products = {"milan"};
    snp.allowed_guest_policy = {"smt"};
    snp.require_crl = true;
    return policy;
  }
  [[nodiscard]] attest::Collateral collateral(uint64_t number) const override {
    attest::Collateral collateral;
    collateral.revocation_lists = {amd_.ark.revocation_list({}, number, "2025-06-15", "2025-07-15")};
    return collateral;
  }

 private:
  const SyntheticAmd amd_;
};

struct Kind {
  const char* name;
  const char *debug, *over, *older;  // reasons
};
constexpr Kind kKinds[] = {
    {"tdx", "tdx: the TD is debuggable", "TCB info: valid from 2025-06-15T00:00:00Z to 2025-07-15T00:00:00Z",
     "qe-identity TD_QE: number 17 is lower than 18, which was seen before"},
    {"sgx", "sgx: the enclave is debuggable", "TCB info: valid from 2025-06-15T00:00:00Z to 2025-07-15T00:00:00Z",
     "qe-identity QE: number 17 is lower than 18, which was seen before"},
    {"snp", "sev-snp: debugging is allowed by the guest's policy",
     "revocation list is valid from 2025-06-15T00:00:00Z to 2025-07-15T00:00:00Z",
     "crl ARK-Milan: number 17 is lower than 18, which was seen before"},
};

std::unique_ptr<Machine> machine_of(const std::string& kind) {
  if (kind == "snp") return std::make_unique<AmdMachine>();
  return std::make_unique<IntelMachine>(kind == "tdx" ? attest::Tee::kTdx : attest::Tee::kSgx);
}

class HostileEvidence : public ::testing::TestWithParam<Kind> {
 protected:
  /// Connects as `owner`. @returns the reason of a refusal, which `owner` must have logged; empty if it was accepted.
  std::string attested(const Owner& owner, const char* now, uint64_t number) const {
    ClientOptions options = owner.options(service_.server->port());
    options.policy = machine_->policy();
    options.collateral = machine_->collateral(number);
    options.now = at(now);
    options.unpinned_roots = &roots_;
    try {
      EXPECT_TRUE(owner.connect(options)->appraisal().accepted);
      return "";
    } catch (const AttestationError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kAttestation);
      EXPECT_THAT(owner.refusal(), HasSubstr(R"("level":"warning","event":"service_refused","reason":")"));
      EXPECT_THAT(owner.refusal(), HasSubstr(error.what()));
      return error.what();
    }
  }

  const std::unique_ptr<Machine> machine_ = machine_of(GetParam().name);
  const attest::VendorRoots roots_ = machine_->roots();
  const Service service_{machine_.get()};
  const Owner owner_;
};

TEST_P(HostileEvidence, EvidenceOfADebuggableGuestIsRefused) {
  EXPECT_EQ(attested(owner_, kInTime, 17), "");
  machine_->is_debuggable = true;
  EXPECT_THAT(attested(owner_, kInTime, 17), HasSubstr(GetParam().debug));
  machine_->is_debuggable = false;
  EXPECT_EQ(attested(owner_, kInTime, 17), "");
}

TEST_P(HostileEvidence, EvidenceWithExpiredCollateralIsRefused) {
  EXPECT_EQ(attested(owner_, kInTime, 17), "");
  EXPECT_THAT(attested(owner_, kTooLate, 17), HasSubstr(GetParam().over));
}

TEST_P(HostileEvidence, EvidenceWithOlderCollateralThanSeenIsRefused) {
  EXPECT_EQ(attested(owner_, kInTime, 17), "");
  EXPECT_EQ(attested(owner_, kInTime, 18), "");
  EXPECT_THAT(attested(owner_, kInTime, 17), HasSubstr(GetParam().older));
  EXPECT_EQ(attested(owner_, kInTime, 18), "");
  const Owner who_has_seen_nothing;
  EXPECT_EQ(attested(who_has_seen_nothing, kInTime, 17), "");
}

TEST_P(HostileEvidence, EvidenceUnderAnotherRootThanTheVendorsIsRefused) {
  ClientOptions options = owner_.options(service_.server->port());
  options.policy = machine_->policy();
  options.collateral = machine_->collateral(17);
  options.now = at(kInTime);
  EXPECT_THAT(message_of<AttestationError>([&] { owner_.connect(options); }), HasSubstr("chain"));
  options.unpinned_roots = &roots_;
  EXPECT_TRUE(owner_.connect(options)->appraisal().accepted);
}

INSTANTIATE_TEST_SUITE_P(Tees, HostileEvidence, ::testing::ValuesIn(kKinds),
                         [](const auto& kind) { return std::string(kind.param.name); });

/// Shows the same piece whatever it is asked for.
class Presented final : public attest::EvidenceSource {
 public:
  explicit Presented(attest::Evidence evidence) : evidence_(std::move(evidence)) {}
  [[nodiscard]] attest::Tee tee() const override { return evidence_.tee; }
  attest::Evidence collect(std::span<const std::byte, 64>) override { return evidence_; }

 private:
  const attest::Evidence evidence_;
};

/// Real evidence, under the vendors' roots. Nobody can have it signed over this connection, so it is refused in any
/// case: what is not debuggable is, as a replay.
class RealHostileEvidence : public VectorTest {
 protected:
  std::string refusal_of(const attest::Evidence& shown, const attest::Policy& policy, attest::Collateral with = {},
                         const char* now = kInTime) const {
    Presented source(shown);
    const Service service(&source);
    const Owner owner;
    ClientOptions options = owner.options(service.server->port());
    options.policy = policy;
    options.collateral = std::move(with);
    options.now = at(now);
    const std::string reason = message_of<AttestationError>([&] { owner.connect(options); });
    EXPECT_THAT(owner.refusal(),
                HasSubstr(R"("event":"service_refused","reason":")" + reason.substr(0, reason.find('"'))));
    return reason;
  }
};

TEST_F(RealHostileEvidence, EvidenceOfADebuggableGuestIsRefused) {
  const attest::Collateral tdx = collateral({"tdx/v4_uptodate.collateral.json"});
  const attest::Evidence good = evidence("tdx/v4_uptodate.quote.bin");
  const attest::Policy policy = attest::policy_from(good, tdx, at(kInTime));
  EXPECT_THAT(refusal_of(evidence("tdx/v4_DEBUG.quote.bin"), policy, tdx), HasSubstr("tdx: the TD is debuggable"));
  EXPECT_THAT(refusal_of(good, policy, tdx), HasSubstr("tdx: report_data is not what was asked for"));

  const attest::Collateral sgx = collateral({"sgx/v3_prod.collateral.json"});
  const attest::Evidence enclave = evidence("sgx/v3_prod.quote.bin");
  const attest::Policy sgx_policy = attest::policy_from(enclave, sgx, at(kInTime));
  EXPECT_THAT(refusal_of(evidence("sgx/v3_DEBUG_occlum.quote.bin"), sgx_policy, sgx),
              HasSubstr("sgx: the enclave is debuggable"));
  EXPECT_THAT(refusal_of(enclave, sgx_policy, sgx), HasSubstr("sgx: report_data is not what was asked for"));
}

TEST_F(RealHostileEvidence, EvidenceWithExpiredCertificatesIsRefused) {
  const attest::Collateral vcek = collateral({"snp/milan_v3_azure_aci.vcek.pem"});
  const attest::Evidence guest = evidence("snp/milan_v3_azure_aci.report.bin");
  const attest::Policy policy = attest::policy_from(guest, vcek, at("2026-06-01"));
  EXPECT_THAT(refusal_of(guest, policy, vcek, "2099-01-01"), HasSubstr("expired"));
  EXPECT_THAT(refusal_of(guest, policy, vcek, "2026-06-01"), HasSubstr("report_data is not what was asked for"));
}

}  // namespace hostile_evidence_test
}  // namespace tempo::service
