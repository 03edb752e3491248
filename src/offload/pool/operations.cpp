// WorkerPool: operations over the members of a pool, cut into shards, and the whole reply.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "offload/pool/readiness.h"
#include "offload/pool/worker_pool.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::chrono::microseconds kGlance{500};     // how often shards are polled while several attempts are open
constexpr std::chrono::milliseconds kLongGlance{20};  // how often while only one is open, to check time limits
constexpr double kLateness = 4;                       // a shard is late after this many times what the others took
constexpr int kMostLate = 3;                          // a worker that is late this many times running is lost

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool is_matmul(const Product& product) { return product.kind == ProductKind::kMatmul; }

Combine combine_of(const Operation& operation) {
  if (const auto* gradient = std::get_if<WeightGradient>(&operation)) {
    if (gradient->keep_as != 0) return Combine::kOne;
    return is_matmul(gradient->product) ? Combine::kRows : Combine::kSum;
  }
  if (std::holds_alternative<Update>(operation)) return Combine::kEach;
  return std::holds_alternative<Fetch>(operation) ? Combine::kOne : Combine::kRows;
}

/// The operand whose cut decides which worker does what.
OperandId lead_of(const Operation& operation) {
  struct Visitor {
    OperandId operator()(const Forward& op) const { return op.x; }
    OperandId operator()(const InputGradient& op) const { return op.dy; }
    OperandId operator()(const WeightGradient& op) const { return op.x; }
    OperandId operator()(const Update& op) const { return op.w; }
    OperandId operator()(const Fetch& op) const { return op.operand; }
    OperandId operator()(const AllReduce& op) const { return op.operand; }
    OperandId operator()(const JoinGroup&) const { return 0; }
  };
  return std::visit(Visitor{}, operation);
}

