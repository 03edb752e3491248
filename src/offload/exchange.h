/// Where operands leave the TEE and results enter it. One call goes down, with an operand or with an operation, the
/// place of its result and its check; one result comes up. Slices, other workers' tries and disputes are settled here
/// and in the pool below.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/secret.h"
#include "base/thread_pool.h"
#include "obfuscation/blind.h"
#include "offload/contraction.h"
#include "offload/pool/worker_pool.h"

namespace tempo::offload {

using obfuscation::ConstPlainTensor;
using obfuscation::PlainTensor;
using obfuscation::with_element_type;

/// Everything a summary reports about offloading, counted since the session began.
struct Counters {
  uint64_t encryptions = 0;        ///< operands blinded and sent, except by rekeying
  uint64_t rekey_encryptions = 0;  ///< resident weights and velocities blinded anew
  uint64_t bytes_to_workers = 0;
  uint64_t bytes_from_workers = 0;
  uint64_t reissued = 0;  ///< shards that went to a second worker
  double flops = 0;       ///< floating-point operations; a multiply-add counts as two
  /// Seconds of wall time that the master spent deriving keys, blinding, un-blinding, verifying and waiting for
  /// workers.
  double key_seconds = 0, blind_seconds = 0, unblind_seconds = 0, verify_seconds = 0, wait_seconds = 0;
};

/// Images of noise behind the real ones of a batch (offload/decoys.h).
struct DecoyNoise {
  int64_t before = 0, noisy = 0, after = 0;  ///< images of zeros, of noise, of zeros
  double energy = 0;                         ///< squared norm of all noise together
  SecretKey seed;
};

/// An operand that is to be blinded, as a value that says how it is made. Making it again makes the same bytes. The
/// plain memory must stay as it is while the operand may be needed by another worker.
struct BlindedOperand {
  KeyedTensor tensor;
  ConstPlainTensor x;                                     ///< all items, one after the other
  std::shared_ptr<const obfuscation::ChannelAffine> map;  ///< computes what is blinded in place of x, unless nullptr
  DecoyNoise decoys = {};                                 ///< of the tensor's decoy images

  /// The images of decoys, [images, height, width, channels]; empty if there are none.
  [[nodiscard]] Buffer make_decoys() const;
};

/// A result on its way into the TEE.
struct BlindedResult {
  KeyedTensor tensor;
  PlainTensor to;               ///< all items; null data: the result is un-blinded only if it is checked
  obfuscation::Taps taps = {};  ///< an addend is added after the check, whatever keys support
};

/// The check of one result. `want` and `check` are called once for each worker's try.
class ResultCheck {
 public:
  ResultCheck() = default;
  virtual ~ResultCheck() = default;
  ResultCheck(const ResultCheck&) = delete;
  ResultCheck& operator=(const ResultCheck&) = delete;

  /// What should be taken of the result while it is un-blinded.
  virtual obfuscation::PixelProducts want() { return {}; }
  /// @param is_taken whether it was taken; if not, the check measures the result itself.
  /// @throws IntegrityError if the result is wrong.
  virtual void check(const PlainTensor& result, bool is_taken) = 0;
};

class Exchange;

/// An operand in the workers' stores. Destroying the handle frees the operand. Move-only. Must not outlive its
/// exchange.
class Operand {
 public:
  Operand() = default;
  Operand(WorkerPool& workers, OperandId id) : workers_(&workers), id_(id) {}
  ~Operand() { reset(); }
  Operand(Operand&& other) noexcept : workers_(other.workers_), id_(other.id_) { other.workers_ = nullptr; }
  Operand& operator=(Operand&& other) noexcept;
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;

  [[nodiscard]] OperandId id() const { return id_; }
  explicit operator bool() const { return workers_ != nullptr; }

 private:
  void reset() noexcept;

