#include "service/job.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "service/job_config.h"
#include "tempo/error.h"
#include "wire/descriptor.h"

namespace tempo::service {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecordFile = "job";
constexpr const char* kPartialFile = "data.partial";
constexpr const char* kArchiveFile = "data.sealed";
constexpr const char* kStateFile = "state.sealed";
constexpr size_t kMaxRecordBytes = 256;

uint64_t size_of(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  return error ? 0 : size;
}

/// Appends at `offset`, synced, so that an upload can go on after a crash.
void append_to(const fs::path& file, uint64_t offset, attest::ByteView bytes) {
  const wire::UniqueDescriptor out(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  bool is_written = static_cast<bool>(out);
  while (is_written && !bytes.empty()) {
    const ssize_t count = ::pwrite(out.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    is_written = count > 0;
    if (!is_written) break;
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  if (!is_written) throw RunError(fmt::format("job: the archive cannot be written: {}", std::strerror(errno)));
}

void sync(const fs::path& file) {
  const wire::UniqueDescriptor out(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!out || ::fsync(out.get()) != 0)
    throw RunError(fmt::format("job: the archive cannot be synced: {}", std::strerror(errno)));
}

std::string first_line(const std::string& text) { return text.substr(0, std::min(text.find('\n'), kMaxNoteBytes)); }

}  // namespace

std::shared_ptr<Job> Job::create(const fs::path& folder, const JobRecord& record) {
  std::error_code error;
  if (!fs::create_directory(folder, error) || error)
    throw RunError(fmt::format("job: its folder cannot be made: {}", error.message()));
  fs::permissions(folder, fs::perms::owner_all, error);
  if (error) throw RunError(fmt::format("job: its folder cannot be kept private: {}", error.message()));
  AtomicFile file(folder / kRecordFile, 0600);
  file.write(encode(record));
  file.commit();
  std::shared_ptr<Job> job(new Job(folder, record));
  if (record.archive_bytes == 0) job->phase_ = Phase::kWaitingForKey;
  return job;
}

std::shared_ptr<Job> Job::load(const fs::path& folder) {
  const fs::path file = folder / kRecordFile;
  const JobRecord record = parse_job_record(read_file(file, kMaxRecordBytes), file.string());
  if (to_string(record.job) != folder.filename().string())
    throw InputError(fmt::format("{}: is of another job", file.string()));
  std::shared_ptr<Job> job(new Job(folder, record));
  const bool is_whole = size_of(job->file(kArchiveFile)) == record.archive_bytes;
  job->uploaded_ = is_whole ? record.archive_bytes : size_of(job->file(kPartialFile));
  job->phase_ = is_whole ? Phase::kWaitingForKey : Phase::kUploading;
  if (job->uploaded_ > record.archive_bytes)
    throw InputError(fmt::format("{}: more than was announced", folder.string()));
  return job;
}

JobView Job::view() const {
  const std::lock_guard lock(mutex_);
  return {.job = record_.job,
          .phase = phase_,
          .counter = state_.counter,
          .step = state_.step,
          .uploaded = uploaded_,
          .archive_bytes = record_.archive_bytes,
          .note = state_.note};
}

JobSight Job::sight() const {
  const std::lock_guard lock(mutex_);
  return {.job = record_.job,
          .phase = phase_,
          .began = began_,
          .step = state_.step,
          .workers = phase_ == Phase::kRunning ? workers_ : 0,
          .archive_bytes = record_.archive_bytes};
}

bool Job::has_nothing_to_run() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kWaitingForKey && !keys_ && !fs::exists(file(kStateFile));
}

void Job::upload(uint64_t offset, attest::ByteView bytes) {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kUploading) throw InputError("upload: the archive is complete");
  if (offset != uploaded_)
    throw InputError(fmt::format("upload: got bytes from {} on, expected those from {} on", offset, uploaded_));
  if (bytes.empty() || bytes.size() > record_.archive_bytes - uploaded_)
    throw InputError(
        fmt::format("upload: got {} bytes, expected 1 to {}", bytes.size(), record_.archive_bytes - uploaded_));
  append_to(file(kPartialFile), offset, bytes);
  uploaded_ += bytes.size();
  if (uploaded_ < record_.archive_bytes) return;
  sync(file(kPartialFile));
  std::error_code error;
  fs::rename(file(kPartialFile), file(kArchiveFile), error);
  if (error) throw RunError(fmt::format("job: the archive cannot be put in place: {}", error.message()));
  phase_ = Phase::kWaitingForKey;
}

void Job::release(Release&& release, const attest::Digest32& owner) {
  const std::lock_guard lock(mutex_);
  const bool may_go_on = phase_ == Phase::kWaitingForKey || phase_ == Phase::kCancelled || phase_ == Phase::kFailed;
  if (!may_go_on || keys_)
    throw InputError(fmt::format("job: it is {}, expected one that waits for its key", to_string(phase_)));
  SecretKey state_key = job_key(release.data_key, record_.job);
  keys_ = Keys{std::move(release.data_key), std::move(state_key)};
  try {
    open_state(release, owner);
    stop_ = is_cancelled_ = false;
    if (state_.phase != Phase::kDone) state_.phase = Phase::kQueued;
    state_.note.clear();
    save();
    drop_other_checkpoints();
  } catch (...) {
    keys_.reset();
    state_ = {};
    throw;
  }
  phase_ = state_.phase;
  if (phase_ == Phase::kDone) keys_.reset();
}

void Job::open_state(const Release& release, const attest::Digest32& owner) {
  const bool is_there = fs::exists(file(kStateFile));
  if (!is_there && release.counter > 0)
    throw AttestationError(fmt::format("job: its state is gone; the client has seen state {}", release.counter));
  if (!is_there && !release.is_first) throw InputError("job: it has no state yet, expected its configuration");
  if (!is_there) {
    check_job_settings(release.config, record_.archive_bytes);
    state_ = {};
    state_.job = record_.job;
    state_.owner = owner;
    state_.config = release.config;
    state_.archive_id = release.archive_id;
    return;
  }
  JobState state = load_job_state(file(kStateFile), keys_->state);
  if (state.job != record_.job || state.owner != owner)
    throw AttestationError("job: its state is of another job or another client");
  if (state.counter < release.counter)
    throw AttestationError(
        fmt::format("job: its state on the disk is {}, the client has seen {}: somebody put an older "
                    "one back",
                    state.counter, release.counter));
  if (state.checkpoint && !fs::exists(checkpoint_file(state.checkpoint->number)))
    throw AttestationError(fmt::format("job: checkpoint {} of its state is gone", state.checkpoint->number));
  state_ = std::move(state);
  log_bytes_ = 0;
  for (const LogLine& line : state_.lines) log_bytes_ += line.text.size();
}

void Job::save() {
  ++state_.counter;
  try {
    save_job_state(state_, file(kStateFile), keys_->state);
  } catch (...) {
    --state_.counter;
    throw;
  }
}

fs::path Job::checkpoint_file(uint64_t number) const { return folder_ / fmt::format("checkpoint-{}.sealed", number); }

void Job::drop_other_checkpoints() const {
  std::error_code error;
  const std::string current = state_.checkpoint ? checkpoint_file(state_.checkpoint->number).filename().string() : "";
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("checkpoint-") && name != current) fs::remove(entry.path(), error);
  }
}

