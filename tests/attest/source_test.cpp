#include "attest/source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <thread>

#include "attest/crypto/json.h"
#include "attest/crypto/openssl.h"
#include "attest/simulated.h"
#include "attest/source/sources.h"
#include "attest/synthetic.h"
#include "base/file.h"
#include "support/temp_folder.h"
#include "tempo/error.h"

namespace tempo::attest {
namespace source_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempFolder;
using testing::to_bytes;
using testing::write_text;

ReportData some_report_data() {
  ReportData data{};
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  return data;
}

/// A kernel as far as the source sees it, with errors on demand.
struct FakeKernel {
  std::string provider = "sev_guest\n";
  Bytes report = to_bytes("the report over "), auxblob;
  uint64_t generation = 7, writes_of_others = 0;   // of others: between the request and its answer, each time one less
  std::map<std::string, std::vector<int>> errors;  // by file: errno of the next calls
  int folders_made = 0, folders_left = 0;
  Bytes inblob;

  int next_error(const std::string& name) {
    auto& queue = errors[name];
    if (queue.empty()) return 0;
    const int error = queue.front();
    queue.erase(queue.begin());
    return error;
  }
};

class FakeFiles final : public DeviceFiles {
 public:
  explicit FakeFiles(FakeKernel& kernel) : kernel_(kernel) {}

  FileResult make_folder(const std::filesystem::path& path) override {
    EXPECT_EQ(path.parent_path(), "/fake/sys/kernel/config/tsm/report");
    if (const int error = kernel_.next_error("folder")) return {error, {}};
    ++kernel_.folders_made;
    ++kernel_.folders_left;
    return {};
  }
  FileResult remove_folder(const std::filesystem::path&) override {
    --kernel_.folders_left;
    return {};
  }
  FileResult write(const std::filesystem::path& path, ByteView bytes) override {
    if (const int error = kernel_.next_error(path.filename())) return {error, {}};
    EXPECT_EQ(path.filename(), "inblob");
    kernel_.inblob.assign(bytes.begin(), bytes.end());
    ++kernel_.generation;
    return {};
  }
  FileResult read(const std::filesystem::path& path, size_t) override {
    const std::string name = path.filename();
    if (const int error = kernel_.next_error(name)) return {error, {}};
    if (name == "provider") return {0, to_bytes(kernel_.provider)};
    if (name == "generation") return {0, to_bytes(fmt::format("{}\n", kernel_.generation))};
    if (name == "auxblob") return {0, kernel_.auxblob};
    if (name != "outblob") return {ENOENT, {}};
    if (kernel_.writes_of_others > 0) {
      --kernel_.writes_of_others;
      ++kernel_.generation;
    }
    Bytes report = kernel_.report;
    report.insert(report.end(), kernel_.inblob.begin(), kernel_.inblob.end());
    return {0, report};
  }
  [[nodiscard]] bool exists(const std::filesystem::path&) const override { return true; }

