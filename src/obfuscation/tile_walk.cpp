#include "obfuscation/tile_walk.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "hwy/cache_control.h"
#include "obfuscation/scratch.h"

namespace tempo::obfuscation {
namespace {

using kernels::kGroup;

int64_t round_up(int64_t n) { return (n + kGroup - 1) / kGroup * kGroup; }

/// Marks a pixel outside the image: it is far enough below zero that adding any position in a tile leaves it negative.
constexpr int32_t kOutside = std::numeric_limits<int32_t>::min() / 2;

/// Row numbers fit in 32 bits; dividing those is several times faster than dividing 64 bits.
uint32_t narrow(int64_t n) { return static_cast<uint32_t>(n); }

}  // namespace

Owners::Owners(const TileGeometry& g)
    : along_y_(axis(g.tiles_y, g.step_y, g.pitch_y, g.offset_y)),
      along_x_(axis(g.tiles_x, g.step_x, g.pitch_x, g.offset_x)) {}

/// Position p of tile t and position p - i of tile t + k are the same pixel if k steps are i pitches. The smallest such
/// distance is the least common multiple of step and pitch.
Owners::Axis Owners::axis(int64_t tiles, int64_t step, int64_t pitch, int64_t offset) {
  const int64_t apart = std::lcm(step, pitch);
  return {.shared_from = apart / pitch, .last_begins = (tiles - apart / step) * step - offset};
}

template <typename T>
ChannelRounds<T>::ChannelRounds(KeyUse use) {
  const Key& key = *use.key;
  const auto padded = static_cast<size_t>(round_up(key.size));
  const bool scatters = !is_gathering(use.form);
  // the second half holds the inverses
  sources_.resize(padded * key.rounds.size() * (scatters ? 2 : 1));
  coefficients_.resize(sources_.size());
  for (size_t k = 0; k < key.rounds.size(); ++k) {
    const KeyRound& round = key.rounds[is_gathering(use.form) ? k : key.rounds.size() - 1 - k];
    uint32_t* source = sources_.data() + k * padded;
    T* coefficient = coefficients_.data() + k * padded;
    for (uint32_t i = 0; i < padded; ++i) source[i] = i < key.size ? round.source[i] : i;
    for (uint32_t i = 0; i < key.size; i += kGroup)
      kernels::round_coefficients({round.scale.data(), divides_by_scale(use.form), round.block, key.size}, i,
                                  coefficient + i);
    rounds_.push_back({source, coefficient, round.block});
    if (!scatters || round.block != 1) continue;
    uint32_t* inverse = source + padded * key.rounds.size();
    T* inverse_coefficient = coefficient + padded * key.rounds.size();
    for (uint32_t i = 0; i < key.size; ++i) {
      inverse[source[i]] = i;
      inverse_coefficient[source[i]] = coefficient[i];
    }
    rounds_.back().inverse = {inverse, inverse_coefficient};
  }
}

/// The side that is not the image. Its rows are in order.
template <typename T>
struct TileWalk<T>::OtherSide {
  std::byte* base = nullptr;  ///< address of row 0, if it lay where this row does
  int64_t pitch = 0;          ///< elements between rows
  kernels::Columns columns;
  bool bf16 = false;
  [[nodiscard]] int64_t element_bytes() const { return bf16 ? 2 : static_cast<int64_t>(sizeof(T)); }
};

template <typename T>
typename TileWalk<T>::OtherSide TileWalk<T>::other_side(const Turn& turn, int64_t row, int64_t position) const {
  if (wire.data != nullptr) {
    const WireBlock block = wire.block_of(row, position);
    return {block.row_zero, block.pitch, block.columns, wire_bf16};
  }
  T* const panel = mixed + (position - turn.first_position) * panels.per_position * panels.stride;
  T* const row_zero = panel - turn.rows.begin * panels.width;
  return {reinterpret_cast<std::byte*>(row_zero), panels.width, {panels.width, panels.stride}, false};
}

template <typename T>
int64_t TileWalk<T>::run_elements() const {
  return round_up(geometry.channels);
}

template <typename T>
bool TileWalk<T>::streams() const {
  if (!stream || accumulate) return false;
  if (!gathering()) return starts_cache_line(target);
  return wire.data != nullptr && !wire_bf16 && starts_cache_line(wire.data);
}

/// What is scattered comes in order, which the hardware predicts, unless it is the wire's rows.
template <typename T>
bool TileWalk<T>::fetches_target() const {
  return !gathering() && (accumulate || (wire.data == nullptr && !streams()));
}

/// The work memory of a thread holds, in this order: one pixel that stands for the padding, the kernels' work memory,
/// rows that a map computes, and column sums.
template <typename T>
int64_t TileWalk<T>::work_per_thread() const {
  return before_made_rows() + (makes_rows() ? kGroup * run_elements() : 0) +
         (column_totals != nullptr ? column_totals->per_channel * run_elements() : 0);
}

template <typename T>
int64_t TileWalk<T>::before_made_rows() const {
  return run_elements() + kernels::block_work_elements(geometry.channels);
}

template <typename T>
T* TileWalk<T>::made_rows(T* work) const {
  return work + before_made_rows();
}

template <typename T>
T* TileWalk<T>::column_sums(T* work, int64_t which) const {
  return made_rows(work) + (makes_rows() ? kGroup * run_elements() : 0) + which * run_elements();
}

template <typename T>
void TileWalk<T>::clear_column_sums(T* work) const {
  std::fill_n(column_sums(work), column_totals->per_channel * run_elements(), T(0));
}

template <typename T>
void TileWalk<T>::flush_column_sums(T* work) const {
  {
    const std::lock_guard lock(column_totals->mutex);
    for (int64_t which = 0; which < column_totals->per_channel; ++which)
      for (int64_t c = 0; c < geometry.channels; ++c)
        column_totals->sums[static_cast<size_t>(which * geometry.channels + c)] +=
            static_cast<double>(column_sums(work, which)[c]);
  }
  clear_column_sums(work);
}

template <typename T>
TileOrigin TileWalk<T>::origin(int64_t near) const {
  const TileGeometry& g = geometry;
  const uint32_t row = rows.key->rounds.empty() ? narrow(near) : rows.key->rounds[0].source[static_cast<size_t>(near)];
  if (joined != nullptr) return {row, 0, 0};
  const uint32_t line = row / narrow(g.tiles_x);
  const uint32_t image = line / narrow(g.tiles_y);
  const int64_t y = int64_t{line % narrow(g.tiles_y)} * g.step_y - g.offset_y;
  const int64_t x = int64_t{row % narrow(g.tiles_x)} * g.step_x - g.offset_x;
  const auto at = [&](int64_t number) { return ((number * g.height + y) * g.width + x) * g.channels; };
  if (image < real_images) return {at(image), static_cast<int32_t>(y), static_cast<int32_t>(x)};
  if (!gathering()) return {0, kOutside, kOutside};
  const auto apart = reinterpret_cast<intptr_t>(decoys) - reinterpret_cast<intptr_t>(source);
  return {apart / static_cast<intptr_t>(sizeof(T)) + at(image - real_images), static_cast<int32_t>(y),
          static_cast<int32_t>(x)};
}

template <typename T>
void TileWalk<T>::find_origins(TileOrigin* table, ThreadPool& threads) const {
  threads.parallel_for(geometry.rows(), 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) table[i] = origin(i);
  });
}

