/// The workers of a run as one: operands spread over them, shards sent again where a worker fails, liars found and left
/// out, newcomers taken in.
///
/// Rows are cut *after* blinding: X~ = L X M is blinded as a whole, each worker gets some of its rows, and
/// Y~ = X~ W~ comes back in the same cut. So keys do not depend on how many workers there are or which did what, and a
/// row mixes rows of the whole batch, however many share the work. Design, and what happens when: README.md here.
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

#include "offload/pool/member.h"
#include "offload/pool/pending_reply.h"
#include "offload/pool/recruiter.h"
#include "offload/pool/row_cut.h"
#include "tempo/error.h"
#include "tempo/worker.h"

namespace tempo::offload {

/// How an operand lies over the workers.
enum class Spread : uint8_t { kRows, kEverywhere };

struct PoolOptions {
  std::chrono::milliseconds operation{120'000};  ///< a worker whose reply takes longer is lost
  std::chrono::milliseconds straggler{2'000};    ///< a shard later than this, and four times later than others, is
                                                 ///< sent to another worker, too
  bool sums_between_workers = false;             ///< see WorkerPool::sum_there
};

/// An operand is gone with the workers that held it, and there is no source to make it again: the step must be redone.
class OperandLostError : public WorkerLostError {
 public:
  using WorkerLostError::WorkerLostError;
};

/// Not thread-safe: one thread drives a model. Errors of workers are thrown only where no other worker can help:
/// WorkerLostError where none is left, or an operand went with its worker; IntegrityError where nobody gives a result
/// that passes; ProtocolError where all refuse.
class WorkerPool {
 public:
  /// Makes an operand's blinded bytes, the same each time: for workers that come in for others.
  using Source = std::function<Buffer()>;
  /// Uses a reply, un-blinds and verifies it. @throws IntegrityError if it is wrong.
  using Accept = std::function<void(const Buffer&)>;

  /// Of one worker that is there, and never replaced.
  explicit WorkerPool(std::shared_ptr<Worker> worker, const PoolOptions& options = {});
  /// Connects to all, and begins with those that answer; the others may join later.
  /// @param connect_first with patience, @param connect_again as of Recruiter
  /// @throws what `connect_first` throws if none answers, or for an address that is wrong.
  WorkerPool(const std::vector<std::string>& uris, const Recruiter::Connect& connect_first,
             Recruiter::Connect connect_again, const PoolOptions& options = {});
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void observe(PoolObserver* observer) { observer_ = observer; }
  [[nodiscard]] const std::vector<Member>& members() const { return members_; }
  [[nodiscard]] size_t active() const;
  /// Whether more than one worker is listed, so that work can go on where one fails.
  [[nodiscard]] bool is_redundant() const { return members_.size() > 1; }
  /// For messages: "grpc://a:1" or "one of grpc://a:1, grpc://b:1".
  [[nodiscard]] std::string name() const;

  /// Takes in who has come, and sets shares by measured speed; between steps only. True if somebody came: replicated
  /// operands must then be `replicate`d.
  bool begin_step();
  /// Waits for a first worker where none is active. False if none came in time or before `*stop`, or none can come.
  bool wait_for_workers(std::chrono::milliseconds patience, const std::atomic<bool>* stop = nullptr);
  /// The workers from now on: new ones are looked for, missing ones leave. Between steps only.
  void set_workers(const std::vector<std::string>& uris);

  /// Memory for an operand: the worker's own where one worker takes it all.
  Buffer allocate(const TensorSpec& spec);
  /// Stores an operand. @param source may be empty: it is lost with the workers that have it.
  /// @param like another one whose cut it shares.
  void put(OperandId id, const Buffer& operand, Spread spread, Source source, OperandId like = 0);
  /// Whether one worker has all work; `device` is what it says it computes on.
  [[nodiscard]] bool is_single() const { return active() == 1; }
  [[nodiscard]] const std::string& device() const { return members_[pick({})].device; }
  /// Begins an operand whose rows come in slices, all to one worker.
  void begin_slices(OperandId id, const TensorSpec& spec);
  /// The next rows. @param whole all of the operand, of which these rows are finished.
  void put_slice(OperandId id, const Buffer& whole, const RowRange& rows);
  void set_source(OperandId id, Source source);
  /// Gives a replicated operand to active workers that do not have it.
  void replicate(OperandId id, const Buffer& operand);
  void free(OperandId id);

  /// @param expected spec of the whole reply. @param what for messages.
  PendingReply submit(Operation operation, TensorSpec expected, std::string what);
  /// Waits for the whole reply; its shape and type are right, its values untrusted.
  Buffer receive(PendingReply& reply);
  /// Waits for one part of it; of all, it is the same as `receive`.
  const Buffer& receive_shard(PendingReply& reply, size_t index);
  /// The whole of what was received in parts.
  [[nodiscard]] Buffer combine(const PendingReply& reply) const;
  /// `reply` was not what `accept` takes, and `refusal` says so. Finds a worker whose result it takes, and quarantines
  /// all who were wrong; throws `refusal` where there is none.
  void resolve(const PendingReply& reply, const Buffer& combined, const Accept& accept,
               const std::exception_ptr& refusal);

  [[nodiscard]] bool sums_between_workers() const { return options_.sums_between_workers; }
  /// A weight gradient, summed by the workers among themselves (JoinGroup, AllReduce) and kept by all as
  /// `gradient.keep_as`. @returns what one of them, chosen at random, says is the sum; nothing where they do not sum,
  /// or it failed: the caller then sums.
  std::optional<Buffer> sum_there(const WeightGradient& gradient, const TensorSpec& spec, const std::string& what);
  /// How many active workers hold a replicated operand.
  [[nodiscard]] size_t replicas(OperandId id) const;
  /// Whether one worker has all rows of it: then that one can keep a gradient that it computes from it.
  [[nodiscard]] bool is_whole(OperandId id) const;
  [[nodiscard]] uint64_t bytes_sent() const { return bytes_sent_; }
  [[nodiscard]] uint64_t bytes_received() const { return bytes_received_; }
  [[nodiscard]] uint64_t reissued() const { return reissued_; }

 private:
  struct Piece {
    size_t member = 0;
    uint64_t life = 0;
    RowRange rows;
    OperandId id = 0;  // on that worker
  };
  struct Stored {
    TensorSpec spec;
    Spread spread = Spread::kRows;
    Source source;
    std::vector<RowRange> cut;  ///< all rows, once; an operation on them has a shard for each
    std::vector<Piece> pieces;  ///< of it, and what was sent again
  };

  // Members: worker_pool.cpp
  void activate(Member& member, std::shared_ptr<Worker> worker);
  void lose(size_t member, const std::string& reason);
  void quarantine(size_t member, const std::string& reason);
  /// A worker failed: lost or quarantined, as the error says. Rethrows what is not its fault.
  void drop(size_t member, const std::exception_ptr& error);
  void set_shares();
  [[nodiscard]] bool is_alive(const Piece& piece) const;
  /// The active member with the largest share that is not in `except`; members_.size() if there is none.
  [[nodiscard]] size_t pick(const std::vector<size_t>& except) const;
  [[noreturn]] void throw_alone() const;

  // Operands: operands.cpp
  struct Place {
    RowRange rows;
    size_t member = 0;
  };
  [[nodiscard]] std::vector<Place> places_for(const TensorSpec& spec, OperandId like) const;
  /// An active member that holds these rows already, or else the one to give them to.
  [[nodiscard]] size_t holder(const Stored& stored, const RowRange& rows) const;
  void upload(OperandId id, Stored& stored, const Place& place, const Buffer& whole);
  /// The same, but a worker that fails is dropped.
  void try_upload(OperandId id, Stored& stored, const Place& place, const Buffer& whole);
  /// The id of these rows on a member; sent there first if need be.
  OperandId ensure(OperandId id, const RowRange& rows, size_t member);
  /// Ids of pieces on a member that make up these rows, in order; empty if there are none that do.
  [[nodiscard]] std::vector<OperandId> pieces_of(OperandId id, const RowRange& rows, size_t member) const;
  /// Who has which rows, neighbouring ones of one member together.
  [[nodiscard]] std::vector<Place> holders(const Stored& stored) const;
  void note_kept(const Operation& operation, const TensorSpec& spec, size_t member);
  Stored& stored(OperandId id);

  // Operations: operations.cpp
  struct Translate;
  Operation for_member(const Operation& operation, const RowRange& rows, size_t member);
  void start(PendingReply& reply, Shard& shard, size_t member);
  /// On `member`, or else on whoever has not had its try. @throws what the last one ended with.
  void start_somewhere(PendingReply& reply, Shard& shard, size_t member);
  void start_elsewhere(PendingReply& reply, Shard& shard);
  void poll(PendingReply& reply);
  void take(PendingReply& reply, Shard& shard, size_t attempt);
  void give_up_silent(const PendingReply& reply, Shard& shard);
  void reissue_if_late(PendingReply& reply, Shard& shard, double slowest_done);
  void measure(const PendingReply& reply);

  // Disputes: dispute.cpp
  Buffer compute_alone(const PendingReply& reply, const RowRange& rows, size_t member);
  /// @param proven what `witness` computed alone, and was accepted.
  std::vector<size_t> liars_of(const PendingReply& reply, const Buffer& combined, const Buffer& proven, size_t witness);
  Buffer check_spec(const PendingReply& reply, const RowRange& rows, size_t member, Buffer result) const;

  // Sums among workers: worker_sums.cpp
  using Lives = std::vector<std::pair<size_t, uint64_t>>;
  [[nodiscard]] Lives active_lives() const;
  bool join_group();
  /// Operations of all, all submitted before any is waited for. False if one failed; a lost worker is dropped.
  bool run_on_all(const std::vector<std::pair<size_t, Operation>>& operations, const TensorSpec& expected);

  PoolOptions options_;
  std::vector<Member> members_;
  Lives group_;       // who sums together
  Lives cannot_sum_;  // who tried and failed: not tried again until others are there
  std::unordered_map<OperandId, Stored> stored_;
  OperandId next_reissued_ = OperandId{1} << 62;
  std::exception_ptr last_error_;  // what the last worker ended with
  PoolObserver* observer_ = nullptr;
  uint64_t bytes_sent_ = 0, bytes_received_ = 0, reissued_ = 0;
  std::unique_ptr<Recruiter> recruiter_;
};

}  // namespace tempo::offload
