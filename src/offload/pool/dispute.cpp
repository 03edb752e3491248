// WorkerPool: finds out which workers were wrong when a reply is not the product that was asked for.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "offload/pool/readiness.h"
#include "offload/pool/worker_pool.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace {

/// Whether one worker computed all shards.
bool is_of_one(const PendingReply& reply) {
  const size_t first = reply.shards.front().by;
  return std::all_of(reply.shards.begin(), reply.shards.end(), [&](const Shard& shard) { return shard.by == first; });
}

/// How far the products of two honest workers may lie apart, relative to a row's norm, if one rounds its operands and
/// the other does not.
double difference_of(const Operation& operation) {
  auto precision = ProductPrecision::kFloat32;  // weight gradients never round their operands
  if (const auto* forward = std::get_if<Forward>(&operation)) precision = forward->product.precision;
  if (const auto* gradient = std::get_if<InputGradient>(&operation)) precision = gradient->product.precision;
  switch (precision) {
    case ProductPrecision::kFloat32:
      return 0;
    case ProductPrecision::kTf32:
      return 8e-3;
    case ProductPrecision::kBFloat16:
      return 3e-2;
  }
  return 0;
}

/// How far the same rows of two honest workers may lie apart, relative to a row's norm: they add in another order.
double honest_difference(ElementType type) {
  switch (type) {
    case ElementType::kFloat64:
      return 1e-10;
    case ElementType::kFloat32:
      return 1e-4;
    case ElementType::kBFloat16:
      return 3e-2;
  }
  return 0;
}

double value_at(const std::byte* data, ElementType type, size_t i) {
  switch (type) {
    case ElementType::kFloat64:
      return reinterpret_cast<const double*>(data)[i];
    case ElementType::kFloat32:
      return static_cast<double>(reinterpret_cast<const float*>(data)[i]);
    case ElementType::kBFloat16: {
      const uint32_t bits = uint32_t{reinterpret_cast<const uint16_t*>(data)[i]} << 16;
      float value = 0;
      std::memcpy(&value, &bits, sizeof value);
      return static_cast<double>(value);
    }
  }
  return 0;
}

/// The largest difference of a row, relative to its norm, over `rows` rows that lie at `a` and `b`. Infinite if a value
/// is not finite.
double largest_row_difference(const std::byte* a, const std::byte* b, ElementType type, int64_t rows, size_t row_size) {
  double largest = 0;
  for (int64_t row = 0; row < rows; ++row) {
    double apart = 0, norm = 0;
    for (size_t i = 0; i < row_size; ++i) {
      const size_t at = static_cast<size_t>(row) * row_size + i;
      const double right = value_at(b, type, at), difference = value_at(a, type, at) - right;
      apart += difference * difference;
      norm += right * right;
    }
    const double ratio = apart == 0 ? 0 : std::sqrt(apart / norm);
    largest = std::isfinite(ratio) ? std::max(largest, ratio) : INFINITY;
  }
  return largest;
}

}  // namespace

Buffer WorkerPool::compute_alone(const PendingReply& reply, const RowRange& rows, size_t member) {
  PendingReply alone{.operation = reply.operation,
                     .expected = reply.expected,
                     .what = reply.what,
                     .combine = reply.combine,
                     .holder = reply.holder,
                     .shards = {}};
  Shard& shard = alone.shards.emplace_back(Shard{.rows = rows});
  start(alone, shard, member);
  std::future<Buffer>& future = shard.attempts.front().reply;
  if (!is_ready(future, options_.operation))
    throw WorkerLostError(
        fmt::format("{}: no reply to {} within {} ms", members_[member].uri, reply.what, options_.operation.count()));
  Buffer result = check_spec(reply, rows, member, future.get());
  bytes_received_ += result.bytes();
  return result;
}

void WorkerPool::resolve(const PendingReply& reply, const Buffer& combined, const Accept& accept,
                         const std::exception_ptr& refusal) {
  const std::string wrong = fmt::format("its result of {} was wrong", reply.what);
  last_error_ = refusal;
  if (is_of_one(reply)) quarantine(reply.shards.front().by, wrong);
  const RowRange all{0, reply.shards.back().rows.end};
  for (size_t witness = pick({}, reply.holder); witness < members_.size(); witness = pick({}, reply.holder)) {
    ++reissued_;
    if (observer_ != nullptr) observer_->reissued(reply.what, members_[witness].uri);
    try {
      const Buffer proven = compute_alone(reply, all, witness);
      accept(proven);
      for (const size_t liar : liars_of(reply, combined, proven, witness)) quarantine(liar, wrong);
      return;
    } catch (const IntegrityError&) {
      quarantine(witness, wrong);
    } catch (const OperandLostError&) {
      break;
    } catch (const Error&) {
      drop(witness, std::current_exception());
      last_error_ = refusal;
    }
  }
  std::rethrow_exception(refusal);
}

std::vector<size_t> WorkerPool::liars_of(const PendingReply& reply, const Buffer& combined, const Buffer& proven,
                                         size_t witness) {
  std::vector<size_t> liars;
  if (is_of_one(reply)) return liars;
  const ElementType type = reply.expected.type;
  double worst = 0;
  size_t most_likely = witness;
  const int64_t all_rows = std::max<int64_t>(reply.expected.shape.front(), 1);
  const auto row_size = static_cast<size_t>(reply.expected.elements() / all_rows);
  for (const Shard& shard : reply.shards) {
    double difference = 0;
    if (reply.combine == Combine::kRows) {
      const size_t offset = static_cast<size_t>(shard.rows.begin) * row_size * element_bytes(type);
      difference =
          largest_row_difference(combined.data() + offset, proven.data() + offset, type, shard.rows.count(), row_size);
    } else {
      const Buffer again = compute_alone(reply, shard.rows, witness);
      difference = largest_row_difference(shard.result.data(), again.data(), type, all_rows, row_size);
    }
    if (difference > std::max(honest_difference(type), difference_of(reply.operation))) liars.push_back(shard.by);
    if (difference > worst) {
      worst = difference;
      most_likely = shard.by;
    }
  }
  // Somebody was wrong. If no difference is clear, blame the member whose rows lie farthest from the proven ones.
  if (liars.empty()) liars.push_back(most_likely);
  return liars;
}

}  // namespace tempo::offload
