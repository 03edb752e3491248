// How a job is run: where its checkpoints and lines go, and how it ends.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string_view>

#include "attest/types.h"
#include "base/text.h"
#include "service/job.h"
#include "service/job_config.h"
#include "tempo/error.h"
#include "train/config.h"
#include "train/run_log.h"

namespace tempo::service {

namespace {

/// The number of workers that a line of metrics names, for the operator; nothing where it names none.
std::optional<uint64_t> workers_in(const std::string& json) {
  constexpr std::string_view kName = "\"workers\":";
  const size_t at = json.find(kName);
  if (at == std::string::npos) return {};
  const size_t begin = at + kName.size(), end = json.find_first_not_of("0123456789", begin);
  const auto value = parse_decimal(std::string_view(json).substr(begin, end - begin));
  return value && *value >= 0 ? std::optional(static_cast<uint64_t>(*value)) : std::nullopt;
}

}  // namespace

/// A checkpoint is written under a new name and a new key; then the state that holds both replaces the old one,
/// atomically; then the old checkpoint goes. Whenever the process dies, the state on disk names a checkpoint that is
/// whole.
class Job::Keeper final : public RunKeeper {
 public:
  explicit Keeper(Job& job) : job_(job) {}

  std::optional<Place> resumed() override {
    const std::lock_guard lock(job_.mutex_);
    if (!job_.state_.checkpoint) return {};
    return Place{job_.checkpoint_file(job_.state_.checkpoint->number), &job_.state_.checkpoint->key};
  }
  Place next(int64_t) override {
    const std::lock_guard lock(job_.mutex_);
    const auto& current = job_.state_.checkpoint;
    pending_ = CheckpointEntry{current ? current->number + 1 : 1, SecretKey::random()};
    return {job_.checkpoint_file(pending_->number), &pending_->key};
  }
  void saved(int64_t step, bool is_last) override {
    const std::lock_guard lock(job_.mutex_);
    job_.state_.checkpoint = std::move(pending_);
    pending_.reset();
    job_.state_.step = static_cast<uint64_t>(step);
    if (is_last) job_.state_.phase = Phase::kDone;
    job_.save();
    job_.drop_other_checkpoints();
  }
  void line(int64_t step, const std::string& json) override {
    const std::lock_guard lock(job_.mutex_);
    if (const auto workers = workers_in(json)) job_.workers_ = *workers;
    auto& lines = job_.state_.lines;
    lines.push_back({static_cast<uint64_t>(step), json.substr(0, kMaxLineBytes)});
    job_.log_bytes_ += lines.back().text.size();
    if (job_.log_bytes_ <= kMaxLogBytes) return;
    const size_t gone = lines.size() / 4 + 1;
    for (size_t i = 0; i < gone; ++i) job_.log_bytes_ -= lines[i].text.size();
    lines.erase(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(gone));
    job_.state_.first_line += gone;
  }
  void went_back(int64_t step) override {
    const std::lock_guard lock(job_.mutex_);
    drop_lines_after(static_cast<uint64_t>(step));
  }
  /// What the state's last checkpoint knows nothing of is done again.
  void begin() {
    const std::lock_guard lock(job_.mutex_);
    drop_lines_after(job_.state_.checkpoint ? job_.state_.step : 0);
  }

 private:
  void drop_lines_after(uint64_t step) {
    auto& lines = job_.state_.lines;
    while (!lines.empty() && lines.back().step > step) {
      job_.log_bytes_ -= lines.back().text.size();
      lines.pop_back();
    }
  }

  Job& job_;
  std::optional<CheckpointEntry> pending_;
};

void Job::run(const RunConfig& base, Train train) noexcept try {
  std::string config;
  {
    const std::lock_guard lock(mutex_);
    if (!keys_ || phase_ != Phase::kQueued) return;  // cancelled meanwhile
    phase_ = state_.phase = Phase::kRunning;
    began_ =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    config = state_.config;
  }
  Keeper keeper(*this);
  std::string failure, summary;
  bool is_completed = false;
  try {
    RunConfig resolved = job_run_config(config, base);
    const bool has_archive = record_.archive_bytes > 0;
    if (has_archive) resolved.data = file("data.sealed").string();
    keeper.begin();
    // The run has keys_ to itself: nobody else touches it while the phase is kRunning.
    RunHooks hooks;
    hooks.stop = &stop_;
    hooks.quiet = true;
    hooks.keeper = &keeper;
    if (has_archive) hooks.data_key = &keys_->data;
    if (has_archive) hooks.archive_id = attest::to_hex(state_.archive_id);
    const RunSummary result = train(resolved, hooks);
    is_completed = result.completed;
    summary = train::to_json(result);
  } catch (const std::exception& error) {
    failure = error.what();
    if (failure.empty()) failure = "it failed";
  }
  const std::lock_guard lock(mutex_);
  if (!failure.empty())
    finish(Phase::kFailed, failure, "");
  else if (is_completed)
    finish(Phase::kDone, "", summary);
  else
    finish(is_cancelled_ ? Phase::kCancelled : Phase::kQueued, "", summary);
} catch (const std::exception& error) {
  const std::lock_guard lock(mutex_);  // its last state could not be written
  phase_ = Phase::kFailed;
  state_.note = std::string(error.what()).substr(0, kMaxNoteBytes);
  keys_.reset();
}

}  // namespace tempo::service
