/// Derives the keys of a pass before they are asked for, on a thread of its own. A pass is expected to ask for the same
/// keys, in the same order, as the pass of its period before it. A key that was not foreseen is derived when it is
/// asked for.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "obfuscation/key_ring.h"

namespace tempo::offload {

/// All public functions must be called by one thread at a time.
class KeyAhead {
 public:
  /// @param keys outlives this object.
  explicit KeyAhead(const obfuscation::KeyRing& keys);
  ~KeyAhead();
  KeyAhead(const KeyAhead&) = delete;
  KeyAhead& operator=(const KeyAhead&) = delete;

  /// Starts a pass: begins to derive the keys that the last pass of this period asked for.
  void begin_pass(const obfuscation::Pass& pass);
  std::shared_ptr<const obfuscation::Key> derive(const obfuscation::KeyPath& path, obfuscation::KeyRole role,
                                                 uint32_t size);

  /// Returns once every key foreseen for this pass is derived, or the keys that wait have reached their limit in bytes.
  /// For tests.
  void wait_for_foreseen();
  /// The number of keys of this pass that were taken from those derived ahead.
  [[nodiscard]] size_t taken_ahead();

 private:
  /// A key's path within its pass, its role and its size.
  struct Wanted {
    std::string layer;
    uint64_t call = 0, item = 0, purpose = 0;
    obfuscation::KeyRole role = obfuscation::KeyRole::kLeft;
    uint32_t size = 0;

    friend bool operator==(const Wanted&, const Wanted&) = default;
  };
  using Key = std::shared_ptr<const obfuscation::Key>;

  [[nodiscard]] Key derive_now(const Wanted& wanted, const obfuscation::Pass& pass) const;
  void serve();

  const obfuscation::KeyRing& keys_;
  // The keys asked for by the current pass, and by the last pass of every other period.
  std::map<obfuscation::Period, std::vector<Wanted>> asked_;

  std::mutex mutex_;
  std::condition_variable changed_;
  obfuscation::Pass pass_;
  std::vector<Wanted> foreseen_;
  struct Made {
    Key key;  ///< null if deriving failed; it is then tried again by the caller who asks
    bool is_done = false;
  };
  std::vector<Made> made_;  // one entry for each of foreseen_
  size_t started_ = 0;      // index in foreseen_ of the first key that nobody has started to derive
  size_t next_ = 0;         // index in foreseen_ of the key expected to be asked for next
  size_t bytes_ahead_ = 0;  // bytes of keys derived ahead and not yet taken
  size_t taken_ahead_ = 0;
  bool is_stopping_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace tempo::offload
