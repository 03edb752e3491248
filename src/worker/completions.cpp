#include "worker/completions.h"

#include <utility>

namespace tempo::worker {
namespace {

/// A master that does not take its results is held back by it, as it is on a CPU by the product that runs.
constexpr size_t kMostWaiting = 32;

}  // namespace

Completions::~Completions() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Completions::add(Completion completion, Then then) {
  Item item{std::move(completion), std::move(then)};
  if (!thread_.joinable() && !item.completion) return finish(item);
  if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return items_.size() < kMostWaiting; });
    items_.push_back(std::move(item));
  }
  changed_.notify_all();
}

void Completions::finish(Item& item) {
  std::exception_ptr error;
  try {
    if (item.completion) item.completion();
  } catch (...) {
    error = std::current_exception();
  }
  item.completion = nullptr;  // lets go of what it held
  item.then(error);
}

void Completions::serve() {
  for (;;) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_stopping_ || !items_.empty(); });
      if (items_.empty()) return;
      item = std::move(items_.front());
      items_.pop_front();
    }
    changed_.notify_all();
    finish(item);
  }
}

}  // namespace tempo::worker