std::vector<std::string> Job::lines(uint64_t from, uint64_t& first) const {
  const std::lock_guard lock(mutex_);
  if (state_.counter == 0) throw InputError("logs: they are sealed; expected that the key is released first");
  first = std::clamp(from, state_.first_line, state_.first_line + state_.lines.size());
  std::vector<std::string> out;
  constexpr size_t kMost = 2000;
  for (size_t i = first - state_.first_line; i < state_.lines.size() && out.size() < kMost; ++i)
    out.push_back(state_.lines[i].text);
  return out;
}

void Job::cancel() {
  const std::lock_guard lock(mutex_);
  if (is_over(phase_)) return;
  if (!keys_)
    throw InputError(fmt::format("cancel: the job is {}; expected --remove, which deletes it", to_string(phase_)));
  is_cancelled_ = true;
  stop_ = true;
  if (phase_ == Phase::kQueued) finish(Phase::kCancelled, "", "");
}

void Job::finish(Phase phase, const std::string& note, const std::string& summary) {
  phase_ = state_.phase = phase;
  state_.note = first_line(note);
  if (summary.size() <= kMaxSummaryBytes) state_.summary = summary;
  save();
  keys_.reset();
}

attest::Bytes Job::read_piece(const fs::path& path, uint64_t offset, size_t most, uint64_t& total) const {
  if (phase_ == Phase::kRunning) throw InputError("fetch: the job is running; expected it to be over");
  const wire::UniqueDescriptor in(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  total = size_of(path);
  if (!in || offset > total) throw InputError("fetch: no such file, or it ends before");
  attest::Bytes bytes(std::min<uint64_t>(most, total - offset));
  const ssize_t count = ::pread(in.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (count < 0) throw RunError(fmt::format("fetch: cannot be read: {}", std::strerror(errno)));
  bytes.resize(static_cast<size_t>(count));
  return bytes;
}

attest::Bytes Job::read_state(uint64_t offset, size_t most, uint64_t& total) const {
  const std::lock_guard lock(mutex_);
  return read_piece(file(kStateFile), offset, most, total);
}

attest::Bytes Job::read_checkpoint(uint64_t number, uint64_t offset, size_t most, uint64_t& total) const {
  const std::lock_guard lock(mutex_);
  return read_piece(checkpoint_file(number), offset, most, total);
}

void Job::remove() {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kRunning || phase_ == Phase::kQueued)
    throw InputError("remove: the job is queued or running; expected it to be cancelled first");
  std::error_code error;
  fs::remove_all(folder_, error);
  if (error) throw RunError(fmt::format("remove: {}", error.message()));
}

}  // namespace tempo::service
