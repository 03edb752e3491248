// tempo seal | unseal: files and folders into sealed archives and back.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>

#include "base/progress_line.h"
#include "commands.h"
#include "common/program.h"
#include "observe/standard_streams.h"
#include "seal/archive_folder.h"
#include "seal/key_file.h"

namespace tempo::apps {
namespace {

struct SealFlags {
  std::string key, in, out;
  int threads = 0;

  void add_to(CLI::App& command, const char* in_help, const char* out_help, const char* out_type) {
    command.add_option("--key", key, "key file, from tempo keygen --out")->required()->type_name("FILE");
    command.add_option("--in", in, in_help)->required()->type_name("PATH");
    command.add_option("--out", out, out_help)->required()->type_name(out_type);
    command.add_option("--threads", threads, "0: all cores")->check(Number::whole(0, 1024));
  }
  [[nodiscard]] int thread_count() const {
    return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
};

std::string size_text(uint64_t bytes) {
  if (bytes < 1'000'000) return fmt::format("{} bytes", bytes);
  if (bytes < 1'000'000'000) return fmt::format("{:.1f} MB", static_cast<double>(bytes) * 1e-6);
  return fmt::format("{:.2f} GB", static_cast<double>(bytes) * 1e-9);
}

/// On standard error, where that is a terminal: a bar for what is checked first, another for the work.
class Bars {
 public:
  void show(bool is_checking, uint64_t done, uint64_t total) {
    if (isatty(STDERR_FILENO) == 0) return;
    if (!bar_ || is_checking != is_checking_) {
      bar_.emplace(true, stderr);
      is_checking_ = is_checking;
      first_ = done;
      start_ = std::chrono::steady_clock::now();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
    const double rate = seconds.count() > 0 ? static_cast<double>(done - first_) * 1e-6 / seconds.count() : 0;
    bar_->update(static_cast<int64_t>(done), static_cast<int64_t>(total),
                 [=, what = is_checking ? "checking what is there  " : ""](const std::string& eta) {
                   const std::string size = fmt::format("{}{} of {}", what, size_text(done), size_text(total));
                   const std::string speed = fmt::format("{:.0f} MB/s", rate);
                   return std::vector<ProgressPart>{{size, size}, {speed, speed}, {eta + " left", eta + " left"}};
                 });
  }

 private:
  std::optional<ProgressLine> bar_;
  bool is_checking_ = false;
  uint64_t first_ = 0;
  std::chrono::steady_clock::time_point start_;
};

template <typename Work>
auto with_bars(const SealFlags& flags, const Work& work) {
  Bars bars;
  return work(seal::ArchiveOptions{
      .threads = flags.thread_count(),
      .on_progress = [&](bool is_checking, uint64_t done, uint64_t total) { bars.show(is_checking, done, total); }});
}

void run_seal(const SealFlags& flags) {
  const SecretKey key = seal::load_key(flags.key);
  const seal::SealReport report = with_bars(
      flags, [&](const seal::ArchiveOptions& options) { return seal::seal_path(flags.in, flags.out, key, options); });
  if (report.has_begun_anew)
    observe::note(
        "note: what an interrupted run had left could not be gone on with: the source has changed since, or no "
        "whole chunk was there\n");
  if (report.resumed_bytes != 0)
    observe::print("went on after {} that were sealed already\n", size_text(report.resumed_bytes));
  observe::print("sealed {} {}, {}, into {}: archive {}, key {}\n", report.files, report.files == 1 ? "file" : "files",
                 size_text(report.bytes), flags.out, report.archive_id, seal::key_id(key));
}

void run_unseal(const SealFlags& flags) {
  const SecretKey key = seal::load_key(flags.key);
  const seal::UnsealReport report = with_bars(flags, [&](const seal::ArchiveOptions& options) {
    return seal::unseal_archive(flags.in, flags.out, key, options);
  });
  if (report.kept_bytes != 0) observe::print("went on with {} that were there already\n", size_text(report.kept_bytes));
  observe::print("unsealed {} {}, {}, into {}: archive {}\n", report.files, report.files == 1 ? "file" : "files",
                 size_text(report.bytes), flags.out, report.archive_id);
}

}  // namespace

void add_seal(CLI::App& app) {
  auto* command = app.add_subcommand("seal", "Seal a file or a folder into an archive that only a key opens");
  auto flags = std::make_shared<SealFlags>();
  flags->add_to(*command, "file or folder to seal", "archive to make; FILE.partial until it is whole", "FILE");
  command->callback([flags] { run_seal(*flags); });
}

void add_unseal(CLI::App& app) {
  auto* command = app.add_subcommand("unseal", "Write what is in a sealed archive, in plain, into a new folder");
  auto flags = std::make_shared<SealFlags>();
  flags->add_to(*command, "sealed archive", "folder to make; DIR.partial until it is whole", "DIR");
  command->callback([flags] { run_unseal(*flags); });
}

}  // namespace tempo::apps
