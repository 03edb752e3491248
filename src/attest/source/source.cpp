#include "attest/source.h"

#include <fmt/format.h>

#include "attest/crypto/openssl.h"
#include "attest/simulated.h"
#include "attest/source/sources.h"
#include "base/byte_reader.h"
#include "base/file.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr size_t kMaxProgramBytes = size_t{4} << 30U;

class InsecureSimulated final : public EvidenceSource {
 public:
  explicit InsecureSimulated(const Digest32& measurement) : measurement_(measurement) {}

  [[nodiscard]] Tee tee() const override { return Tee::kInsecureSimulated; }

  Evidence collect(std::span<const std::byte, 64> report_data) override {
    InsecureSimulatedReport report{.measurement = measurement_, .report_data = {}};
    std::copy(report_data.begin(), report_data.end(), report.report_data.begin());
    return {.tee = tee(), .report = make_insecure_simulated_report(report), .certificates = {}, .runtime_data = {}};
  }

 private:
  const Digest32 measurement_;
};

}  // namespace

std::unique_ptr<EvidenceSource> make_insecure_simulated_source(const std::filesystem::path& root) {
  const std::filesystem::path program = root / "proc/self/exe";
  try {
    return std::make_unique<InsecureSimulated>(sha256(read_file(program, kMaxProgramBytes)));
  } catch (const InputError& error) {
    throw RunError(fmt::format("insecure-simulated: {}", error.what()));
  }
}

std::unique_ptr<EvidenceSource> make_evidence_source(std::string_view name, const std::filesystem::path& root) {
  auto files = make_device_files();
  if (name == "configfs-tsm") return make_configfs_tsm_source(std::move(files), root);
  if (name == "gramine") return make_gramine_source(std::move(files), root);
  if (name == "insecure-simulated") return make_insecure_simulated_source(root);
  if (name != "auto")
    throw InputError(fmt::format("evidence source: got {}, expected auto, configfs-tsm, gramine or insecure-simulated",
                                 quote_untrusted(name)));
  if (has_configfs_tsm(*files, root)) return make_configfs_tsm_source(std::move(files), root);
  if (has_gramine(*files, root)) return make_gramine_source(std::move(files), root);
  throw RunError(
      "evidence source: neither configfs-tsm nor gramine is there: this is no TEE that is known here; to run without "
      "one, "
      "ask for insecure-simulated");
}

}  // namespace tempo::attest
