/// What the offloaded layers of one run share. A session names keys: which pass they are of, and how they are derived.
/// Operands and results go through its exchange.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "obfuscation/key_ring.h"
#include "offload/exchange.h"
#include "offload/key_ahead.h"
#include "offload/verifier.h"
#include "tempo/options.h"

namespace tempo::offload {

class Session;

/// Numbers the uses of one layer within a pass, so that every use has its own keys.
class CallCounter {
 public:
  uint64_t next(const Session& session);

 private:
  uint64_t pass_serial_ = 0, calls_ = 0;
};

/// Not thread-safe: one thread drives a model. Must outlive every Operand and every layer that uses it.
class Session {
 public:
  /// @param tee_threads as in Exchange.
  /// @throws InputError for options that cannot work, or for fewer workers than the protection has parts.
  Session(const BlindingOptions& options, SecretKey master, std::unique_ptr<WorkerPool> workers, int tee_threads,
          const integrity::PolicySetting& integrity = {});
  /// The same with a pool of one worker.
  Session(const BlindingOptions& options, SecretKey master, std::shared_ptr<Worker> worker, int tee_threads,
          const integrity::PolicySetting& integrity = {});

  [[nodiscard]] const BlindingOptions& options() const { return options_; }
  [[nodiscard]] const obfuscation::Protection& protection() const { return keys_.protection(); }
  [[nodiscard]] const obfuscation::Pass& pass() const { return pass_; }
  /// The number of passes begun. A layer compares it to tell a second use in one pass from a use in the next.
  [[nodiscard]] uint64_t pass_serial() const { return pass_serial_; }
  [[nodiscard]] Exchange& exchange() { return exchange_; }
  [[nodiscard]] WorkerPool& workers() { return exchange_.workers(); }
  [[nodiscard]] ThreadPool& threads() { return exchange_.threads(); }
  [[nodiscard]] Counters& counters() { return exchange_.counters(); }
  [[nodiscard]] Counters totals() const { return exchange_.totals(); }
  [[nodiscard]] Verifier& verifier() { return verifier_; }

  /// Starts a pass: every key from now on belongs to it. Must come before the first product.
  /// @throws InputError unless the passes of one period come in rising order of (number, batch). A repeated pass would
  /// blind other operands under the same left keys.
  void begin_pass(obfuscation::Pass pass);
  /// Continues under another master secret, so that steps may be repeated. All operands and resident weights must have
  /// been dropped.
  void restart(SecretKey master);

  std::shared_ptr<const obfuscation::Key> derive(const obfuscation::KeyPath& path, obfuscation::KeyRole role,
                                                 int64_t size);
  /// The seed of the noise of the operand that the key of this path and role is for.
  [[nodiscard]] SecretKey noise_seed(const obfuscation::KeyPath& path, obfuscation::KeyRole role) const {
    return keys_.derive_noise_seed(path, role);
  }
  /// The element type on the wire of an activation or gradient that has `type` in the TEE.
  [[nodiscard]] ElementType wire_type(ElementType type) const;

 private:
  BlindingOptions options_;
  obfuscation::KeyRing keys_;
  std::unique_ptr<KeyAhead> ahead_;  // null with one TEE thread, which deriving ahead would only slow down
  Exchange exchange_;
  Verifier verifier_;
  obfuscation::Pass pass_;
  uint64_t pass_serial_ = 0;
  std::map<obfuscation::Period, std::pair<uint64_t, uint64_t>> last_passes_;
};

}  // namespace tempo::offload
