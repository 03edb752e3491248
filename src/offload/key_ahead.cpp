#include "offload/key_ahead.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace tempo::offload {

using obfuscation::KeyPath;
using obfuscation::KeyRole;
using obfuscation::Pass;

namespace {

constexpr size_t kMostBytesAhead = size_t{64} << 20;

size_t bytes_of(uint32_t size) { return size * (sizeof(uint32_t) + sizeof(float)); }

}  // namespace

KeyAhead::KeyAhead(const obfuscation::KeyRing& keys) : keys_(keys), thread_([this] { serve(); }) {}

KeyAhead::~KeyAhead() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void KeyAhead::begin_pass(const Pass& pass) {
  {
    const std::lock_guard lock(mutex_);
    pass_ = pass;
    foreseen_ = std::exchange(asked_[pass.period], {});
    made_.assign(foreseen_.size(), {});
    started_ = next_ = bytes_ahead_ = taken_ahead_ = 0;
  }
  changed_.notify_all();
}

KeyAhead::Key KeyAhead::derive_now(const Wanted& wanted, const Pass& pass) const {
  const KeyPath path{
      .layer = wanted.layer, .pass = pass, .call = wanted.call, .item = wanted.item, .purpose = wanted.purpose};
  return std::make_shared<const obfuscation::Key>(keys_.derive(path, wanted.role, wanted.size));
}

KeyAhead::Key KeyAhead::derive(const KeyPath& path, KeyRole role, uint32_t size) {
  Wanted wanted{std::string(path.layer), path.call, path.item, path.purpose, role, size};
  std::unique_lock lock(mutex_);
  const bool is_of_this_pass =
      path.pass.period == pass_.period && path.pass.number == pass_.number && path.pass.batch == pass_.batch;
  if (!is_of_this_pass) {  // keys of resident weights live longer than a pass
    lock.unlock();
    return derive_now(wanted, path.pass);
  }
  asked_[pass_.period].push_back(wanted);
  if (next_ >= foreseen_.size() || foreseen_[next_] != wanted) {
    foreseen_.resize(next_);  // the pass differs from the last one: nothing more is foreseen
    made_.resize(next_);
    started_ = next_;
    bytes_ahead_ = 0;
    lock.unlock();
    return derive_now(wanted, path.pass);
  }
  const size_t at = next_++;
  if (started_ == at) {
    ++started_;
    lock.unlock();
    return derive_now(wanted, path.pass);
  }
  changed_.wait(lock, [&] { return made_[at].is_done; });
  bytes_ahead_ -= bytes_of(size);
  Key key = std::move(made_[at].key);
  if (key != nullptr) ++taken_ahead_;
  lock.unlock();
  changed_.notify_all();
  return key != nullptr ? key : derive_now(wanted, path.pass);
}

void KeyAhead::wait_for_foreseen() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] {
    const bool is_at_rest = started_ == foreseen_.size() || bytes_ahead_ >= kMostBytesAhead;
    return is_at_rest && std::all_of(made_.begin() + static_cast<std::ptrdiff_t>(next_),
                                     made_.begin() + static_cast<std::ptrdiff_t>(started_),
                                     [](const Made& made) { return made.is_done; });
  });
}

size_t KeyAhead::taken_ahead() {
  const std::lock_guard lock(mutex_);
  return taken_ahead_;
}

void KeyAhead::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock,
                  [this] { return is_stopping_ || (started_ < foreseen_.size() && bytes_ahead_ < kMostBytesAhead); });
    if (is_stopping_) return;
    const size_t at = started_++;
    const Wanted wanted = foreseen_[at];
    const Pass pass = pass_;
    bytes_ahead_ += bytes_of(wanted.size);
    lock.unlock();
    Key key;
    try {
      key = derive_now(wanted, pass);
    } catch (const std::exception&) {
      // The caller who asks for this key derives it again and gets the error.
    }
    lock.lock();
    const bool is_still_of_it = pass.number == pass_.number && pass.batch == pass_.batch &&
                                pass.period == pass_.period && at < foreseen_.size();
    if (is_still_of_it) made_[at] = {std::move(key), true};
    changed_.notify_all();
  }
}

}  // namespace tempo::offload