template <typename T>
void TileWalk<T>::start_group(int64_t group, TileOrigin* of_rows, kernels::BlockPass<T>& pass) const {
  const KeyRound* round = rows.key->rounds.empty() ? nullptr : rows.key->rounds.data();
  const int64_t first = group * kGroup;
  pass.rows = static_cast<int>(std::min<int64_t>(kGroup, geometry.rows() - first));
  pass.row_block = round == nullptr ? 1 : std::min<uint32_t>(round->block, kGroup);
  const bool divide = divides_by_scale(rows.form) && !rows.key->orthogonal;
  if (round == nullptr)
    std::fill(pass.coefficient, pass.coefficient + kGroup, T(1));
  else
    kernels::round_coefficients({round->scale.data(), divide, round->block, rows.key->size}, first, pass.coefficient);
  for (int i = 0; i < pass.rows; ++i) of_rows[i] = origins != nullptr ? origins[first + i] : origin(first + i);
}

template <typename T>
void TileWalk<T>::set_addresses(const Turn& turn, const At& at, const TileOrigin* of_rows, Prepared& into) const {
  kernels::BlockPass<T>& pass = into.pass;
  T* const work = into.work;
  const int64_t group = at.group, position = at.position;
  const TileGeometry& g = geometry;
  const auto py = static_cast<int64_t>(narrow(position) / narrow(g.tile_w));
  const int64_t px = position - py * g.tile_w;
  const int64_t dy = py * g.pitch_y, dx = px * g.pitch_x;
  T* image = const_cast<T*>(gathering() ? source : target) + (dy * g.width + dx) * g.channels;
  const auto height = static_cast<uint64_t>(g.height), width = static_cast<uint64_t>(g.width);
  const OtherSide side = other_side(turn, group * kGroup, position);
  const int64_t pitch = side.pitch * side.element_bytes();
  std::byte* other = side.base + group * kGroup * pitch;
  (gathering() ? pass.dst_columns : pass.src_columns) = side.columns;
  for (int i = 0; i < pass.rows; ++i, other += pitch) {
    if (joined != nullptr) {
      into.joined_rows[static_cast<size_t>(i)] = of_rows[i].offset;
      pass.src[i] = made_rows(work) + i * run_elements();
      pass.dst[i] = other;
      continue;
    }
    const bool inside = static_cast<uint64_t>(of_rows[i].y + dy) < height &&  // negative values become huge
                        static_cast<uint64_t>(of_rows[i].x + dx) < width;
    T* run = inside ? image + of_rows[i].offset : work;
    pass.src[i] = gathering() ? static_cast<const void*>(run) : other;
    pass.dst[i] = gathering() ? static_cast<void*>(other) : run;
    if (addend != nullptr) pass.addend[i] = inside ? addend + (run - target) : work;
    if (!needs_pixels()) continue;
    const int64_t offset = of_rows[i].offset + (dy * g.width + dx) * g.channels;
    const bool is_real = inside && offset >= 0 && offset < real_images * g.height * g.width * g.channels;
    into.pixels[i] = is_real ? offset / g.channels : -1;
    if (owners != nullptr) pass.image_row[i] = owners->owns(py, px, of_rows[i].y, of_rows[i].x) ? into.pixels[i] : -1;
  }
}

