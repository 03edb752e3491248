/// The workers of a run as one. The pool spreads operands over the workers, gives shards to others where a worker
/// fails, finds and leaves out liars, and takes in newcomers.
///
/// Rows are cut *after* blinding: X~ = L X M is blinded as a whole, each worker gets some of its rows, and Y~ = X~ W~
/// comes back in the same cut. So keys depend neither on how many workers there are nor on which did what, and a row
/// mixes rows of the whole batch, however many workers share it. Design, and what happens when: README.md here.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "offload/contract.h"
#include "offload/pool/member.h"
#include "offload/pool/operand_source.h"
#include "offload/pool/pending_reply.h"
#include "offload/pool/recruiter.h"
#include "offload/pool/row_cut.h"
#include "tempo/error.h"

namespace tempo::offload {

struct PoolOptions {
  std::chrono::milliseconds operation{120'000};  ///< a worker whose reply takes longer is lost
  std::chrono::milliseconds straggler{2'000};    ///< a shard that takes longer than this, and four times longer than
                                                 ///< others, is given to another worker, too
  bool sums_between_workers = false;             ///< see WorkerPool::sum_there
};

/// An operand is gone with the workers that held it, and cannot be blinded again. The step must be repeated.
class OperandLostError : public WorkerLostError {
 public:
  using WorkerLostError::WorkerLostError;
};

/// Not thread-safe: one thread drives a model. An error of a worker is thrown only if no other worker can help:
/// WorkerLostError if none is left or an operand is lost, IntegrityError if no worker gives a result that passes,
/// ProtocolError if all refuse.
class WorkerPool {
 public:
  using Source = std::shared_ptr<const OperandSource>;
  /// Un-blinds and verifies a reply. @throws IntegrityError if it is wrong.
  using Accept = std::function<void(const Buffer&)>;

  /// A pool of one connected worker, which is never replaced.
  explicit WorkerPool(std::shared_ptr<Worker> worker, const PoolOptions& options = {});
  /// Connects to all workers, and starts with those that answer. The others may join later.
  /// @param connect_first connects patiently. @param connect_again connects as Recruiter does.
  /// @throws what `connect_first` throws if no worker answers; InputError if an address is wrong.
  WorkerPool(const std::vector<std::string>& uris, const Recruiter::Connect& connect_first,
             Recruiter::Connect connect_again, const PoolOptions& options = {});
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void observe(PoolObserver* observer) { observer_ = observer; }
  [[nodiscard]] const std::vector<Member>& members() const { return members_; }
  [[nodiscard]] size_t active() const;
  /// Whether the pool knows more than one worker, so that work can go on if one fails. Counts workers that are absent,
  /// quarantined or no longer listed, too.
  [[nodiscard]] bool is_redundant() const { return members_.size() > 1; }
  /// The active workers, for messages: "grpc://a:1" or "one of grpc://a:1, grpc://b:1".
  [[nodiscard]] std::string name() const;

  /// Takes in workers that have connected, and sets shares by measured speed. Call it between steps only. Returns true
  /// if a worker joined: replicated operands must then be given to it with `replicate`.
  bool begin_step();
  /// Waits for a worker if none is active. Returns false if none comes within `patience` or before `*stop` is set, or
  /// if none can come.
  bool wait_for_workers(std::chrono::milliseconds patience, const std::atomic<bool>* stop = nullptr);
  /// Sets the list of workers: new ones are looked for, ones no longer listed leave. Call it between steps only.
  void set_workers(const std::vector<std::string>& uris);

  /// Allocates memory for an operand: the worker's own if one worker holds all of it.
  Buffer allocate(const TensorSpec& spec);
  struct Placing {
    Spread spread = Spread::kEverywhere;
    Source source = nullptr;  ///< blinds it again; nullptr: the operand is lost with the workers that hold it
    OperandId like = 0;       ///< an operand that is cut into the same rows; 0: cut by the workers' shares
    Holder holder = 0;        ///< the workers that may hold it, now and whatever happens to workers later
  };
  /// Stores an operand on the workers.
  /// @throws WorkerLostError, or what the last worker failed with, if no worker is left.
  void put(OperandId id, const Buffer& operand, Placing how);
  /// Divides the workers into `count` groups, each of which may hold one part of every operand. A worker stays in its
  /// group for good. Call it before the first operand. @throws InputError if there are fewer workers than groups.
  void divide(int count);
  /// Whether exactly one worker is active. `device` is what the active worker with the largest share says it computes
  /// on; it requires an active worker.
  [[nodiscard]] bool is_single() const { return active() == 1; }
  [[nodiscard]] const std::string& device() const { return members_[pick({})].device; }
  /// Begins an operand whose rows are put in slices, all on one worker.
  void begin_slices(OperandId id, const TensorSpec& spec, Source source);
  /// Puts the next rows. @param whole memory of the whole operand, in which `rows` are finished.
  void put_slice(OperandId id, const Buffer& whole, const RowRange& rows);
  /// Gives a replicated operand to the active workers that do not have it.
  void replicate(OperandId id, const Buffer& operand);
  void free(OperandId id);

  /// Starts an operation. @param expected spec of the whole reply. @param what name for messages.
  PendingReply submit(Operation operation, TensorSpec expected, std::string what);
  /// Waits for the whole reply. Its shape and type are as expected, its values are untrusted.
  Buffer receive(PendingReply& reply);
  /// Waits for one shard. To receive a reply in parts, call this for all shards in order, then `combine`.
  const Buffer& receive_shard(PendingReply& reply, size_t index);
  /// The whole reply, once all its shards are received.
  [[nodiscard]] Buffer combine(const PendingReply& reply) const;
  /// Settles a reply that `accept` refused with `refusal`. Finds a worker whose result `accept` takes, and quarantines
  /// all workers that were wrong. Throws `refusal` if there is no such worker.
  void resolve(const PendingReply& reply, const Buffer& combined, const Accept& accept,
               const std::exception_ptr& refusal);

  [[nodiscard]] bool sums_between_workers() const { return options_.sums_between_workers; }
  /// Lets the workers sum a weight gradient among themselves (JoinGroup, AllReduce); all keep it as `gradient.keep_as`.
  /// @returns what one of them, drawn at random, says the sum is; nothing if the workers do not sum or failed to: the
  /// caller then sums the parts.
  std::optional<Buffer> sum_there(const WeightGradient& gradient, const TensorSpec& spec, const std::string& what);
  /// The number of active workers that hold a replicated operand.
  [[nodiscard]] size_t replicas(OperandId id) const;
  /// Whether one worker holds all rows of an operand. It can then keep a gradient that it computes from it.
  [[nodiscard]] bool is_whole(OperandId id) const;
  [[nodiscard]] uint64_t bytes_sent() const { return bytes_sent_; }
  [[nodiscard]] uint64_t bytes_received() const { return bytes_received_; }
  [[nodiscard]] uint64_t reissued() const { return reissued_; }

 private:
  struct Piece {
    size_t member = 0;
    uint64_t life = 0;
    RowRange rows;
    OperandId id = 0;  // the operand's id on that worker
  };
  struct Stored {
    TensorSpec spec;
    Spread spread = Spread::kRows;
    Source source;
    Holder holder = 0;
    std::vector<RowRange> cut;  ///< ranges that cover all rows once; an operation has a shard for each
    std::vector<Piece> pieces;  ///< which worker holds which rows, in the order sent; includes rows sent again
  };

  // Members: worker_pool.cpp
  void activate(Member& member, std::shared_ptr<Worker> worker);
  void lose(size_t member, const std::string& reason);
  void quarantine(size_t member, const std::string& reason);
  /// Handles a worker's failure: it is lost or quarantined, depending on the error. Rethrows errors that are not its
  /// fault.
  void drop(size_t member, const std::exception_ptr& error);
  void set_shares();
  [[nodiscard]] bool is_alive(const Piece& piece) const;
  /// The group of a member.
  [[nodiscard]] Holder group_of(size_t member) const;
  [[nodiscard]] bool may_hold(size_t member, Holder holder) const { return holder == 0 || group_of(member) == holder; }
  /// The active member with the largest share that is not in `except` and may hold what `holder` may; members_.size()
  /// if there is none.
  [[nodiscard]] size_t pick(const std::vector<size_t>& except, Holder holder = 0) const;
  [[noreturn]] void throw_alone() const;

  // Operands: operands.cpp
  struct Place {
    RowRange rows;
    size_t member = 0;
  };
  [[nodiscard]] std::vector<Place> places_for(const Stored& stored, OperandId like) const;
  /// An active member that holds these rows, or else the one to give them to.
  [[nodiscard]] size_t holder(const Stored& stored, const RowRange& rows) const;
  void upload(OperandId id, Stored& stored, const Place& place, const Buffer& whole);
  /// Like `upload`, but drops a worker that fails.
  void try_upload(OperandId id, Stored& stored, const Place& place, const Buffer& whole);
  /// The id of these rows on a member. Sends them first if they are not there.
  OperandId ensure(OperandId id, const RowRange& rows, size_t member);
  /// Ids of the pieces on a member that together make up these rows, in order; empty if there are none.
  [[nodiscard]] std::vector<OperandId> pieces_of(OperandId id, const RowRange& rows, size_t member) const;
  /// Which member holds which rows; adjacent ranges of one member are joined.
  [[nodiscard]] std::vector<Place> holders(const Stored& stored) const;
  void note_kept(const Operation& operation, const TensorSpec& spec, size_t member);
  Stored& stored(OperandId id);

  // Operations: operations.cpp
  struct Translate;
  Operation for_member(const Operation& operation, const RowRange& rows, size_t member);
  void start(PendingReply& reply, Shard& shard, size_t member);
  /// Starts a shard on `member`, or else on a member that has not tried it. @throws what the last one failed with.
  void start_somewhere(PendingReply& reply, Shard& shard, size_t member);
  void start_elsewhere(PendingReply& reply, Shard& shard);
  void poll(PendingReply& reply);
  void take(PendingReply& reply, Shard& shard, size_t attempt);
  void give_up_silent(const PendingReply& reply, Shard& shard);
  void reissue_if_late(PendingReply& reply, Shard& shard, double slowest_done);
  void measure(const PendingReply& reply);

  // Disputes: dispute.cpp
  Buffer compute_alone(const PendingReply& reply, const RowRange& rows, size_t member);
  /// The members whose results differ from the proven one. @param proven what `witness` computed alone, and was
  /// accepted.
  std::vector<size_t> liars_of(const PendingReply& reply, const Buffer& combined, const Buffer& proven, size_t witness);
  Buffer check_spec(const PendingReply& reply, const RowRange& rows, size_t member, Buffer result) const;

  // Sums among workers: worker_sums.cpp
  using Lives = std::vector<std::pair<size_t, uint64_t>>;
  [[nodiscard]] Lives active_lives() const;
  bool join_group();
  /// Runs one operation on each worker; submits all of them before it waits. Returns false if one failed. A lost worker
  /// is dropped.
  bool run_on_all(const std::vector<std::pair<size_t, Operation>>& operations, const TensorSpec& expected);

  PoolOptions options_;
  std::vector<Member> members_;
  int groups_ = 1;    // of holders of parts
  Lives group_;       // the workers that sum together
  Lives cannot_sum_;  // the workers that failed to sum; not tried again until the set changes
  std::unordered_map<OperandId, Stored> stored_;
  OperandId next_reissued_ = OperandId{1} << 62;
  std::exception_ptr last_error_;  // what the last failed worker failed with
  PoolObserver* observer_ = nullptr;
  uint64_t bytes_sent_ = 0, bytes_received_ = 0, reissued_ = 0;
  std::unique_ptr<Recruiter> recruiter_;
};

}  // namespace tempo::offload
