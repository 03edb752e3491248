/// All jobs of the service, and the queue in which they run, one after the other.
#pragma once

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/folder_lock.h"
#include "observe/log.h"
#include "service/job.h"

namespace tempo::service {

struct StoreLimits {
  size_t jobs_per_client = 16;
  size_t jobs = 256;
  uint64_t archive_bytes = uint64_t{16} << 30;  ///< of one upload
};

/// Jobs by client. Thread-safe.
class JobStore {
 public:
  /// Takes in what an earlier run left in `folder`; what is none of its jobs is logged and left alone. One service a
  /// folder: a second is refused. @throws InputError
  JobStore(const std::filesystem::path& folder, const StoreLimits& limits, observe::Log& log);

  /// @throws InputError if the client has too many jobs, or the archive is too large
  std::shared_ptr<Job> create(const attest::Digest32& owner, uint64_t archive_bytes);
  /// The client's own job, or nullptr: whether there is one of somebody else cannot be told from the answer.
  [[nodiscard]] std::shared_ptr<Job> find(const attest::Digest32& owner, const JobId& id) const;
  [[nodiscard]] std::vector<std::shared_ptr<Job>> all_of(const attest::Digest32& owner) const;
  /// Jobs of every client, for the operator.
  [[nodiscard]] std::vector<std::shared_ptr<Job>> all() const;
  /// Deletes it. @throws InputError while it is queued or running.
  void remove(const std::shared_ptr<Job>& job);

 private:
  const std::filesystem::path folder_;
  const StoreLimits limits_;
  FolderLock lock_;
  mutable std::mutex mutex_;
  std::map<JobId, std::shared_ptr<Job>> jobs_;
};

/// Runs jobs one at a time on a thread of its own. Thread-safe.
class JobQueue {
 public:
  /// @param base the service's own settings of a run. @param train `run_training`.
  JobQueue(RunConfig base, Job::Train train, observe::Log& log);
  /// Has the running job save and stop; it is waiting for its key afterwards.
  ~JobQueue();
  JobQueue(const JobQueue&) = delete;
  JobQueue& operator=(const JobQueue&) = delete;

  void add(std::shared_ptr<Job> job);
  /// How many run before it; 0 also if it is not queued.
  [[nodiscard]] uint32_t ahead_of(const Job& job) const;

 private:
  void run_all();

  const RunConfig base_;
  const Job::Train train_;
  observe::Log& log_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::shared_ptr<Job> running_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace tempo::service
