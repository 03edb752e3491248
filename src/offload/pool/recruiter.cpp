#include "offload/pool/recruiter.h"

#include <algorithm>
#include <utility>

#include "base/cpu_time.h"

namespace tempo::offload {

Recruiter::Recruiter(Connect connect, std::chrono::milliseconds interval)
    : connect_(std::move(connect)), interval_(interval), thread_([this] {
        name_this_thread("tempo-recruit");
        work();
      }) {}

Recruiter::~Recruiter() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Recruiter::seek(const std::string& uri) {
  {
    const std::lock_guard lock(mutex_);
    sought_.insert(uri);
  }
  changed_.notify_all();
}

void Recruiter::forget(const std::string& uri) {
  const std::lock_guard lock(mutex_);
  sought_.erase(uri);
  std::erase_if(arrivals_, [&](const Arrival& arrival) { return arrival.uri == uri; });
}

std::vector<Recruiter::Arrival> Recruiter::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(arrivals_, {});
}

bool Recruiter::wait_for_arrival(std::chrono::milliseconds patience, const std::atomic<bool>* stop) {
  constexpr std::chrono::milliseconds kTick{50};
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::unique_lock lock(mutex_);
  while (arrivals_.empty() && (stop == nullptr || !stop->load())) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return false;
    changed_.wait_until(lock, std::min(deadline, now + kTick));
  }
  return !arrivals_.empty();
}

void Recruiter::work() {
  std::unique_lock lock(mutex_);
  while (!is_stopping_) {
    changed_.wait(lock, [this] { return is_stopping_ || !sought_.empty(); });
    for (const std::string& uri : std::vector<std::string>(sought_.begin(), sought_.end())) {
      if (is_stopping_) return;
      std::shared_ptr<Worker> worker;
      lock.unlock();
      try {
        worker = connect_(uri);
      } catch (const std::exception&) {
        // The worker is missing or not ready: the next round tries again.
      }
      lock.lock();
      if (worker == nullptr || sought_.erase(uri) == 0) continue;
      arrivals_.push_back({uri, std::move(worker)});
      changed_.notify_all();
    }
    changed_.wait_for(lock, interval_, [this] { return is_stopping_; });
  }
}

}  // namespace tempo::offload
