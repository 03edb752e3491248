/// What the offloaded layers of one run share: keys, workers, threads, the current pass and the counters.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "obfuscation/blind.h"
#include "obfuscation/key_ring.h"
#include "offload/key_ahead.h"
#include "offload/pool/worker_pool.h"
#include "offload/verifier.h"
#include "tempo/options.h"
#include "tempo/worker.h"

namespace tempo::offload {

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

class Session;

/// Numbers the uses of one layer within a pass, so that every use has its own keys.
class CallCounter {
 public:
  uint64_t next(const Session& session);

 private:
  uint64_t pass_serial_ = 0, calls_ = 0;
};

/// An operand in the workers' stores. Destroying the handle frees the operand. Move-only. Must not outlive its session.
class Operand {
 public:
  Operand() = default;
  Operand(Session& session, OperandId id) : session_(&session), id_(id) {}
  ~Operand() { reset(); }
  Operand(Operand&& other) noexcept : session_(other.session_), id_(other.id_) { other.session_ = nullptr; }
  Operand& operator=(Operand&& other) noexcept;
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;

  [[nodiscard]] OperandId id() const { return id_; }
  explicit operator bool() const { return session_ != nullptr; }
  /// Replaces the function that blinds the operand again for another worker, from now on. An empty one makes the
  /// operand unrecoverable. Until this is called, the function that it was sent with is used.
  void set_source(WorkerPool::Source source = {}) const;

 private:
  void reset() noexcept;

  Session* session_ = nullptr;
  OperandId id_ = 0;
};

/// A borrowed dense tensor in the TEE. `data` points at elements of `type`, laid out as the geometry in use says.
struct PlainTensor {
  ElementType type = ElementType::kFloat32;
  void* data = nullptr;
};
struct ConstPlainTensor {
  ConstPlainTensor() = default;
  ConstPlainTensor(ElementType element_type, const void* memory) : type(element_type), data(memory) {}
  ConstPlainTensor(const PlainTensor& tensor) : type(tensor.type), data(tensor.data) {}  // NOLINT: a view of a view

  ElementType type = ElementType::kFloat32;
  const void* data = nullptr;
};

/// obfuscation::PixelMoments for a tensor whose type is known only at run time.
struct MomentsOnTheWay {
  const void* shift = nullptr;
  double* sums = nullptr;
  double* squares = nullptr;
};

/// The keys of one product Y = X W.
struct ProductKeys {
  std::shared_ptr<const obfuscation::Key> left, inner, right;
};

/// What all offloaded layers of a run share; blinds and sends operands, and receives and un-blinds results. Not
/// thread-safe: one thread drives a model. Must outlive every Operand and every layer that uses it.
class Session {
 public:
  /// @param tee_threads the number of threads that blind, un-blind and verify, at least 1.
  /// @throws InputError if weights are resident and the scheme's keys are not orthogonal.
  Session(const BlindingOptions& options, SecretKey master, std::unique_ptr<WorkerPool> workers, int tee_threads,
          const integrity::PolicySetting& integrity = {});
  /// The same with a pool of one worker.
  Session(const BlindingOptions& options, SecretKey master, std::shared_ptr<Worker> worker, int tee_threads,
          const integrity::PolicySetting& integrity = {});

  [[nodiscard]] const BlindingOptions& options() const { return options_; }
  [[nodiscard]] const obfuscation::Pass& pass() const { return pass_; }
  /// The number of passes begun. A layer compares it to tell a second use in one pass from a use in the next.
  [[nodiscard]] uint64_t pass_serial() const { return pass_serial_; }
  [[nodiscard]] WorkerPool& workers() { return *workers_; }
  [[nodiscard]] Counters& counters() { return counters_; }
  /// All counters, including those that the pool keeps.
  [[nodiscard]] Counters totals() const;
  [[nodiscard]] Verifier& verifier() { return verifier_; }
  [[nodiscard]] ThreadPool& threads() { return threads_; }
  [[nodiscard]] OperandId new_operand_id() { return next_operand_++; }

  /// Starts a pass: every key from now on belongs to it. Must come before the first product.
  /// @throws InputError unless the passes of one period come in rising order of (number, batch). A repeated pass would
  /// blind other operands under the same left keys.
  void begin_pass(obfuscation::Pass pass);
  /// Continues under another master secret, so that steps may be repeated. All operands and resident weights must have
  /// been dropped.
  void restart(SecretKey master);

  std::shared_ptr<const obfuscation::Key> derive(const obfuscation::KeyPath& path, obfuscation::KeyRole role,
                                                 int64_t size);
  /// The random stream for the noise of the operand that the key of this path and role is for.
  [[nodiscard]] Csprng noise(const obfuscation::KeyPath& path, obfuscation::KeyRole role) const {
    return Csprng(keys_.derive_noise_seed(path, role));
  }
  /// The element type on the wire of an activation or gradient that has `type` in the TEE.
  [[nodiscard]] ElementType wire_type(ElementType type) const;

