// WorkerPool: where operands lie, and how they get there.
#include <fmt/format.h>

#include <algorithm>

#include "offload/pool/worker_pool.h"
#include "tempo/error.h"

namespace tempo::offload {
namespace {

int64_t rows_of(const TensorSpec& spec) { return spec.shape.empty() ? 1 : spec.shape.front(); }

/// Some rows of an operand, sharing its memory.
Buffer slice(const Buffer& whole, const RowRange& rows) {
  if (rows.count() == rows_of(whole.spec())) return whole;
  TensorSpec spec = whole.spec();
  spec.shape.front() = 1;
  const size_t row_bytes = spec.bytes();
  spec.shape.front() = rows.count();
  return {
      std::move(spec), {whole.owner(), whole.data() + static_cast<size_t>(rows.begin) * row_bytes}, whole.is_shared()};
}

}  // namespace

WorkerPool::Stored& WorkerPool::stored(OperandId id) {
  const auto found = stored_.find(id);
  if (found == stored_.end()) throw OperandLostError(fmt::format("offload: operand {} is no longer stored", id));
  return found->second;
}

Buffer WorkerPool::allocate(const TensorSpec& spec) {
  if (active() != 1) return Buffer::allocate(spec);
  const size_t member = pick({});
  try {
    return members_[member].worker->allocate(spec);
  } catch (const WorkerLostError&) {
    drop(member, std::current_exception());
    return Buffer::allocate(spec);
  }
}

std::vector<WorkerPool::Place> WorkerPool::places_for(const Stored& stored, OperandId like) const {
  std::vector<Place> places;
  if (const auto other = stored_.find(like); like != 0 && other != stored_.end()) {
    for (const RowRange& rows : other->second.cut) places.push_back({rows, holder(other->second, rows)});
    return places;
  }
  std::vector<double> shares;
  for (size_t i = 0; i < members_.size(); ++i)
    shares.push_back(members_[i].is_active() && may_hold(i, stored.holder) ? members_[i].share : 0);
  if (pick({}, stored.holder) == members_.size()) throw_alone();
  const PanelLayout& panels = stored.spec.panels;
  const std::vector<RowRange> ranges = cut_rows(rows_of(stored.spec), shares, panels.is_set() ? panels.rows : 1);
  for (size_t i = 0; i < ranges.size(); ++i)
    if (ranges[i].count() > 0) places.push_back({ranges[i], i});
  if (places.empty())
    places.push_back({{0, 0}, pick({}, stored.holder)});  // an operand without rows still lies on one worker
  return places;
}

size_t WorkerPool::holder(const Stored& stored, const RowRange& rows) const {
  for (const Piece& piece : stored.pieces)
    if (piece.rows == rows && is_alive(piece)) return piece.member;
  return pick({}, stored.holder);
}

void WorkerPool::put(OperandId id, const Buffer& operand, Placing how) {
  if (active() == 0) throw_alone();
  Stored& stored = stored_[id];
  stored = {.spec = operand.spec(),
            .spread = how.spread,
            .source = std::move(how.source),
            .holder = how.holder,
            .cut = {},
            .pieces = {}};
  if (how.spread == Spread::kEverywhere) {
    stored.cut = {{0, rows_of(stored.spec)}};
    replicate(id, operand);
  } else {
    const std::vector<Place> places = places_for(stored, how.like);
    for (const Place& place : places) stored.cut.push_back(place.rows);
    for (const Place& place : places) try_upload(id, stored, place, operand);
  }
  if (active() == 0) throw_alone();
}

void WorkerPool::upload(OperandId id, Stored& stored, const Place& place, const Buffer& whole) {
  const auto& [rows, member] = place;
  // The one place where operands go to workers: whatever led here, no worker gets a part of another group.
  if (!may_hold(member, stored.holder))
    throw InputError(fmt::format("offload: operand {} is a part for group {}, but {} is of group {}; it was not sent",
                                 id, stored.holder, members_[member].uri, group_of(member)));
  const bool has_one =
      std::any_of(stored.pieces.begin(), stored.pieces.end(),
                  [m = place.member, this](const Piece& piece) { return piece.member == m && is_alive(piece); });
  const OperandId there = has_one ? next_reissued_++ : id;
  Buffer part = slice(whole, rows);
  const size_t bytes = part.bytes();
  members_[member].worker->put(there, std::move(part));
  bytes_sent_ += bytes;
  stored.pieces.push_back({member, members_[member].life, rows, there});
}

void WorkerPool::try_upload(OperandId id, Stored& stored, const Place& place, const Buffer& whole) {
  if (place.member >= members_.size() || !members_[place.member].is_active()) return;
  try {
    upload(id, stored, place, whole);
  } catch (const Error&) {
    drop(place.member, std::current_exception());
  }
}

void WorkerPool::begin_slices(OperandId id, const TensorSpec& spec, Source source) {
  stored_[id] = {
      .spec = spec, .spread = Spread::kRows, .source = std::move(source), .holder = 0, .cut = {}, .pieces = {}};
}

void WorkerPool::put_slice(OperandId id, const Buffer& whole, const RowRange& rows) {
  if (active() == 0) throw_alone();
  Stored& sliced = stored(id);
  sliced.cut.push_back(rows);
  try_upload(id, sliced, {rows, pick({})}, whole);
  if (active() == 0) throw_alone();
}

std::vector<OperandId> WorkerPool::pieces_of(OperandId id, const RowRange& rows, size_t member) const {
  std::vector<OperandId> ids;
  const auto found = stored_.find(id);
  if (found == stored_.end()) return ids;
  int64_t at = rows.begin;
  const auto is_next = [&](const Piece& piece) {
    const bool is_there = piece.member == member && is_alive(piece);
    return is_there && piece.rows.begin == at && piece.rows.count() > 0 && piece.rows.end <= rows.end;
  };
  const std::vector<Piece>& pieces = found->second.pieces;  // in the order sent
  while (at < rows.end) {
    const auto next = std::find_if(pieces.begin(), pieces.end(), is_next);
    if (next == pieces.end()) return {};
    ids.push_back(next->id);
    at = next->rows.end;
  }
  return ids;
}

std::vector<WorkerPool::Place> WorkerPool::holders(const Stored& stored) const {
  std::vector<Place> places;
  for (const RowRange& rows : stored.cut) {
    const size_t member = holder(stored, rows);
    if (!places.empty() && places.back().member == member && places.back().rows.end == rows.begin)
      places.back().rows.end = rows.end;
    else
      places.push_back({rows, member});
  }
  return places;
}

OperandId WorkerPool::ensure(OperandId id, const RowRange& rows, size_t member) {
  Stored& operand = stored(id);
  const RowRange wanted = operand.spread == Spread::kEverywhere ? RowRange{0, rows_of(operand.spec)} : rows;
  for (const Piece& piece : operand.pieces)
    if (piece.member == member && piece.rows == wanted && is_alive(piece)) return piece.id;
  if (!operand.source)
    throw OperandLostError(fmt::format("offload: operand {} is gone with the worker that held it", id));
  const Buffer again = allocate(operand.spec);
  operand.source->write(again.data());
  upload(id, operand, {wanted, member}, again);
  return operand.pieces.back().id;
}

void WorkerPool::replicate(OperandId id, const Buffer& operand) {
  Stored& replicated = stored(id);
  for (size_t i = 0; i < members_.size(); ++i) {
    if (!may_hold(i, replicated.holder)) continue;
    const bool has_it = std::any_of(replicated.pieces.begin(), replicated.pieces.end(),
                                    [&](const Piece& piece) { return piece.member == i && is_alive(piece); });
    if (!has_it) try_upload(id, replicated, {{0, rows_of(replicated.spec)}, i}, operand);
  }
}

size_t WorkerPool::replicas(OperandId id) const {
  const auto found = stored_.find(id);
  if (found == stored_.end()) return 0;
  return static_cast<size_t>(std::count_if(found->second.pieces.begin(), found->second.pieces.end(),
                                           [this](const Piece& piece) { return is_alive(piece); }));
}

bool WorkerPool::is_whole(OperandId id) const {
  const auto found = stored_.find(id);
  return found != stored_.end() && holders(found->second).size() == 1;
}

void WorkerPool::free(OperandId id) {
  const auto found = stored_.find(id);
  if (found == stored_.end()) return;
  const std::vector<Piece> pieces = std::move(found->second.pieces);
  stored_.erase(found);
  for (const Piece& piece : pieces) {
    if (!is_alive(piece)) continue;
    try {
      members_[piece.member].worker->free({piece.id});
    } catch (const Error&) {
      drop(piece.member, std::current_exception());
    }
  }
}

void WorkerPool::note_kept(const Operation& operation, const TensorSpec& spec, size_t member) {
  const auto* gradient = std::get_if<WeightGradient>(&operation);
  if (gradient == nullptr || gradient->keep_as == 0) return;
  stored_[gradient->keep_as] = {.spec = spec,
                                .spread = Spread::kEverywhere,
                                .source = {},
                                .holder = 0,
                                .cut = {{0, rows_of(spec)}},
                                .pieces = {{member, members_[member].life, {0, rows_of(spec)}, gradient->keep_as}}};
}

}  // namespace tempo::offload
