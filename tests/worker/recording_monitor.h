/// A monitor that writes down what it hears.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "worker/monitor.h"

namespace tempo::testing {

class RecordingMonitor final : public worker::Monitor {
 public:
  std::shared_ptr<worker::SessionMonitor> session_began(std::string_view transport) override {
    add("began " + std::string(transport));
    return std::make_shared<Session>(*this);
  }
  void session_refused(std::string_view transport) noexcept override { add("turned away " + std::string(transport)); }

  [[nodiscard]] std::vector<std::string> heard() const {
    const std::lock_guard lock(mutex_);
    return heard_;
  }
  /// The first `count` endings; fewer if they do not come.
  std::vector<worker::Ending> wait_for_endings(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60), [&] { return endings_.size() >= count; });
    return endings_;
  }

 private:
  class Session final : public worker::SessionMonitor {
   public:
    explicit Session(RecordingMonitor& monitor) : monitor_(monitor) {}
    void received(uint64_t bytes) noexcept override { monitor_.add("received " + std::to_string(bytes)); }
    void stored(uint64_t bytes) noexcept override { monitor_.add("stored " + std::to_string(bytes)); }
    void done(const worker::OperationTag& tag, double seconds, uint64_t bytes) noexcept override {
      monitor_.add("done " + text(tag) + " " + std::to_string(bytes) + (seconds >= 0 ? "" : " in no time"));
    }
    void refused(const worker::OperationTag& tag, worker::RefusalCause cause) noexcept override {
      monitor_.add("refused " + text(tag) + " " + std::to_string(static_cast<int>(cause)));
    }
    void reply_refused(uint64_t number, uint64_t) noexcept override { monitor_.add("lost " + std::to_string(number)); }
    void ended(const worker::Ending& ending) noexcept override { monitor_.end(ending); }

   private:
    static std::string text(const worker::OperationTag& tag) {
      return std::to_string(tag.number) + " kind " + std::to_string(tag.kind) +
             (tag.step ? " step " + std::to_string(*tag.step) : "");
    }
    RecordingMonitor& monitor_;
  };

  void add(std::string what) {
    const std::lock_guard lock(mutex_);
    heard_.push_back(std::move(what));
  }
  void end(const worker::Ending& ending) {
    {
      const std::lock_guard lock(mutex_);
      endings_.push_back(ending);
    }
    changed_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> heard_;
  std::vector<worker::Ending> endings_;
};

}  // namespace tempo::testing
