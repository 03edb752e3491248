// WorkerPool: its members, and their shares of the work.
#include "offload/pool/worker_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <future>

#include "tempo/error.h"

namespace tempo::offload {

namespace {

constexpr double kShareChange = 0.1;  // smaller changes are not made: each moves work for no gain
constexpr double kShareInertia = 0.5;

}  // namespace

WorkerPool::WorkerPool(std::shared_ptr<Worker> worker, const PoolOptions& options) : options_(options) {
  Member& member = members_.emplace_back();
  member.uri = worker->describe().name;
  activate(member, std::move(worker));
}

WorkerPool::WorkerPool(const std::vector<std::string>& uris, const Recruiter::Connect& connect_first,
                       Recruiter::Connect connect_again, const PoolOptions& options)
    : options_(options) {
  std::vector<std::future<std::shared_ptr<Worker>>> connecting;
  for (const std::string& uri : uris)
    connecting.push_back(std::async(std::launch::async, [&connect_first, uri] { return connect_first(uri); }));
  std::exception_ptr wrong_input;
  for (size_t i = 0; i < uris.size(); ++i) {
    Member& member = members_.emplace_back();
    member.uri = uris[i];
    try {
      activate(member, connecting[i].get());
    } catch (const InputError&) {
      wrong_input = std::current_exception();
    } catch (const Error&) {
      last_error_ = std::current_exception();
    }
  }
  if (wrong_input) std::rethrow_exception(wrong_input);
  if (active() == 0) throw_alone();
  recruiter_ = std::make_unique<Recruiter>(std::move(connect_again));
  for (const Member& member : members_)
    if (!member.is_active()) recruiter_->seek(member.uri);
}

WorkerPool::~WorkerPool() = default;

size_t WorkerPool::active() const {
  return static_cast<size_t>(
      std::count_if(members_.begin(), members_.end(), [](const Member& m) { return m.is_active(); }));
}

std::string WorkerPool::name() const {
  std::string names;
  for (const Member& member : members_)
    if (member.is_active()) names += (names.empty() ? "" : ", ") + member.uri;
  return active() > 1 ? "one of " + names : names;
}

void WorkerPool::activate(Member& member, std::shared_ptr<Worker> worker) {
  member.worker = std::move(worker);
  member.device = member.worker->describe().device;
  member.state = MemberState::kActive;
  ++member.life;
  member.late = 0;
  member.done = member.seconds = 0;
  double shares = 0;
  for (const Member& other : members_)
    if (other.is_active() && &other != &member) shares += other.share;
  // The average share, until the speed of the member is measured.
  member.share = shares > 0 ? shares / static_cast<double>(active() - 1) : 1;
  if (observer_ != nullptr) observer_->joined(member.uri);
}

void WorkerPool::lose(size_t index, const std::string& reason) {
  Member& member = members_[index];
  if (!member.is_active()) return;
  member.state = MemberState::kAbsent;
  member.worker.reset();
  if (observer_ != nullptr) observer_->lost(member.uri, reason);
  if (recruiter_) recruiter_->seek(member.uri);
}

void WorkerPool::quarantine(size_t index, const std::string& reason) {
  Member& member = members_[index];
  if (!member.is_active()) return;
  member.state = MemberState::kQuarantined;
  member.worker.reset();
  if (observer_ != nullptr) observer_->quarantined(member.uri, reason);
}

void WorkerPool::drop(size_t member, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const OperandLostError&) {
    throw;
  } catch (const InputError&) {
    throw;
  } catch (const WorkerLostError& lost) {
    lose(member, lost.what());
  } catch (const Error& broken) {
    quarantine(member, broken.what());
  }
  last_error_ = error;
}

bool WorkerPool::is_alive(const Piece& piece) const {
  const Member& member = members_[piece.member];
  return member.is_active() && member.life == piece.life;
}

void WorkerPool::divide(int count) {
  if (static_cast<size_t>(count) > members_.size())
    throw InputError(
        fmt::format("workers: got {}, expected at least {}: the protection splits operands into so many parts, "
                    "each for workers of its own",
                    members_.size(), count));
  groups_ = count;
}

Holder WorkerPool::group_of(size_t member) const { return static_cast<int>(member % static_cast<size_t>(groups_)) + 1; }

size_t WorkerPool::pick(const std::vector<size_t>& except, Holder holder) const {
  size_t best = members_.size();
  for (size_t i = 0; i < members_.size(); ++i) {
    if (!members_[i].is_active() || !may_hold(i, holder) || std::find(except.begin(), except.end(), i) != except.end())
      continue;
    if (best == members_.size() || members_[i].share > members_[best].share) best = i;
  }
  return best;
}

void WorkerPool::throw_alone() const {
  if (last_error_) std::rethrow_exception(last_error_);
  throw WorkerLostError("offload: no worker is left");
}

bool WorkerPool::begin_step() {
  set_shares();
  if (!recruiter_) return false;
  bool somebody_came = false;
  for (auto& [uri, worker] : recruiter_->take()) {
    const auto member = std::find_if(members_.begin(), members_.end(), [&uri = uri](const Member& m) {
      return m.uri == uri && m.state == MemberState::kAbsent;
    });
    if (member == members_.end()) continue;
    activate(*member, std::move(worker));
    somebody_came = true;
  }
  return somebody_came;
}

bool WorkerPool::wait_for_workers(std::chrono::milliseconds patience, const std::atomic<bool>* stop) {
  if (active() > 0) return true;
  const bool may_come =
      std::any_of(members_.begin(), members_.end(), [](const Member& m) { return m.state == MemberState::kAbsent; });
  if (!recruiter_ || !may_come || !recruiter_->wait_for_arrival(patience, stop)) return false;
  begin_step();
  return active() > 0;
}

void WorkerPool::set_workers(const std::vector<std::string>& uris) {
  for (size_t i = 0; i < members_.size(); ++i) {
    if (std::find(uris.begin(), uris.end(), members_[i].uri) != uris.end()) {
      if (members_[i].state == MemberState::kLeft) members_[i].state = MemberState::kAbsent;
      continue;
    }
    lose(i, "it is no longer listed");
    if (members_[i].state == MemberState::kAbsent) members_[i].state = MemberState::kLeft;
    if (recruiter_) recruiter_->forget(members_[i].uri);
  }
  for (const std::string& uri : uris)
    if (std::none_of(members_.begin(), members_.end(), [&](const Member& m) { return m.uri == uri; }))
      members_.emplace_back().uri = uri;
  for (const Member& member : members_)
    if (recruiter_ && member.state == MemberState::kAbsent) recruiter_->seek(member.uri);
}

void WorkerPool::set_shares() {
  // Measured speed, in rows a second relative to all, counts only if every active worker took part.
  double all_speed = 0, all_shares = 0;
  for (const Member& member : members_) {
    if (!member.is_active()) continue;
    if (member.done <= 0 || member.seconds <= 0) return;
    all_speed += member.done / member.seconds;
    all_shares += member.share;
  }
  const auto wanted = [&](const Member& m) {
    const double now = m.share / all_shares, measured = m.done / m.seconds / all_speed;
    return kShareInertia * now + (1 - kShareInertia) * measured;
  };
  const bool changes = std::any_of(members_.begin(), members_.end(), [&](const Member& m) {
    return m.is_active() && std::abs(wanted(m) * all_shares / m.share - 1) > kShareChange;
  });
  for (Member& member : members_) {
    if (member.is_active() && changes) member.share = wanted(member);
    member.done = member.seconds = 0;
  }
}

}  // namespace tempo::offload