  WorkerPool* workers_ = nullptr;
  OperandId id_ = 0;
};

/// Adjacent ranges of rows that cover all of them. None: all rows go together.
using Slices = std::vector<obfuscation::RowRange>;

/// How an operand is sent.
struct Sending {
  Slices slices = {};
  OperandId like = 0;                        ///< an operand that is cut into the same rows for the workers; 0: none
  obfuscation::PixelProducts products = {};  ///< taken while it is blinded
  Holder holder = 0;                         ///< the workers that may hold it
  bool is_rekeying = false;                  ///< counts as such, and the operand is gone with its workers
};

/// Sees in plain what is blinded and un-blinded. For tests and the audit only: it undoes all protection.
class InsecurePlainObserver {
 public:
  virtual ~InsecurePlainObserver() = default;
  /// An operand was blinded and sent. @param decoys as `BlindedOperand::make_decoys`
  virtual void sent(OperandId id, const BlindedOperand& operand, const Buffer& decoys) = 0;
  /// A reply was un-blinded.
  virtual void received(const Buffer& reply, const BlindedResult& result) = 0;
};

/// Not thread-safe: one thread drives a model. Must outlive every Operand.
class Exchange {
 public:
  /// @param tee_threads the number of threads that blind, un-blind and verify, at least 1.
  Exchange(std::unique_ptr<WorkerPool> workers, int tee_threads)
      : workers_(std::move(workers)), threads_(tee_threads) {}

  [[nodiscard]] WorkerPool& workers() { return *workers_; }
  [[nodiscard]] ThreadPool& threads() { return threads_; }
  [[nodiscard]] Counters& counters() { return counters_; }
  /// All counters, including those that the pool keeps.
  [[nodiscard]] Counters totals() const;
  [[nodiscard]] OperandId new_operand_id() { return next_operand_++; }

  /// Cuts the rows that the key `rows` mixes into the slices in which the operands of one product go to the workers and
  /// its results come back (`obfuscation::slice_rows`).
  /// @param asked their number; 0: as it pays. @param bytes size of the larger operand.
  [[nodiscard]] Slices slices_of(const obfuscation::Key& rows, const PanelLayout& panels, int asked,
                                 size_t bytes) const;

  /// Blinds an operand and sends it. Where there are several workers it is kept as a value, to be made again.
  Operand send(BlindedOperand operand, const Sending& how = {});
  /// Sends an operand, unchanged, to all workers. Only for zeros and for what is already blinded.
  Operand send_blinded_unchecked(const Buffer& operand);

  /// Starts an operation. @param expected spec of the reply. @param what name for messages: "forward of LAYER".
  PendingReply start(Operation operation, TensorSpec expected, std::string what);
  /// Waits for a reply. Its shape and type are as expected, its values are untrusted. @throws as WorkerPool
  Buffer receive(PendingReply& reply);
  /// Waits for a reply, un-blinds and checks it. If it is wrong, the pool finds the workers that were wrong and stops
  /// using them, and the result of another worker takes its place.
  /// @param check nullptr: unchecked. @param slices those that the operands were sent in.
  /// @returns the blinded reply that was accepted; empty if it came in slices.
  Buffer finish(PendingReply& reply, const BlindedResult& result, ResultCheck* check, const Slices& slices = {});
  /// Un-blinds and checks a reply that is there. @throws IntegrityError
  void take(const Buffer& reply, const BlindedResult& result, ResultCheck* check);

  /// @param observer borrowed; nullptr switches observing off, which is the default.
  void observe_plain_insecure(InsecurePlainObserver* observer) { observer_ = observer; }

 private:
  class Source;
  class Taking;
  void take_slices(PendingReply& reply, const BlindedResult& result, ResultCheck* check, const Slices& slices);

  std::unique_ptr<WorkerPool> workers_;
  ThreadPool threads_;
  OperandId next_operand_ = 1;
  Counters counters_;
  InsecurePlainObserver* observer_ = nullptr;
};

}  // namespace tempo::offload
