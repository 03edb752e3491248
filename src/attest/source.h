/// Where evidence comes from, inside the TEE.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "attest/evidence.h"

namespace tempo::attest {

/// Thread-safe: one `collect` at a time, others wait.
class EvidenceSource {
 public:
  virtual ~EvidenceSource() = default;
  [[nodiscard]] virtual Tee tee() const = 0;
  /// Asks the hardware for evidence over `report_data`. @throws RunError if the platform fails or keeps being busy.
  virtual Evidence collect(std::span<const std::byte, 64> report_data) = 0;
};

/// @param name `configfs-tsm` (SEV-SNP and TDX guests, Linux 6.7 and later), `gramine` (SGX), `insecure-simulated`, or
/// `auto`: the first of the former two that is there. `auto` never takes `insecure-simulated`.
/// @param root of the file system, for tests.
/// @throws InputError for another name; RunError if the platform is not there.
std::unique_ptr<EvidenceSource> make_evidence_source(std::string_view name, const std::filesystem::path& root = "/");

}  // namespace tempo::attest
