#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <thread>

#include "attest/crypto/certificates.h"
#include "attest/crypto/json.h"
#include "attest/source/sources.h"
#include "base/byte_reader.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace {

constexpr const char* kReports = "sys/kernel/config/tsm/report";
constexpr int kAttempts = 10;
constexpr auto kFirstPause = std::chrono::milliseconds(10);  // doubled each time: five seconds in all
constexpr int kMaxWaits = 1000;
constexpr auto kWait = std::chrono::milliseconds(1);
constexpr size_t kMaxTextBytes = 4096, kMaxTableBytes = 64 << 10;

/// What passes: another process uses the interface.
bool is_passing(int error) { return error == EBUSY || error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

std::string trimmed(const Bytes& bytes) {
  std::string text(as_text(bytes));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

/// Thrown where trying again is worth it.
class Passing : public RunError {
  using RunError::RunError;
};

/// One request: a folder that the kernel fills with files.
class Entry {
 public:
  Entry(DeviceFiles& files, const std::filesystem::path& reports) : files_(files) {
    std::array<unsigned char, 8> random{};
    randombytes_buf(random.data(), random.size());
    path_ = reports / ("tempo-" + to_hex(std::as_bytes(std::span(random))));
    const int error = files_.make_folder(path_).error;
    if (error != 0) fail(error, "made");
    // The kernel has filled the folder by now; what stands for one in a test may take a moment.
    for (int i = 0; i < kMaxWaits && !files_.exists(path_ / "inblob"); ++i) std::this_thread::sleep_for(kWait);
  }
  ~Entry() { files_.remove_folder(path_); }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

  [[nodiscard]] Bytes read(const char* name, size_t max_bytes) const {
    FileResult result = files_.read(path_ / name, max_bytes);
    if (result.error != 0) fail(result.error, fmt::format("read: {}", name));
    return std::move(result.bytes);
  }
  void write(const char* name, ByteView bytes) const {
    const int error = files_.write(path_ / name, bytes).error;
    if (error != 0) fail(error, fmt::format("written: {}", name));
  }
  /// Counts the writes to this entry, whoever makes them.
  [[nodiscard]] uint64_t generation() const {
    const std::string text = trimmed(read("generation", kMaxTextBytes));
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      throw RunError(fmt::format("configfs-tsm: generation is {}, expected a number", quote_untrusted(text, 32)));
    return value;
  }
  /// Empty where the platform has none.
  [[nodiscard]] Bytes read_optional(const char* name, size_t max_bytes) const {
    FileResult result = files_.read(path_ / name, max_bytes);
    if (result.error == ENOENT || result.error == ENXIO) return {};
    if (result.error != 0) fail(result.error, fmt::format("read: {}", name));
    return std::move(result.bytes);
  }

 private:
  [[noreturn]] static void fail(int error, const std::string& act) {
    const std::string message = fmt::format("configfs-tsm: cannot be {}: {}", act, std::strerror(error));
    if (is_passing(error)) throw Passing(message);
    throw RunError(message);
  }

  DeviceFiles& files_;
  std::filesystem::path path_;
};

/// Runs `attempt` until it does not throw Passing, a bounded number of times.
template <typename Attempt>
auto persist(const Attempt& attempt) {
  auto pause = kFirstPause;
  for (int i = 1;; ++i) {
    try {
      return attempt();
    } catch (const Passing& passing) {
      if (i == kAttempts) throw RunError(fmt::format("{}, {} times; given up", passing.what(), kAttempts));
    }
    std::this_thread::sleep_for(pause);
    pause *= 2;
  }
}

Tee tee_of_provider(const std::string& provider) {
  if (provider == "sev_guest") return Tee::kSevSnp;
  if (provider == "tdx_guest") return Tee::kTdx;
  throw RunError(
      fmt::format("configfs-tsm: provider is {}, expected sev_guest or tdx_guest", quote_untrusted(provider)));
}

class ConfigfsTsm final : public EvidenceSource {
 public:
  ConfigfsTsm(std::unique_ptr<DeviceFiles> files, const std::filesystem::path& root)
      : files_(std::move(files)), reports_(root / kReports) {
    tee_ = persist([&] { return tee_of_provider(trimmed(Entry(*files_, reports_).read("provider", kMaxTextBytes))); });
  }

  [[nodiscard]] Tee tee() const override { return tee_; }

  Evidence collect(std::span<const std::byte, 64> report_data) override {
    const std::lock_guard lock(mutex_);
    return persist([&] { return collect_once(report_data); });
  }

 private:
  Evidence collect_once(ByteView report_data) {
    const Entry entry(*files_, reports_);
    const uint64_t before = entry.generation();
    entry.write("inblob", report_data);
    Evidence evidence{.tee = tee_of_provider(trimmed(entry.read("provider", kMaxTextBytes))),
                      .report = entry.read("outblob", kMaxReportBytes),
                      .certificates = {},
                      .runtime_data = {}};
    if (evidence.tee != tee_) throw RunError("configfs-tsm: the provider has changed");
    if (tee_ == Tee::kSevSnp)
      evidence.certificates = parse_certificate_table(entry.read_optional("auxblob", kMaxTableBytes));
    if (entry.generation() != before + 1) throw Passing("configfs-tsm: somebody else wrote to the request");
    return evidence;
  }

  std::unique_ptr<DeviceFiles> files_;
  std::filesystem::path reports_;
  Tee tee_;
  std::mutex mutex_;
};

}  // namespace

std::vector<Bytes> parse_certificate_table(ByteView table) {
  std::vector<Bytes> certificates;
  if (table.empty()) return certificates;
  ByteReader reader(table, "certificate table");
  for (;;) {
    const ByteView guid = reader.bytes(16);
    const uint32_t offset = reader.u32(), size = reader.u32();
    if (std::all_of(guid.begin(), guid.end(), [](std::byte byte) { return byte == std::byte{0}; })) return certificates;
    if (offset > table.size() || size > table.size() - offset)
      throw InputError(
          fmt::format("certificate table: entry at {} of {} bytes, the table has {}", offset, size, table.size()));
    const ByteView der = table.subspan(offset, size);
    try {
      parse_certificate(der, "certificate table");
    } catch (const AttestationError&) {
      continue;
    }
    if (size > kMaxCertificateBytes || certificates.size() == kMaxCertificates)
      throw InputError(fmt::format("certificate table: more than {} certificates, or one over {} bytes",
                                   kMaxCertificates, kMaxCertificateBytes));
    certificates.emplace_back(der.begin(), der.end());
  }
}

bool has_configfs_tsm(const DeviceFiles& files, const std::filesystem::path& root) {
  return files.exists(root / kReports);
}

std::unique_ptr<EvidenceSource> make_configfs_tsm_source(std::unique_ptr<DeviceFiles> files,
                                                         const std::filesystem::path& root) {
  if (!has_configfs_tsm(*files, root))
    throw RunError(fmt::format("configfs-tsm: no folder {}; expected a guest of SEV-SNP or TDX with Linux 6.7 or later",
                               (root / kReports).string()));
  return std::make_unique<ConfigfsTsm>(std::move(files), root);
}

}  // namespace tempo::attest
