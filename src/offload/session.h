/// What the offloaded layers of one run share: keys, worker, threads, the current pass, and the counters.
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

/// Everything a summary reports about offloading; since the session began.
struct Counters {
  uint64_t encryptions = 0;        ///< operands blinded and sent, rekeying excepted
  uint64_t rekey_encryptions = 0;  ///< resident weights and velocities blinded anew
  uint64_t bytes_to_workers = 0;
  uint64_t bytes_from_workers = 0;
  uint64_t reissued = 0;  ///< shards that went to a second worker
  double flops = 0;       ///< multiply-adds count two
  /// Where the master's wall time went, seconds: deriving keys, blinding, un-blinding, verifying, waiting for the
  /// worker.
  double key_seconds = 0, blind_seconds = 0, unblind_seconds = 0, verify_seconds = 0, wait_seconds = 0;
};

class Session;

/// Numbers the uses of one layer within a pass, so that each has keys of its own.
class CallCounter {
 public:
  uint64_t next(const Session& session);

 private:
  uint64_t pass_serial_ = 0, calls_ = 0;
};

/// An operand in the workers' stores; freed with the handle. Move-only.
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
  /// How to make it again for a worker that comes in for another, from now on; nothing: it cannot be made again. What
  /// it was sent with stays until then.
  void set_source(WorkerPool::Source source = {}) const;

 private:
  void reset() noexcept;

  Session* session_ = nullptr;
  OperandId id_ = 0;
};

/// A dense tensor in the TEE, borrowed: `data` points at `type` elements laid out as the geometry in use says.
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

/// obfuscation::PixelMoments of a tensor whose type is known at run time.
struct MomentsOnTheWay {
  const void* shift = nullptr;
  double* sums = nullptr;
  double* squares = nullptr;
};

/// The keys of one product Y = X W.
struct ProductKeys {
  std::shared_ptr<const obfuscation::Key> left, inner, right;
};

/// Not thread-safe: one thread drives a model. Must outlive every Operand and every layer that uses it.
class Session {
 public:
  /// @param tee_threads threads that blind, un-blind and verify, at least 1.
  Session(const BlindingOptions& options, SecretKey master, std::unique_ptr<WorkerPool> workers, int tee_threads,
          const integrity::PolicySetting& integrity = {});
  /// With one worker.
  Session(const BlindingOptions& options, SecretKey master, std::shared_ptr<Worker> worker, int tee_threads,
          const integrity::PolicySetting& integrity = {});

  [[nodiscard]] const BlindingOptions& options() const { return options_; }
  [[nodiscard]] const obfuscation::Pass& pass() const { return pass_; }
  /// Counts passes, so that a layer can tell a second use in one pass from its use in the next.
  [[nodiscard]] uint64_t pass_serial() const { return pass_serial_; }
  [[nodiscard]] WorkerPool& workers() { return *workers_; }
  [[nodiscard]] Counters& counters() { return counters_; }
  /// Counters with what the pool counted.
  [[nodiscard]] Counters totals() const;
  [[nodiscard]] Verifier& verifier() { return verifier_; }
  [[nodiscard]] ThreadPool& threads() { return threads_; }
  [[nodiscard]] OperandId new_operand_id() { return next_operand_++; }

  /// Every key from now on belongs to this pass. Must come before the first product.
  /// @throws InputError unless passes of one period come in rising order of (number, batch): a repeated pass would
  /// blind other operands under the same left keys.
  void begin_pass(obfuscation::Pass pass);
  /// Goes on under another master secret, so that steps may be done once more. Every operand and resident weight must
  /// have been dropped.
  void restart(SecretKey master);

  std::shared_ptr<const obfuscation::Key> derive(const obfuscation::KeyPath& path, obfuscation::KeyRole role,
                                                 int64_t size);
  /// The stream of noise for the operand that this key of this path is for.
  [[nodiscard]] Csprng noise(const obfuscation::KeyPath& path, obfuscation::KeyRole role) const {
    return Csprng(keys_.derive_noise_seed(path, role));
  }
  /// Element type on the wire of an activation or gradient that has `type` in the TEE.
  [[nodiscard]] ElementType wire_type(ElementType type) const;

