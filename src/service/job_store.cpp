#include "service/job_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/path.h"
#include "tempo/error.h"

namespace tempo::service {
namespace {

namespace fs = std::filesystem;

/// @returns the folder, which only this user can look into.
const fs::path& make_private(const fs::path& folder) {
  make_folders(folder);
  std::error_code error;
  fs::permissions(folder, fs::perms::owner_all, error);
  return folder;
}

}  // namespace

JobStore::JobStore(const fs::path& folder, const StoreLimits& limits, observe::Log& log)
    : folder_(folder), limits_(limits), lock_(make_private(folder)) {
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (!entry.is_directory()) continue;
    try {
      auto job = Job::load(entry.path());
      if (jobs_.size() >= limits_.jobs) throw InputError("more jobs than the service holds");
      jobs_[job->record().job] = std::move(job);
    } catch (const Error& error) {
      log.warning("job_skipped", {{"reason", error.what()}});
    }
  }
}

std::shared_ptr<Job> JobStore::create(const attest::Digest32& owner, uint64_t archive_bytes) {
  const std::lock_guard lock(mutex_);
  const auto own =
      std::count_if(jobs_.begin(), jobs_.end(), [&](const auto& j) { return j.second->record().owner == owner; });
  if (static_cast<size_t>(own) >= limits_.jobs_per_client)
    throw InputError(fmt::format("job: this client has {} jobs here, expected that one is removed first", own));
  if (jobs_.size() >= limits_.jobs) throw InputError("job: the service holds as many jobs as it may");
  if (archive_bytes > limits_.archive_bytes)
    throw InputError(
        fmt::format("job: an archive of {} bytes, expected at most {}", archive_bytes, limits_.archive_bytes));
  const JobId id = random_job_id();
  auto job = Job::create(folder_ / to_string(id), {.job = id, .owner = owner, .archive_bytes = archive_bytes});
  jobs_[id] = job;
  return job;
}

std::shared_ptr<Job> JobStore::find(const attest::Digest32& owner, const JobId& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = jobs_.find(id);
  return found != jobs_.end() && found->second->record().owner == owner ? found->second : nullptr;
}

std::vector<std::shared_ptr<Job>> JobStore::all_of(const attest::Digest32& owner) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Job>> found;
  for (const auto& [id, job] : jobs_)
    if (job->record().owner == owner) found.push_back(job);
  return found;
}

std::vector<std::shared_ptr<Job>> JobStore::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Job>> found;
  for (const auto& [id, job] : jobs_) found.push_back(job);
  return found;
}

void JobStore::remove(const std::shared_ptr<Job>& job) {
  const std::lock_guard lock(mutex_);
  job->remove();
  jobs_.erase(job->record().job);
}

JobQueue::JobQueue(RunConfig base, Job::Train train, observe::Log& log)
    : base_(std::move(base)), train_(train), log_(log), thread_([this] { run_all(); }) {}

JobQueue::~JobQueue() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    if (running_) running_->interrupt();
  }
  changed_.notify_all();
  thread_.join();
}

void JobQueue::add(std::shared_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  changed_.notify_all();
}

uint32_t JobQueue::ahead_of(const Job& job) const {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < waiting_.size(); ++i)
    if (waiting_[i].get() == &job) return static_cast<uint32_t>(i) + (running_ ? 1 : 0);
  return 0;
}

void JobQueue::run_all() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_stopping_ || !waiting_.empty(); });
    if (is_stopping_) return;
    running_ = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    const std::string id = to_string(running_->record().job);
    log_.info("job_started", {{"job", id}});
    running_->run(base_, train_);
    const JobView view = running_->view();
    log_.info("job_ended", {{"job", id}, {"phase", to_string(view.phase)}, {"step", view.step}});
    lock.lock();
    running_.reset();
  }
}

}  // namespace tempo::service