/// The part of a pass that all passes of one walk share.
template <typename T>
kernels::BlockPass<T> TileWalk<T>::common_pass(const Turn& turn, T* work) const {
  kernels::BlockPass<T> pass = {};
  std::fill(pass.src, pass.src + kGroup, work);  // valid addresses for `ahead` if a group has fewer rows
  std::fill(pass.dst, pass.dst + kGroup, work);
  pass.work = work + run_elements();
  pass.channels = geometry.channels;
  pass.stream = streams();
  pass.accumulate = accumulate;
  pass.products = products;
  pass.products.column_sums = column_totals != nullptr ? column_sums(work) : nullptr;
  if (moments_above != nullptr) pass.moments = {moments_above, column_sums(work, 0), column_sums(work, 1)};
  pass.has_addends = addend != nullptr;
  std::fill(pass.addend, pass.addend + kGroup, work);
  pass.rounds = channels->data();
  pass.round_count = channels->size();
  const OtherSide side = other_side(turn, turn.rows.begin, turn.first_position);
  const kernels::Columns image = {geometry.channels, 0};
  pass.src_columns = gathering() ? image : side.columns;
  pass.dst_columns = gathering() ? side.columns : image;
  pass.ahead_columns = gathering() || fetches_target() || addend != nullptr ? image : side.columns;
  (gathering() ? pass.dst_bf16 : pass.src_bf16) = side.bf16;
  return pass;
}

template <typename T>
void TileWalk<T>::make_rows(Prepared& prepared, T* work) const {
  kernels::BlockPass<T>& pass = prepared.pass;
  for (int i = 0; i < pass.rows; ++i) {
    if (prepared.pixels[i] < 0) continue;
    T* const made = made_rows(work) + i * run_elements();
    kernels->map_row(static_cast<const T*>(pass.src[i]), *map, geometry.channels, made);
    pass.src[i] = made;
  }
  pass.fetches_all_ahead = true;
}