  struct BlindItem {
    ConstPlainTensor x;
    obfuscation::KeyUse rows, channels;
    int64_t decoy_images = 0;      ///< the last of the geometry, which x has not
    const void* decoys = nullptr;  ///< their pixels, of x's type
    ProductsOnTheWay products = {};
    obfuscation::PixelMap map = {};  ///< makes what is blinded
  };
  /// How the rows of one product's operands go to the workers, and come back: as `obfuscation::slice_rows` has it.
  using Slices = std::vector<obfuscation::RowRange>;
  /// @param bytes of the larger operand; empty where rows go together.
  [[nodiscard]] Slices slices_of(const obfuscation::Key& rows, size_t bytes) const;
  /// Blinds tensors of equal geometry, one key pair each, into one operand of `shape`.
  /// @param id that the operand will have; for observers
  /// @param slices not empty, with one item: they are put as they are finished
  Buffer blind(OperandId id, const std::vector<BlindItem>& items, const obfuscation::TileGeometry& geometry,
               ElementType wire, std::vector<int64_t> shape, const Slices& slices = {});
  /// Blinds an operand; with slices, puts them, too.
  using Blinding = std::function<Buffer(OperandId, const Slices&)>;
  /// Sends what `make` blinds. Workers that come in for others make it ask again: until `Operand::set_source` says
  /// otherwise, `make` and all that it refers to must stay as they are.
  /// @param like an operand whose rows this one's belong to.
  Operand send(Spread spread, const Blinding& make, const Operand& like = {}, const Slices& slices = {});
  /// Sends an operand as it is, to all workers: only for what is already blinded.
  Operand send_blinded_unchecked(const Buffer& operand);

  /// Starts an operation. @param expected spec of the reply, @param what for messages: "forward of LAYER"
  PendingReply submit(Operation operation, TensorSpec expected, std::string what);
  /// Waits for a reply, of the shape and type expected. @throws as WorkerPool
  Buffer receive(PendingReply& reply);
  /// The same, and gives it to `use`, which un-blinds and verifies. Where that throws IntegrityError the workers who
  /// were wrong are found and left out, and `use` gets the result of another.
  void accept(PendingReply& reply, const WorkerPool::Accept& use);
  /// A reply, of which rows may still be on their way.
  struct ArrivingReply {
    Buffer whole;  ///< unless there are slices
    ElementType wire = ElementType::kFloat32;
    obfuscation::UnblindSlices slices = {};
  };
  /// The same for rows, which come in the slices that operands were sent in.
  void accept_rows(PendingReply& reply, const Slices& slices, const std::function<void(const ArrivingReply&)>& use);
  struct UnblindItem {
    PlainTensor x;
    obfuscation::KeyUse rows, channels;
    int64_t decoy_images = 0;  ///< the last of the geometry, which are dropped
    ProductsOnTheWay products = {};
    const void* addend = nullptr;  ///< of x's type and shape, only where obfuscation::takes_addend
    MomentsOnTheWay moments = {};  ///< only where obfuscation::takes_moments, without an addend
  };
  /// Un-blinds a reply that holds `items.size()` tensors of equal geometry.
  void unblind(const Buffer& reply, const obfuscation::TileGeometry& geometry, const std::vector<UnblindItem>& items);
  void unblind(const ArrivingReply& reply, const obfuscation::TileGeometry& geometry, const UnblindItem& item);

  void count_product(double flops) { counters_.flops += flops; }

  /// Shows in plain what the session blinds and un-blinds. For tests and the audit only: it undoes all protection.
  class InsecurePlainObserver {
   public:
    virtual ~InsecurePlainObserver() = default;
    /// An operand was blinded from `items` and sent.
    virtual void sent(OperandId id, const obfuscation::TileGeometry& geometry, const std::vector<BlindItem>& items) = 0;
    /// A reply was un-blinded into `items`.
    virtual void received(const Buffer& reply, const obfuscation::TileGeometry& geometry,
                          const std::vector<UnblindItem>& items) = 0;
  };
  /// @param observer borrowed; nullptr switches it off, as it is from the start.
  void observe_plain_insecure(InsecurePlainObserver* observer) { plain_observer_ = observer; }
  [[nodiscard]] bool is_observed() const { return plain_observer_ != nullptr; }

 private:
  friend class Operand;
  void unblind(const std::byte* in, ElementType wire, const obfuscation::TileGeometry& geometry,
               const UnblindItem& item, const obfuscation::UnblindSlices& slices);

  BlindingOptions options_;
  obfuscation::KeyRing keys_;
  std::unique_ptr<KeyAhead> ahead_;  // null with one thread, which would only be in its own way
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
