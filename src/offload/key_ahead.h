/// Derives the keys of a pass before they are asked for, on a thread of its own: a pass asks for the keys that the pass
/// before it asked for, in the same order. What is not foreseen is derived where it is asked for.
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

/// One thread asks.
class KeyAhead {
 public:
  /// @param keys outlives this object.
  explicit KeyAhead(const obfuscation::KeyRing& keys);
  ~KeyAhead();
  KeyAhead(const KeyAhead&) = delete;
  KeyAhead& operator=(const KeyAhead&) = delete;

  /// What is asked for from now on is of this pass.
  void begin_pass(const obfuscation::Pass& pass);
  std::shared_ptr<const obfuscation::Key> derive(const obfuscation::KeyPath& path, obfuscation::KeyRole role,
                                                 uint32_t size);

  /// Returns once every key that is foreseen for this pass is made, or no more may wait.
  void wait_for_foreseen();
  /// Keys of this pass that were taken from those made ahead.
  [[nodiscard]] size_t taken_ahead();

 private:
  /// A key's path within its pass.
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
  std::map<obfuscation::Period, std::vector<Wanted>> asked_;  // in the pass before; in this one, of its period

  std::mutex mutex_;
  std::condition_variable changed_;
  obfuscation::Pass pass_;
  std::vector<Wanted> foreseen_;
  struct Made {
    Key key;  ///< null where deriving failed: it is tried again where it is asked for
    bool is_done = false;
  };
  std::vector<Made> made_;  // of foreseen_
  size_t started_ = 0;      // of foreseen_, by whomever
  size_t next_ = 0;         // of foreseen_, to be asked for
  size_t bytes_ahead_ = 0;  // of keys that wait
  size_t taken_ahead_ = 0;
  bool is_stopping_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace tempo::offload