template <typename T>
void TileWalk<T>::join_row(int64_t row, T* joined_row) const {
  const TileGeometry& g = *joined;
  const int64_t per_image = g.tiles_y * g.tiles_x, image = row / per_image;
  const bool is_real = image * per_image < real_images;  // `geometry` counts rows as images
  const T* const from = is_real ? source : decoys;
  const int64_t decoy_offset = is_real ? 0 : real_images / per_image * g.height * g.width * g.channels;
  for (int64_t p = 0; p < g.positions(); ++p) {
    T* const to = joined_row + p * g.channels;
    const int64_t offset = g.pixel_offset(row, p);
    if (offset < 0)
      std::fill_n(to, g.channels, T(0));
    else if (is_real && map != nullptr)
      kernels->map_row(from + offset, *map, g.channels, to);
    else
      std::copy_n(from + (offset - decoy_offset), g.channels, to);
  }
}

template <typename T>
void TileWalk<T>::join_rows(Prepared& prepared, T* work) const {
  kernels::BlockPass<T>& pass = prepared.pass;
  for (int i = 0; i < pass.rows; ++i)
    join_row(prepared.joined_rows[static_cast<size_t>(i)], made_rows(work) + i * run_elements());
  pass.fetches_all_ahead = true;
}

/// Each pass is prepared during the one before it, so that the kernel can fetch its rows ahead.
template <typename T>
void TileWalk<T>::walk(const Turn& turn, const RowRange& items, T* work) const {
  Prepared passes[2] = {{common_pass(turn, work), work}, {common_pass(turn, work), work}};
  if (gathering()) std::fill(work, work + geometry.channels, T(0));
  const auto kernel = gathering() ? kernels->gather_block : kernels->scatter_block;
  const auto at = [&](int64_t item) {
    return At{turn.rows.begin / kGroup + item / turn.positions, turn.first_position + item % turn.positions};
  };
  TileOrigin of_rows[kGroup];
  const auto prepare = [&](int64_t item, const kernels::BlockPass<T>* before) {
    const At where = at(item);
    kernels::BlockPass<T>& pass = passes[item % 2].pass;
    if (before == nullptr || at(item - 1).group != where.group) {
      start_group(where.group, of_rows, pass);
    } else {
      pass.rows = before->rows;
      pass.row_block = before->row_block;
      std::copy(before->coefficient, before->coefficient + kGroup, pass.coefficient);
    }
    set_addresses(turn, where, of_rows, passes[item % 2]);
  };
  constexpr int kSummedGroups = 16;  // column sums of this many groups are added in the type of the operand
  int summed = 0;
  if (column_totals != nullptr) clear_column_sums(work);
  prepare(items.begin, nullptr);
  for (int64_t item = items.begin; item < items.end; ++item) {
    kernels::BlockPass<T>&pass = passes[item % 2].pass, &next = passes[(item + 1) % 2].pass;
    if (item + 1 < items.end) prepare(item + 1, &pass);
    pass.ahead = addend != nullptr  ? reinterpret_cast<const void* const*>(next.addend)
                 : fetches_target() ? const_cast<const void* const*>(next.dst)
                                    : next.src;
    if (joined != nullptr)
      join_rows(passes[item % 2], work);
    else if (map != nullptr)
      make_rows(passes[item % 2], work);
    kernel(pass);
    if (column_totals != nullptr && ++summed % kSummedGroups == 0) flush_column_sums(work);
  }
  if (column_totals != nullptr) flush_column_sums(work);
  if (streams()) hwy::FlushStream();
}

namespace {
int64_t groups_of(const RowRange& rows) { return divide_up(rows.end, kGroup) - rows.begin / kGroup; }
}  // namespace

template <typename T>
void TileWalk<T>::run(const Turn& turn, T* work, ThreadPool& threads) const {
  Tickets tickets(threads.threads());
  threads.parallel_for(groups_of(turn.rows) * turn.positions, 1, [&](int64_t begin, int64_t end) {
    const Tickets::Held ticket(tickets);
    walk(turn, {begin, end}, work + static_cast<int64_t>(ticket.number()) * work_per_thread());
  });
}

template <typename T>
void TileWalk<T>::run_alone(const Turn& turn, T* work) const {
  walk(turn, {0, groups_of(turn.rows) * turn.positions}, work);
}

template struct TileWalk<float>;
template struct TileWalk<double>;
template class ChannelRounds<float>;
template class ChannelRounds<double>;

}  // namespace tempo::obfuscation
