#include "attest/appraisal.h"

#include "attest/allowed.h"
#include "attest/appraise_with_roots.h"
#include "attest/ear.h"
#include "attest/intel/policy.h"
#include "attest/runtime_data.h"
#include "attest/simulated.h"
#include "attest/snp/policy.h"
#include "attest/verdict.h"
#include "base/byte_reader.h"

namespace tempo::attest {
namespace {

struct Inputs {
  const Evidence& evidence;
  const Collateral& collateral;
  const Policy& policy;
  const Expected& expected;
  const SeenCollateral* seen;
  const VendorRoots& roots;
};

/// What became known on the way, whether the way led to the end or not.
struct Course {
  Ear ear;
  SeenCollateral used;
  std::string measurement, machine;
};

template <typename Section>
const Section& section(const std::optional<Section>& found, Tee tee) {
  demand(found.has_value(), kHardware, "{}: the policy does not name this TEE", name_of(tee));
  return *found;
}

void check_expected(const ReportData& report_data, const Inputs& in) {
  const std::string_view tee = name_of(in.evidence.tee);
  demand(!in.expected.report_data || *in.expected.report_data == report_data, kConfiguration,
         "{}: report_data is not what was asked for: the evidence is of another request or connection", tee);
  if (in.policy.config_hashes.empty()) return;
  demand(in.expected.config_hash.has_value(), kConfiguration,
         "{}: the policy lists config hashes, none came with the evidence", tee);
  demand(is_listed(*in.expected.config_hash, in.policy.config_hashes), kConfiguration,
         "{}: config hash {} is not in the policy", tee, to_hex(*in.expected.config_hash));
}

/// Nothing older than what this client has seen.
void check_seen(const SeenCollateral& used, const Inputs& in) {
  if (in.seen == nullptr) return;
  for (const auto& [item, version] : used.items()) in.seen->check(item, version);
}

void appraise_snp(const Inputs& in, Course& course) {
  const SnpReport report = parse_snp_report(in.evidence.report);
  course.ear.claims = claims_of(report);
  course.measurement = to_hex(report.measurement);
  if (!is_zero(report.chip_id)) course.machine = to_hex(report.chip_id);
  const SnpPolicy& policy = section(in.policy.sev_snp, in.evidence.tee);
  const SnpVerified verified = verify_snp(report, in.evidence, in.collateral, in.roots, in.expected.now);
  course.ear.is_verified = true;
  course.ear.claims["product"] = verified.product;
  for (const auto& [name, tcb] : {std::pair("current_tcb", verified.current),
                                  {"reported_tcb", verified.reported},
                                  {"committed_tcb", verified.committed},
                                  {"launch_tcb", verified.launch}})
    course.ear.claims[name] = to_text(tcb);
  course.used = verified.used;
  check_seen(course.used, in);
  check_policy(verified, policy);
  if (in.policy.maximum_collateral_age_days)
    for (const auto& [item, version] : course.used.items())
      demand(in.expected.now - version.issued <= std::chrono::days(*in.policy.maximum_collateral_age_days), kHardware,
             "sev-snp: {} was issued {}, over the policy's {} days ago", item, to_text(version.issued),
             *in.policy.maximum_collateral_age_days);
  check_expected(report.report_data, in);
}

/// What a quote says comes first, then what Intel says of the platform: so debug evidence is refused as such even where
/// no collateral is at hand.
template <typename TeePolicy, typename Body>
void appraise_quote(const Inputs& in, const Quote& quote, const Body& body, const TeePolicy& policy, Course& course) {
  const QuoteVerified verified = verify_quote(quote, in.roots, in.expected.now);
  course.ear.is_verified = true;
  course.ear.claims.update(claims_of(verified.pck));
  if (verified.pck.platform_instance_id) course.machine = to_hex(*verified.pck.platform_instance_id);
  check_runtime_data(in.evidence.runtime_data, quote.report_data(), name_of(in.evidence.tee));
  check_policy(body, policy);
  check_expected(quote.report_data(), in);
  const PlatformVerified platform = verify_platform(quote, verified, in.collateral, in.roots, in.expected.now);
  course.ear.claims.update(claims_of(platform));
  course.used = platform.used;
  check_seen(course.used, in);
  check_policy(quote, verified.pck, platform, policy.tcb, in.policy.maximum_collateral_age_days, in.expected.now);
}

void appraise_intel(const Inputs& in, Course& course) {
  const Tee tee = in.evidence.tee;
  const Quote quote = parse_quote(in.evidence.report);
  demand(quote.is_tdx() == (tee == Tee::kTdx), kHardware, "{}: the evidence is a quote of {}", name_of(tee),
         quote.is_tdx() ? "tdx" : "sgx");
  course.ear.claims = claims_of(quote);
  course.measurement = quote.is_tdx() ? to_hex(quote.td().mrtd) : to_hex(quote.enclave().mrenclave);
  if (quote.is_tdx())
    appraise_quote(in, quote, quote.td(), section(in.policy.tdx, tee), course);
  else
    appraise_quote(in, quote, quote.enclave(), section(in.policy.sgx, tee), course);
}

void appraise_insecure_simulated(const Inputs& in, Course& course) {
  const InsecureSimulatedReport report = open_insecure_simulated_report(in.evidence.report);
  course.measurement = to_hex(report.measurement);
  course.ear.claims = {{"measurement", course.measurement}, {"report_data", to_hex(report.report_data)}};
  const InsecureSimulatedPolicy& policy = section(in.policy.insecure_simulated, in.evidence.tee);
  demand(is_listed(report.measurement, policy.measurements), Aspect::kExecutables,
         "insecure-simulated: measurement {} is not in the policy", course.measurement);
  check_expected(report.report_data, in);
}

/// The caps hold for evidence that did not come through `parse_evidence`, too.
void check_sizes(const Evidence& evidence) {
  bool is_good = evidence.report.size() <= kMaxReportBytes && evidence.certificates.size() <= kMaxCertificates &&
                 evidence.runtime_data.size() <= kMaxRuntimeDataBytes;
  for (const Bytes& certificate : evidence.certificates)
    is_good = is_good && certificate.size() <= kMaxCertificateBytes;
  demand(is_good, kHardware, "{}: the evidence is larger than any real one", name_of(evidence.tee));
}

void follow(const Inputs& in, Course& course) {
  check_sizes(in.evidence);
  switch (in.evidence.tee) {
    case Tee::kSevSnp:
      return appraise_snp(in, course);
    case Tee::kTdx:
    case Tee::kSgx:
      return appraise_intel(in, course);
    case Tee::kInsecureSimulated:
      return appraise_insecure_simulated(in, course);
  }
  throw Refused(kHardware, "evidence of an unknown TEE");
}

/// One line, whatever a library put into it.
std::string one_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

Appraisal appraise_with_unpinned_roots(const Evidence& evidence, const Collateral& collateral, const Policy& policy,
                                       const Expected& expected, SeenCollateral* seen, const VendorRoots& roots) {
  Course course;
  course.ear.tee = evidence.tee;
  course.ear.now = expected.now;
  Appraisal appraisal;
  appraisal.tee = evidence.tee;
  try {
    follow({evidence, collateral, policy, expected, seen, roots}, course);
    appraisal.accepted = true;
  } catch (const Refused& refused) {
    course.ear.refused = refused.aspect();
    appraisal.reason = one_line(refused.what());
  } catch (const std::exception& error) {  // malformed, or a chain that does not verify
    course.ear.refused = kHardware;
    appraisal.reason = one_line(error.what());
    if (appraisal.reason.empty()) appraisal.reason = "the evidence could not be appraised";
  }
  if (appraisal.accepted && seen != nullptr)
    for (const auto& [item, version] : course.used.items()) seen->remember(item, version);
  appraisal.measurement = course.measurement;
  appraisal.machine = course.machine;
  appraisal.ear_json = to_json(course.ear, appraisal.reason, policy);
  return appraisal;
}

Appraisal appraise(const Evidence& evidence, const Collateral& collateral, const Policy& policy,
                   const Expected& expected, SeenCollateral* seen) {
  return appraise_with_unpinned_roots(evidence, collateral, policy, expected, seen, pinned_vendor_roots());
}

void require_accepted(const Appraisal& appraisal) {
  if (!appraisal.accepted) throw AttestationError(appraisal.reason);
}

}  // namespace tempo::attest
