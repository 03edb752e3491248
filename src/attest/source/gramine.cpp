#include <fmt/format.h>

#include <cstring>
#include <mutex>

#include "attest/crypto/json.h"
#include "attest/source/sources.h"
#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr const char* kFolder = "dev/attestation";
constexpr size_t kMaxTypeBytes = 64;

class Gramine final : public EvidenceSource {
 public:
  Gramine(std::unique_ptr<DeviceFiles> files, const std::filesystem::path& root)
      : files_(std::move(files)), folder_(root / kFolder) {
    const Bytes type = read("attestation_type", kMaxTypeBytes);
    std::string_view name = as_text(type);
    while (!name.empty() && (name.back() == '\n' || name.back() == '\0')) name.remove_suffix(1);
    if (name != "dcap")
      throw RunError(
          fmt::format("gramine: attestation type is {}, expected dcap (sgx.remote_attestation of the manifest)",
                      quote_untrusted(name)));
  }

  [[nodiscard]] Tee tee() const override { return Tee::kSgx; }

  Evidence collect(std::span<const std::byte, 64> report_data) override {
    const std::lock_guard lock(mutex_);  // the files are the process's, not a request's
    if (const int error = files_->write(folder_ / "user_report_data", report_data).error; error != 0)
      throw RunError(fmt::format("gramine: user_report_data cannot be written: {}", std::strerror(error)));
    return {.tee = Tee::kSgx, .report = read("quote", kMaxReportBytes), .certificates = {}, .runtime_data = {}};
  }

 private:
  Bytes read(const char* name, size_t max_bytes) {
    FileResult result = files_->read(folder_ / name, max_bytes);
    if (result.error != 0)
      throw RunError(fmt::format("gramine: {} cannot be read: {}", name, std::strerror(result.error)));
    return std::move(result.bytes);
  }

  std::unique_ptr<DeviceFiles> files_;
  std::filesystem::path folder_;
  std::mutex mutex_;
};

}  // namespace

bool has_gramine(const DeviceFiles& files, const std::filesystem::path& root) {
  return files.exists(root / kFolder / "attestation_type");
}

std::unique_ptr<EvidenceSource> make_gramine_source(std::unique_ptr<DeviceFiles> files,
                                                    const std::filesystem::path& root) {
  if (!has_gramine(*files, root))
    throw RunError(fmt::format("gramine: no file {}; expected to run under Gramine with remote attestation",
                               (root / kFolder / "attestation_type").string()));
  return std::make_unique<Gramine>(std::move(files), root);
}

}  // namespace tempo::attest