 private:
  FakeKernel& kernel_;
};

class ConfigfsTsm : public ::testing::Test {
 protected:
  std::unique_ptr<EvidenceSource> source() {
    return make_configfs_tsm_source(std::make_unique<FakeFiles>(kernel_), "/fake");
  }
  Bytes expected_report() const {
    Bytes expected = kernel_.report;
    const ReportData data = some_report_data();
    expected.insert(expected.end(), data.begin(), data.end());
    return expected;
  }
  FakeKernel kernel_;
};

TEST_F(ConfigfsTsm, CollectingAsksTheKernelAndCleansUp) {
  for (const auto& [provider, tee] : {std::pair("sev_guest\n", Tee::kSevSnp), {"tdx_guest", Tee::kTdx}}) {
    kernel_.provider = provider;
    const auto made = source();
    EXPECT_EQ(made->tee(), tee);
    const Evidence evidence = made->collect(some_report_data());
    EXPECT_EQ(evidence.tee, tee);
    EXPECT_EQ(evidence.report, expected_report());
    EXPECT_EQ(kernel_.folders_left, 0);
  }
}

TEST_F(ConfigfsTsm, CollectingIsRetriedWhileTheKernelIsBusy) {
  const auto made = source();
  kernel_.errors["folder"] = {EBUSY};
  kernel_.errors["inblob"] = {EBUSY, EWOULDBLOCK};
  kernel_.errors["outblob"] = {EAGAIN};
  EXPECT_EQ(made->collect(some_report_data()).report, expected_report());
  EXPECT_EQ(kernel_.folders_left, 0);
}

TEST_F(ConfigfsTsm, AnswersToWritesOfOthersAreNotAccepted) {
  const auto made = source();
  const int before = kernel_.folders_made;
  kernel_.writes_of_others = 2;
  EXPECT_EQ(made->collect(some_report_data()).report, expected_report());
  EXPECT_EQ(kernel_.folders_made - before, 3);
  EXPECT_EQ(kernel_.folders_left, 0);
}

TEST_F(ConfigfsTsm, CollectingGivesUpAfterTenInterferencesOrAnError) {
  const auto made = source();
  kernel_.writes_of_others = 1000;
  EXPECT_EQ(message_of<RunError>([&] { made->collect(some_report_data()); }),
            "configfs-tsm: somebody else wrote to the request, 10 times; given up");
  kernel_.writes_of_others = 0;
  kernel_.errors["outblob"] = {EIO};
  EXPECT_EQ(message_of<RunError>([&] { made->collect(some_report_data()); }),
            "configfs-tsm: cannot be read: outblob: Input/output error");
  EXPECT_EQ(kernel_.folders_left, 0);
}

TEST_F(ConfigfsTsm, UnknownProvidersAndGenerationsAreRefused) {
  kernel_.provider = "arm_cca_guest";
  EXPECT_EQ(message_of<RunError>([&] { source(); }),
            "configfs-tsm: provider is \"arm_cca_guest\", expected sev_guest or tdx_guest");
  kernel_.provider = "tdx_guest";
  const auto made = source();
  kernel_.provider = "sev_guest";
  EXPECT_EQ(message_of<RunError>([&] { made->collect(some_report_data()); }), "configfs-tsm: the provider has changed");
}

Bytes table_of(const std::vector<Bytes>& items, uint32_t offset_shift = 0) {
  Bytes table, content;
  const size_t header = 24 * (items.size() + 1);
  for (const Bytes& item : items) {
    table.insert(table.end(), 16, std::byte{0x63});
    const auto append = [&](uint32_t value) {
      for (int i = 0; i < 4; ++i) table.push_back(static_cast<std::byte>(value >> (8 * i)));
    };
    append(static_cast<uint32_t>(header + content.size()) + offset_shift);
    append(static_cast<uint32_t>(item.size()));
    content.insert(content.end(), item.begin(), item.end());
  }
  table.insert(table.end(), 24, std::byte{0});
  table.insert(table.end(), content.begin(), content.end());
  return table;
}

TEST_F(ConfigfsTsm, CertificatesAreReadFromTheTable) {
  const Bytes one = to_der(testing::SyntheticKey("SEV-VCEK").self_signed().get());
  kernel_.auxblob = table_of({one, to_bytes("no certificate"), one});
  EXPECT_THAT(source()->collect(some_report_data()).certificates, ElementsAre(one, one));
  kernel_.errors["auxblob"] = {ENOENT};
  EXPECT_TRUE(source()->collect(some_report_data()).certificates.empty());
  EXPECT_THAT(message_of<InputError>([&] { parse_certificate_table(table_of({one}, 1)); }), HasSubstr("the table has"));
  EXPECT_THAT(message_of<InputError>([&] { parse_certificate_table(Bytes(20, std::byte{1})); }),
              HasSubstr("cut short"));
  EXPECT_THAT(message_of<InputError>([&] { parse_certificate_table(table_of(std::vector<Bytes>(17, one))); }),
              HasSubstr("more than 16 certificates"));
}

/// Plays the kernel over real files: fills every new folder, and answers what is written to inblob.
class KernelThread {
 public:
  explicit KernelThread(std::filesystem::path reports) : reports_(std::move(reports)), thread_([this] { run(); }) {}
  ~KernelThread() {
    stop_ = true;
    thread_.join();
  }

