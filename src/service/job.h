/// One job: its files, and what is known of it once its key has been released.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "service/job_record.h"
#include "tempo/error.h"
#include "tempo/run.h"

namespace tempo::service {

/// What a client may know of its job.
struct JobView {
  JobId job{};
  Phase phase = Phase::kUploading;
  uint64_t counter = 0;  ///< of the state on disk; 0 while that is sealed
  uint64_t step = 0, uploaded = 0, archive_bytes = 0;
  uint32_t ahead = 0;  ///< jobs that run before it
  std::string note;
};

/// What the service's operator may see of a job without its owner's leave: nothing that a host cannot find out anyway,
/// from the disk, the log, and what goes to workers (docs/service.md).
struct JobSight {
  JobId job{};
  Phase phase = Phase::kUploading;
  int64_t began = 0;  ///< seconds since 1970 when its run began here; 0: it has not
  uint64_t step = 0;  ///< of its last checkpoint here
  uint64_t workers = 0, archive_bytes = 0;
};

/// Files of a job, in a folder of its own: `job` (its record), `data.partial` while it is uploaded, then `data.sealed`,
/// `state.sealed`, and `checkpoint-N.sealed`. Thread-safe.
class Job {
 public:
  /// Makes the folder and the record.
  static std::shared_ptr<Job> create(const std::filesystem::path& folder, const JobRecord& record);
  /// What an earlier run of the service left. @throws InputError for a folder that is none of a job.
  static std::shared_ptr<Job> load(const std::filesystem::path& folder);

  [[nodiscard]] const JobRecord& record() const { return record_; }
  [[nodiscard]] JobView view() const;
  [[nodiscard]] JobSight sight() const;
  /// Appends to the archive. @param offset must be what has been received so far. @throws InputError otherwise, beyond
  /// the announced size, or once the upload is complete.
  void upload(uint64_t offset, attest::ByteView bytes);

  /// Takes the client's keys: makes the first state, or opens the one on disk and compares it with what the client
  /// knows. The job is then queued. @param owner who releases. @throws InputError if the job is not one that waits for
  /// its key, the configuration is missing, or the key opens nothing; AttestationError if the state is older than the
  /// client's counter, of another owner, or its checkpoint is gone.
  void release(Release&& release, const attest::Digest32& owner);

  /// Lines from number `from` on, and the number of the first of them. @throws InputError while the state is sealed.
  std::vector<std::string> lines(uint64_t from, uint64_t& first) const;
  /// Asks a run to stop after its step; what only waits is over at once. @throws InputError if its key was not
  /// released.
  void cancel();
  [[nodiscard]] const std::atomic<bool>& stop_flag() const { return stop_; }
  /// The service stops: the run does, too, and goes on another time.
  void interrupt() { stop_ = true; }
  /// Whether it waits for a key and has no configuration yet.
  [[nodiscard]] bool has_nothing_to_run() const;

  /// A piece of a file as it lies on disk, sealed. @param total its size. @throws InputError if it is not there, or the
  /// job is running: then it changes.
  attest::Bytes read_state(uint64_t offset, size_t most, uint64_t& total) const;
  attest::Bytes read_checkpoint(uint64_t number, uint64_t offset, size_t most, uint64_t& total) const;

  /// Trains. @param base the service's own settings. @param train runs it: `run_training`. Never throws: a failure is
  /// the job's.
  using Train = RunSummary (*)(const RunConfig&, const RunHooks&);
  void run(const RunConfig& base, Train train) noexcept;

  /// Deletes its folder. @throws InputError while it runs.
  void remove();

 private:
  class Keeper;
  struct Keys {
    SecretKey data, state;
  };

  Job(std::filesystem::path folder, const JobRecord& record) : folder_(std::move(folder)), record_(record) {}
  [[nodiscard]] std::filesystem::path file(const char* name) const { return folder_ / name; }
  [[nodiscard]] std::filesystem::path checkpoint_file(uint64_t number) const;
  [[nodiscard]] attest::Bytes read_piece(const std::filesystem::path& file, uint64_t offset, size_t most,
                                         uint64_t& total) const;
  // With the mutex held:
  void open_state(const Release& release, const attest::Digest32& owner);
  void save();  ///< raises the counter
  void drop_other_checkpoints() const;
  void finish(Phase phase, const std::string& note, const std::string& summary);

  const std::filesystem::path folder_;
  const JobRecord record_;
  mutable std::mutex mutex_;
  Phase phase_ = Phase::kUploading;
  uint64_t uploaded_ = 0;
  bool is_cancelled_ = false;
  std::atomic<bool> stop_ = false;
  std::optional<Keys> keys_;  ///< from release to the end of the run
  JobState state_;            ///< `counter` 0: sealed
  size_t log_bytes_ = 0;
  int64_t began_ = 0;     // seconds since 1970
  uint64_t workers_ = 0;  // of the run that goes on
};

}  // namespace tempo::service