  struct BlindItem {
    ConstPlainTensor x;
    obfuscation::KeyUse rows, channels;
    int64_t decoy_images = 0;      ///< this many images at the end of the geometry are decoys, not part of x
    const void* decoys = nullptr;  ///< pixels of the decoys, of x's type
    ProductsOnTheWay products = {};
    obfuscation::PixelMap map = {};  ///< computes the operand that is blinded in place of x, unless empty
  };
  /// The slices in which the rows of one product's operands go to the workers and come back; see
  /// `obfuscation::slice_rows`.
  using Slices = std::vector<obfuscation::RowRange>;
  /// Cuts the rows that the key `rows` mixes into slices. Returns none if all rows go together.
  /// @param bytes size of the larger operand.
  [[nodiscard]] Slices slices_of(const obfuscation::Key& rows, size_t bytes) const;
  /// Blinds tensors of equal geometry, each under its own pair of keys, into one operand of `shape`.
  /// @param id     the id that the operand will have. Slices are put under it, and observers are told.
  /// @param slices If not empty, there must be one item, and each slice is put as soon as its rows are blinded.
  Buffer blind(OperandId id, const std::vector<BlindItem>& items, const obfuscation::TileGeometry& geometry,
               ElementType wire, std::vector<int64_t> shape, const Slices& slices = {});
  /// Blinds the operand with this id and returns it. With slices, it also puts them.
  using Blinding = std::function<Buffer(OperandId, const Slices&)>;
  /// Sends what `make` blinds. `make` is called again when another worker takes over: `make` and all that it refers to
  /// must stay valid and unchanged until `Operand::set_source` replaces it.
  /// @param like an operand that is cut into the same rows for the workers.
  Operand send(Spread spread, const Blinding& make, const Operand& like = {}, const Slices& slices = {});
  /// Sends an operand, unchanged, to all workers. Only for zeros and for what is already blinded.
  Operand send_blinded_unchecked(const Buffer& operand);

  /// Starts an operation. @param expected spec of the reply. @param what name for messages: "forward of LAYER".
  PendingReply submit(Operation operation, TensorSpec expected, std::string what);
  /// Waits for a reply. Its shape and type are as expected, its values are untrusted. @throws as WorkerPool
  Buffer receive(PendingReply& reply);
  /// Waits for a reply and gives it to `use`, which un-blinds and verifies. If `use` throws IntegrityError, the pool
  /// finds the workers that were wrong and stops using them, and `use` gets the result of another worker.
  void accept(PendingReply& reply, const WorkerPool::Accept& use);
  /// A reply, of which some rows may not have arrived yet.
  struct ArrivingReply {
    Buffer whole;  ///< empty if there are slices
    ElementType wire = ElementType::kFloat32;
    obfuscation::UnblindSlices slices = {};
  };
  /// Like `accept`, for a reply whose rows come in the slices that the operands were sent in.
  void accept_rows(PendingReply& reply, const Slices& slices, const std::function<void(const ArrivingReply&)>& use);
  struct UnblindItem {
    PlainTensor x;
    obfuscation::KeyUse rows, channels;
    int64_t decoy_images = 0;  ///< this many images at the end of the geometry are decoys and are dropped
    ProductsOnTheWay products = {};
    const void* addend = nullptr;  ///< has x's type and shape; only if obfuscation::takes_addend
    MomentsOnTheWay moments = {};  ///< only if obfuscation::takes_moments, and not with an addend
  };
  /// Un-blinds a reply that holds `items.size()` tensors of equal geometry, one after the other.
  void unblind(const Buffer& reply, const obfuscation::TileGeometry& geometry, const std::vector<UnblindItem>& items);
  void unblind(const ArrivingReply& reply, const obfuscation::TileGeometry& geometry, const UnblindItem& item);

  void count_product(double flops) { counters_.flops += flops; }

  /// Sees in plain what the session blinds and un-blinds. For tests and the audit only: it undoes all protection.
  class InsecurePlainObserver {
   public:
    virtual ~InsecurePlainObserver() = default;
    /// An operand was blinded from `items` and sent.
    virtual void sent(OperandId id, const obfuscation::TileGeometry& geometry, const std::vector<BlindItem>& items) = 0;
    /// A reply was un-blinded into `items`.
    virtual void received(const Buffer& reply, const obfuscation::TileGeometry& geometry,
                          const std::vector<UnblindItem>& items) = 0;
  };
  /// @param observer borrowed; nullptr switches observing off, which is the default.
  void observe_plain_insecure(InsecurePlainObserver* observer) { plain_observer_ = observer; }
  [[nodiscard]] bool is_observed() const { return plain_observer_ != nullptr; }

 private:
  friend class Operand;
  void unblind(const std::byte* in, ElementType wire, const obfuscation::TileGeometry& geometry,
               const UnblindItem& item, const obfuscation::UnblindSlices& slices);

  BlindingOptions options_;
  obfuscation::KeyRing keys_;
  std::unique_ptr<KeyAhead> ahead_;  // null with one TEE thread, which deriving ahead would only slow down
  std::unique_ptr<WorkerPool> workers_;
  ThreadPool threads_;
  Verifier verifier_;
  obfuscation::Pass pass_;
  uint64_t pass_serial_ = 0;
  std::map<obfuscation::Period, std::pair<uint64_t, uint64_t>> last_passes_;
  OperandId next_operand_ = 1;
  Counters counters_;
  InsecurePlainObserver* plain_observer_ = nullptr;
};

}  // namespace tempo::offload
