/// Real evidence of real hardware, which is not part of the repository: the folder comes from
/// TEMPO_ATTESTATION_VECTORS.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "attest/appraisal.h"
#include "attest/collateral.h"
#include "attest/evidence.h"
#include "base/file.h"

namespace tempo::testing {

/// Skips, loudly, where there are no vectors.
class VectorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("TEMPO_ATTESTATION_VECTORS");
    if (folder == nullptr || *folder == '\0')
      GTEST_SKIP() << "TEMPO_ATTESTATION_VECTORS names no folder of attestation vectors: NOT TESTED on real evidence";
    folder_ = folder;
  }

  [[nodiscard]] attest::Bytes bytes(const std::string& name) const { return read_file(folder_ / name, 1 << 20); }
  [[nodiscard]] attest::Evidence evidence(const std::string& name) const {
    return attest::parse_evidence(bytes(name), name);
  }
  [[nodiscard]] attest::Collateral collateral(std::initializer_list<std::string> names) const {
    attest::Collateral all;
    for (const std::string& name : names) all.merge(attest::parse_collateral(bytes(name), name));
    return all;
  }

  std::filesystem::path folder_;
};

inline attest::UtcTime at(std::string_view time) { return attest::parse_utc(time, "time"); }
inline attest::Expected at_time(std::string_view time) {
  return {.report_data = {}, .config_hash = {}, .now = at(time)};
}

}  // namespace tempo::testing
