// tempo verify-evidence | policy init: is what a machine says of itself what this client accepts?
#include <fmt/format.h>

#include <memory>

#include "attest/appraisal.h"
#include "base/file.h"
#include "commands.h"
#include "observe/standard_streams.h"
#include "tempo/error.h"

namespace tempo::apps {
namespace {

struct EvidenceFlags {
  std::string evidence, policy, now, report_data, config_hash, seen, out;
  std::vector<std::string> collateral;

  void add_common(CLI::App& command) {
    command.add_option("--evidence", evidence, "evidence bundle, or a raw report or quote")
        ->required()
        ->type_name("FILE");
    command
        .add_option("--collateral", collateral,
                    "vendor's certificates, revocation lists, TCB info, QE identity; may repeat")
        ->type_name("FILE");
    command.add_option("--now", now, "time of appraisal, e.g. 2025-07-01T10:00:00Z; default: the clock's")
        ->type_name("TIME");
  }

  [[nodiscard]] attest::Evidence read_evidence() const {
    return attest::parse_evidence(read_file_or_pipe(evidence, attest::kMaxEvidenceBytes), evidence);
  }
  [[nodiscard]] attest::Collateral read_collateral() const {
    attest::Collateral all;
    for (const std::string& path : collateral)
      all.merge(attest::parse_collateral(read_file_or_pipe(path, attest::kMaxCollateralBytes), path));
    return all;
  }
  [[nodiscard]] attest::UtcTime time() const {
    return now.empty() ? attest::utc_now() : attest::parse_utc(now, "--now");
  }
};

void verify_evidence(const EvidenceFlags& flags) {
  attest::Expected expected{.report_data = {}, .config_hash = {}, .now = flags.time()};
  if (!flags.report_data.empty())
    expected.report_data = attest::digest_from_hex<64>(flags.report_data, "--report-data");
  if (!flags.config_hash.empty())
    expected.config_hash = attest::digest_from_hex<32>(flags.config_hash, "--config-hash");
  const attest::Policy policy =
      attest::parse_policy(read_file_or_pipe(flags.policy, attest::kMaxPolicyBytes), flags.policy);
  attest::SeenCollateral seen;
  if (!flags.seen.empty()) seen = attest::SeenCollateral::load(flags.seen);
  const attest::Appraisal appraisal =
      attest::appraise(flags.read_evidence(), flags.read_collateral(), policy, expected, &seen);
  observe::print_text(appraisal.ear_json);
  require_accepted(appraisal);
  if (!flags.seen.empty()) seen.save(flags.seen);
}

void init_policy(const EvidenceFlags& flags) {
  const std::string text =
      attest::to_json(attest::policy_from(flags.read_evidence(), flags.read_collateral(), flags.time()));
  if (flags.out.empty()) {
    observe::print_text(text);
    return;
  }
  NewFile file(flags.out, 0644);
  file.write(text);
  if (!file.commit()) throw InputError(fmt::format("{}: exists already; a policy is never overwritten", flags.out));
  observe::print("wrote {}; it trusts what the evidence said: compare the measurements with those of your own build\n",
                 flags.out);
}

}  // namespace

void add_verify_evidence(CLI::App& app) {
  auto* command =
      app.add_subcommand("verify-evidence", "Check a TEE's evidence against a policy; exit 0 accepted, 4 refused");
  auto flags = std::make_shared<EvidenceFlags>();
  flags->add_common(*command);
  command->add_option("--policy", flags->policy, "what is accepted")->required()->type_name("FILE");
  command->add_option("--report-data", flags->report_data, "128 hexadecimal digits that the evidence must be over");
  command->add_option("--config-hash", flags->config_hash, "64 hexadecimal digits, where the policy lists such");
  command->add_option("--seen", flags->seen, "remembers the newest collateral, and refuses older")->type_name("FILE");
  command->callback([flags] { verify_evidence(*flags); });
}

void add_policy(CLI::App& app) {
  auto* command = app.add_subcommand("policy", "Policies: what a client accepts as evidence");
  command->require_subcommand(1);
  auto* init = command->add_subcommand("init", "Write a policy that accepts this evidence and nothing weaker");
  auto flags = std::make_shared<EvidenceFlags>();
  flags->add_common(*init);
  init->add_option("--out", flags->out, "file to make; default: printed")->type_name("FILE");
  init->callback([flags] { init_policy(*flags); });
}

}  // namespace tempo::apps
