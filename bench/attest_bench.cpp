// How long it takes to verify a piece of real evidence, from its bytes to the verdict, collateral parsed anew each
// time. The folder of evidence comes from TEMPO_ATTESTATION_VECTORS. Every verdict is checked.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "attest/appraisal.h"
#include "base/file.h"
#include "benches.h"
#include "tempo/error.h"

namespace {

using namespace tempo::attest;

struct Case {
  std::string name, evidence, collateral, now;
};

const std::vector<Case> kCases = {
    {"sev_snp_milan", "snp/milan_v3_azure_aci.report.bin", "snp/milan_v3_azure_aci.vcek.pem", "2026-06-01"},
    {"sev_snp_turin", "snp/turin_v5_azure_aci.report.bin", "snp/turin_v5_azure_aci.vcek.pem", "2026-06-01"},
    {"sev_snp_vlek", "snp/milan_v3_aws_VLEK.report.bin", "snp/milan_v3_aws_VLEK.vlek.der", "2025-06-01"},
    {"tdx_v4", "tdx/v4_uptodate.quote.bin", "tdx/v4_uptodate.collateral.json", "2025-07-01"},
    {"sgx_v3", "sgx/v3_prod.quote.bin", "sgx/v3_prod.collateral.json", "2025-07-01"},
};

void verify(benchmark::State& state, const std::filesystem::path& folder, const Case& c) {
  const auto evidence = tempo::read_file(folder / c.evidence, kMaxEvidenceBytes);
  const auto collateral = tempo::read_file(folder / c.collateral, kMaxCollateralBytes);
  Expected expected;
  expected.now = parse_utc(c.now, "now");
  const Policy policy =
      policy_from(parse_evidence(evidence, c.evidence), parse_collateral(collateral, c.collateral), expected.now);
  const auto run = [&](const std::vector<std::byte>& bytes) {
    return appraise(parse_evidence(bytes, c.evidence), parse_collateral(collateral, c.collateral), policy, expected,
                    nullptr);
  };
  auto altered = evidence;
  altered[0x60] ^= std::byte{1};
  if (!run(evidence).accepted || run(altered).accepted) {
    state.SkipWithError("wrong verdict: timing discarded");
    return;
  }
  for (auto _ : state) {
    const Appraisal appraisal = run(evidence);
    if (!appraisal.accepted) state.SkipWithError("wrong verdict: timing discarded");
    benchmark::DoNotOptimize(&appraisal);
  }
}

}  // namespace

int tempo::bench::run_attest(int argc, char** argv) {
  const char* folder = std::getenv("TEMPO_ATTESTATION_VECTORS");
  if (folder == nullptr || *folder == '\0')
    throw InputError("attest: TEMPO_ATTESTATION_VECTORS names no folder of real evidence, expected one");
  for (const Case& c : kCases)
    benchmark::RegisterBenchmark(("verify/" + c.name).c_str(), verify, std::filesystem::path(folder), c)
        ->Unit(benchmark::kMillisecond)
        ->MinTime(0.5);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
