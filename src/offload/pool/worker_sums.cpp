// WorkerPool: sums that workers make among themselves.
#include <fmt/format.h>

#include <algorithm>

#include "base/csprng.h"
#include "offload/pool/readiness.h"
#include "offload/pool/worker_pool.h"
#include "tempo/error.h"

namespace tempo::offload {

WorkerPool::Lives WorkerPool::active_lives() const {
  Lives lives;
  for (size_t i = 0; i < members_.size(); ++i)
    if (members_[i].is_active()) lives.emplace_back(i, members_[i].life);
  return lives;
}

bool WorkerPool::run_on_all(const std::vector<std::pair<size_t, Operation>>& operations, const TensorSpec& expected) {
  std::vector<std::pair<size_t, std::future<Buffer>>> replies;
  bool all_well = true;
  const auto attempt = [&](size_t member, const auto& body) {
    try {
      body();
    } catch (const WorkerLostError&) {
      all_well = false;
      drop(member, std::current_exception());
    } catch (const ProtocolError&) {
      all_well = false;  // a refusal may be the fault of another worker
    }
  };
  for (const auto& [member, operation] : operations)
    attempt(member, [&, m = member, &op = operation] { replies.emplace_back(m, members_[m].worker->submit(op)); });
  for (auto& [member, reply] : replies)
    attempt(member, [&, m = member, &future = reply] {
      if (!is_ready(future, options_.operation))
        throw WorkerLostError(fmt::format("{}: no reply within {} ms", members_[m].uri, options_.operation.count()));
      const Buffer result = future.get();
      bytes_received_ += result.bytes();
      all_well = all_well && result.spec() == expected;
    });
  return all_well;
}

bool WorkerPool::join_group() {
  const Lives lives = active_lives();
  if (lives == group_) return true;
  if (lives == cannot_sum_ || lives.size() < 2) return false;
  group_.clear();
  std::string rendezvous;
  bool all_reachable = true;
  for (const auto& [member, life] : lives) {
    const std::string address = members_[member].worker->describe().collective;
    if (rendezvous.empty()) rendezvous = address;
    all_reachable = all_reachable && !address.empty();
  }
  if (all_reachable) {
    Csprng random(SecretKey::random());
    const std::string name = fmt::format("{:016x}{:016x}", random.next_u64(), random.next_u64());
    std::vector<std::pair<size_t, Operation>> joins;
    for (const auto& [member, life] : lives)
      joins.emplace_back(member, JoinGroup{.rendezvous = rendezvous,
                                           .group = name,
                                           .rank = static_cast<uint32_t>(joins.size()),
                                           .size = static_cast<uint32_t>(lives.size())});
    if (run_on_all(joins, {.type = ElementType::kFloat32, .shape = {0}})) {
      group_ = lives;
      return true;
    }
  }
  cannot_sum_ = active_lives();
  return false;
}

std::optional<Buffer> WorkerPool::sum_there(const WeightGradient& gradient, const TensorSpec& spec,
                                            const std::string& what) {
  if (!options_.sums_between_workers || !join_group()) return std::nullopt;
  const std::vector<RowRange> cut = stored(gradient.x).cut;
  std::vector<std::pair<size_t, Operation>> parts, sums;
  for (const RowRange& rows : cut) {
    const size_t member = holder(stored(gradient.x), rows);
    const bool has_one =
        std::any_of(parts.begin(), parts.end(), [&](const auto& part) { return part.first == member; });
    if (has_one || member == members_.size()) return std::nullopt;
    parts.emplace_back(member, for_member(gradient, rows, member));
    sums.emplace_back(member, AllReduce{gradient.keep_as});
  }
  if (parts.size() != group_.size()) return std::nullopt;  // a worker without rows has no part of the sum
  const TensorSpec norm{.type = ElementType::kFloat64, .shape = {1}};
  if (!run_on_all(parts, norm) || !run_on_all(sums, norm)) {
    group_.clear();
    cannot_sum_ = active_lives();
    return std::nullopt;
  }
  Stored& kept = stored_[gradient.keep_as];
  kept = {.spec = spec, .spread = Spread::kEverywhere, .source = {}, .cut = {{0, spec.shape.front()}}, .pieces = {}};
  for (const auto& [member, operation] : parts)
    kept.pieces.push_back({member, members_[member].life, kept.cut.front(), gradient.keep_as});
  // The worker that is asked for the sum is drawn at random, so that none knows beforehand whether it is asked.
  Csprng random(SecretKey::random());
  std::swap(kept.pieces.front(), kept.pieces[random.below(static_cast<uint32_t>(kept.pieces.size()))]);
  PendingReply fetched = submit(Fetch{gradient.keep_as}, spec, what);
  return receive(fetched);
}

}  // namespace tempo::offload