 private:
  void run() {
    while (!stop_) {
      for (const auto& entry : std::filesystem::directory_iterator(reports_)) serve(entry.path());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void serve(const std::filesystem::path& entry) {
    if (!std::filesystem::exists(entry / "inblob")) {
      write_text(entry / "provider", "tdx_guest\n");
      write_text(entry / "generation", "1\n");
      ASSERT_EQ(::mkfifo((entry / "outblob").c_str(), 0600), 0);  // its reader waits, as in the kernel
      write_text(entry / "inblob.new", "");
      std::filesystem::rename(entry / "inblob.new", entry / "inblob");  // last: the source begins with it
    }
    if (std::filesystem::file_size(entry / "inblob") != 64) return;
    write_text(entry / "generation.new", "2\n");
    std::filesystem::rename(entry / "generation.new", entry / "generation");
    const int reader = ::open((entry / "outblob").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (reader < 0) return;  // nobody reads yet
    EXPECT_EQ(::write(reader, "the quote", 9), 9);
    ::close(reader);
    write_text(entry / "inblob", "");
  }

  std::filesystem::path reports_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST(EvidenceSource, EvidenceIsCollectedUnderAnotherRootFolder) {
  const TempFolder root;
  const auto reports = root / "sys" / "kernel/config/tsm/report";
  std::filesystem::create_directories(reports);
  const KernelThread kernel(reports);
  const auto source = make_evidence_source("auto", root.path());
  EXPECT_EQ(source->tee(), Tee::kTdx);
  const Evidence evidence = source->collect(some_report_data());
  EXPECT_EQ(evidence.tee, Tee::kTdx);
  EXPECT_EQ(evidence.report, to_bytes("the quote"));
}

TEST(EvidenceSource, EvidenceOfGramineIsReadThroughItsFiles) {
  const TempFolder root;
  const auto folder = root / "dev" / "attestation";
  EXPECT_THAT(message_of<RunError>([&] { make_evidence_source("gramine", root.path()); }), HasSubstr("no file"));
  std::filesystem::create_directories(folder);
  write_text(folder / "attestation_type", "none");
  EXPECT_EQ(message_of<RunError>([&] { make_evidence_source("gramine", root.path()); }),
            "gramine: attestation type is \"none\", expected dcap (sgx.remote_attestation of the manifest)");
  write_text(folder / "attestation_type", "dcap");
  write_text(folder / "quote", "the quote");
  const auto source = make_evidence_source("auto", root.path());
  EXPECT_EQ(source->tee(), Tee::kSgx);
  EXPECT_THAT(message_of<RunError>([&] { source->collect(some_report_data()); }), HasSubstr("user_report_data"));
  write_text(folder / "user_report_data", "");
  EXPECT_EQ(source->collect(some_report_data()).report, to_bytes("the quote"));
  const ReportData written = some_report_data();
  EXPECT_EQ(read_file(folder / "user_report_data", 100), Bytes(written.begin(), written.end()));
  std::filesystem::remove(folder / "quote");
  EXPECT_THAT(message_of<RunError>([&] { source->collect(some_report_data()); }), HasSubstr("quote cannot be read"));
}

TEST(EvidenceSource, AutoNeverChoosesTheSimulation) {
  const TempFolder root;
  EXPECT_THAT(message_of<RunError>([&] { make_evidence_source("auto", root.path()); }), HasSubstr("no TEE"));
  EXPECT_THAT(message_of<InputError>([&] { make_evidence_source("none"); }), HasSubstr("expected auto, configfs-tsm"));
}

TEST(EvidenceSource, TheSimulationMeasuresTheRunningProgram) {
  const auto source = make_evidence_source("insecure-simulated");
  const Evidence one = source->collect(some_report_data()), two = source->collect(some_report_data());
  EXPECT_EQ(one.tee, Tee::kInsecureSimulated);
  EXPECT_NE(one.report, two.report) << "each has a key of its own";
  const InsecureSimulatedReport report = open_insecure_simulated_report(one.report);
  EXPECT_EQ(report.report_data, some_report_data());
  EXPECT_EQ(report.measurement, sha256(read_file("/proc/self/exe", size_t{1} << 30)));
}

}  // namespace source_test
}  // namespace tempo::attest