template <typename T>
void add(const Buffer& part, Buffer& sum) {
  const auto* from = reinterpret_cast<const T*>(part.data());
  auto* to = reinterpret_cast<T*>(sum.data());
  const auto count = static_cast<size_t>(part.spec().elements());
  for (size_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

/// Translates an operation into the operand ids and shapes of one member's rows.
struct WorkerPool::Translate {
  WorkerPool& pool;
  const RowRange& rows;
  size_t member;

  [[nodiscard]] OperandId at(OperandId id) const { return pool.ensure(id, rows, member); }

  Operation operator()(Forward op) const {
    op.x = at(op.x);
    op.w = at(op.w);
    return op;
  }
  Operation operator()(InputGradient op) const {
    op.dy = at(op.dy);
    op.w = at(op.w);
    op.x_shape.front() = rows.count();
    return op;
  }
  Operation operator()(WeightGradient op) const {
    const std::vector<OperandId> x = pool.pieces_of(op.x, rows, member), dy = pool.pieces_of(op.dy, rows, member);
    const bool is_sliced = x.size() > 1 && x.size() == dy.size() && x.size() <= kMaxRowParts;
    for (size_t i = 1; is_sliced && i < x.size(); ++i) op.further.push_back({x[i], dy[i]});
    op.x = is_sliced ? x.front() : at(op.x);
    op.dy = is_sliced ? dy.front() : at(op.dy);
    if (is_matmul(op.product)) op.w_shape.front() = rows.count();
    return op;
  }
  Operation operator()(Update op) const {
    op.w = at(op.w);
    op.velocity = at(op.velocity);
    op.dw = at(op.dw);
    return op;
  }
  Operation operator()(Fetch op) const {
    op.operand = at(op.operand);
    return op;
  }
  Operation operator()(AllReduce op) const {
    op.operand = at(op.operand);
    return op;
  }
  Operation operator()(JoinGroup op) const { return op; }
};

Operation WorkerPool::for_member(const Operation& operation, const RowRange& rows, size_t member) {
  return std::visit(Translate{*this, rows, member}, operation);
}

PendingReply WorkerPool::submit(Operation operation, TensorSpec expected, std::string what) {
  if (active() == 0) throw_alone();
  PendingReply reply{.operation = std::move(operation),
                     .expected = std::move(expected),
                     .what = std::move(what),
                     .combine = {},
                     .holder = 0,
                     .shards = {}};
  reply.combine = combine_of(reply.operation);
  const Stored& lead = stored(lead_of(reply.operation));
  reply.holder = lead.holder;
  std::vector<Place> places;
  if (reply.combine == Combine::kEach) {
    for (const Piece& piece : lead.pieces)
      if (is_alive(piece)) places.push_back({piece.rows, piece.member});
  } else if (reply.combine == Combine::kRows) {
    for (const RowRange& rows : lead.cut) places.push_back({rows, holder(lead, rows)});
  } else {
    places = holders(lead);
  }
  for (const Place& place : places)
    start_somewhere(reply, reply.shards.emplace_back(Shard{.rows = place.rows}), place.member);
  return reply;
}

void WorkerPool::start(PendingReply& reply, Shard& shard, size_t member) {
  const uint64_t life = members_[member].life;
  Operation operation = for_member(reply.operation, shard.rows, member);
  shard.tried.push_back(member);
  shard.attempts.push_back({member, life, Clock::now(), members_[member].worker->submit(std::move(operation))});
  note_kept(reply.operation, reply.expected, member);
}

void WorkerPool::start_somewhere(PendingReply& reply, Shard& shard, size_t member) {
  for (; member < members_.size(); member = pick(shard.tried, reply.holder)) {
    const bool is_again = !shard.tried.empty();
    try {
      start(reply, shard, member);
    } catch (const Error&) {
      shard.tried.push_back(member);
      drop(member, std::current_exception());
      if (reply.combine == Combine::kEach) break;
      continue;
    }
    if (!is_again) return;
    ++reissued_;
    if (observer_ != nullptr) observer_->reissued(reply.what, members_[member].uri);
    return;
  }
  if (reply.combine != Combine::kEach || active() == 0) throw_alone();
  shard.is_done = true;  // each worker does its own; no other can take over
  shard.by = members_.size();
}

void WorkerPool::start_elsewhere(PendingReply& reply, Shard& shard) {
  start_somewhere(reply, shard, reply.combine == Combine::kEach ? members_.size() : pick(shard.tried, reply.holder));
}

Buffer WorkerPool::receive(PendingReply& reply) {
  for (size_t i = 0; i < reply.shards.size(); ++i) receive_shard(reply, i);
  return combine(reply);
}

const Buffer& WorkerPool::receive_shard(PendingReply& reply, size_t index) {
  const auto start = Clock::now();
  while (!reply.shards[index].is_done) poll(reply);
  reply.waited += seconds_since(start);
  if (index + 1 == reply.shards.size()) {
    measure(reply);
    if (observer_ != nullptr) observer_->completed(operation_name(reply.operation), reply.waited);
  }
  return reply.shards[index].result;
}

void WorkerPool::poll(PendingReply& reply) {
  double slowest_done = 0;
  Shard* waiting = nullptr;
  size_t open = 0;
  for (Shard& shard : reply.shards) {
    for (size_t i = 0; !shard.is_done && i < shard.attempts.size();) {
      is_ready(shard.attempts[i].reply, milliseconds(0)) ? take(reply, shard, i) : void(++i);
    }
    if (shard.is_done) {
      slowest_done = std::max(slowest_done, shard.seconds);
      continue;
    }
    if (waiting == nullptr) waiting = &shard;
    open += shard.attempts.size();
  }
  if (waiting == nullptr) return;
  const std::chrono::nanoseconds glance = open > 1 ? std::chrono::nanoseconds(kGlance) : kLongGlance;
  if (is_ready(waiting->attempts.front().reply, glance)) return;
  for (Shard& shard : reply.shards) {
    if (!shard.is_done) give_up_silent(reply, shard);
    if (!shard.is_done) reissue_if_late(reply, shard, slowest_done);
  }
}

Buffer WorkerPool::check_spec(const PendingReply& reply, const RowRange& rows, size_t member, Buffer result) const {
  TensorSpec expected = reply.expected;
  if (reply.combine == Combine::kRows) expected.shape.front() = rows.count();
  if (result.spec() == expected) return result;
  throw ProtocolError(fmt::format("offload: reply to {} from {} is {}, expected {}; the reply is dropped", reply.what,
                                  members_[member].uri, to_string(result.spec()), to_string(expected)));
}

void WorkerPool::take(PendingReply& reply, Shard& shard, size_t index) {
  Attempt attempt = std::move(shard.attempts[index]);
  shard.attempts.erase(shard.attempts.begin() + static_cast<ptrdiff_t>(index));
  try {
    shard.result = check_spec(reply, shard.rows, attempt.member, attempt.reply.get());
  } catch (const Error&) {
    // A member that has reconnected is not to blame for what its earlier connection left behind.
    if (members_[attempt.member].life == attempt.life) drop(attempt.member, std::current_exception());
    if (shard.attempts.empty()) start_elsewhere(reply, shard);
    return;
  }
  bytes_received_ += shard.result.bytes();
  shard.is_done = true;
  shard.by = attempt.member;
  shard.seconds = seconds_since(attempt.start);
  if (shard.tried.size() == 1) members_[attempt.member].late = 0;
}

void WorkerPool::give_up_silent(const PendingReply& reply, Shard& shard) {
  std::erase_if(shard.attempts, [&](const Attempt& attempt) {
    if (Clock::now() - attempt.start < options_.operation) return false;
    const std::string reason = fmt::format("{}: no reply to {} within {} ms", members_[attempt.member].uri, reply.what,
                                           options_.operation.count());
    last_error_ = std::make_exception_ptr(WorkerLostError(reason));
    if (members_[attempt.member].life == attempt.life) lose(attempt.member, reason);
    return true;
  });
}

void WorkerPool::reissue_if_late(PendingReply& reply, Shard& shard, double slowest_done) {
  if (shard.attempts.empty()) return start_elsewhere(reply, shard);
  const double patience = std::max(kLateness * slowest_done, std::chrono::duration<double>(options_.straggler).count());
  if (slowest_done <= 0 || shard.attempts.size() > 1 || reply.combine == Combine::kEach) return;
  if (seconds_since(shard.attempts.front().start) < patience) return;
  const size_t late = shard.attempts.front().member, other = pick(shard.tried, reply.holder);
  if (other == members_.size()) return;
  start_somewhere(reply, shard, other);
  if (++members_[late].late >= kMostLate) lose(late, fmt::format("late {} times running", kMostLate));
}

void WorkerPool::measure(const PendingReply& reply) {
  const auto is_first = [&](const Shard& shard) { return shard.by == reply.shards.front().by; };
  if (reply.combine == Combine::kEach || std::all_of(reply.shards.begin(), reply.shards.end(), is_first)) return;
  double slowest = 0;
  int64_t rows = 0;
  for (const Shard& shard : reply.shards) {
    slowest = std::max(slowest, shard.seconds);
    rows += shard.rows.count();
  }
  for (const Shard& shard : reply.shards) {
    if (shard.by >= members_.size()) continue;
    Member& member = members_[shard.by];
    member.done += slowest * static_cast<double>(shard.rows.count()) / static_cast<double>(rows);
    member.seconds += shard.seconds;
  }
}

Buffer WorkerPool::combine(const PendingReply& reply) const {
  if (reply.combine == Combine::kEach || reply.shards.size() == 1) {
    for (const Shard& shard : reply.shards)
      if (shard.by < members_.size()) return shard.result;
    throw_alone();
  }
  Buffer whole = Buffer::allocate(reply.expected);
  std::byte* to = whole.data();
  for (const Shard& shard : reply.shards) {
    const bool is_first = &shard == &reply.shards.front();
    if (reply.combine == Combine::kRows || is_first) {
      if (shard.result.bytes() > 0) std::memcpy(to, shard.result.data(), shard.result.bytes());
      if (reply.combine == Combine::kRows) to += shard.result.bytes();
    } else if (reply.expected.type == ElementType::kFloat64) {
      add<double>(shard.result, whole);
    } else {
      add<float>(shard.result, whole);
    }
  }
  return whole;
}

}  // namespace tempo::offload
