#include "obfuscation/row_rounds.h"

#include <algorithm>

#include "hwy/cache_control.h"

namespace tempo::obfuscation {
namespace {

using kernels::kGroup;
using kernels::kSection;

/// Two panels, source and destination, should fit in a core's second-level cache.
constexpr int64_t kPanelBytes = 256 << 10;
/// A row's piece of the wire should be a few whole cache lines: adjacent panels are written and read together.
constexpr int64_t kWirePieceBytes = 256;

}  // namespace

template <typename T>
const void* RowRounds<T>::offset(const void* base, bool bf16, int64_t elements) {
  return static_cast<const std::byte*>(base) + elements * (bf16 ? 2 : static_cast<int64_t>(sizeof(T)));
}
template <typename T>
void* RowRounds<T>::offset(void* base, bool bf16, int64_t elements) {
  return static_cast<std::byte*>(base) + elements * (bf16 ? 2 : static_cast<int64_t>(sizeof(T)));
}

Panels Panels::of(const WireLayout& wire, int64_t rows, int64_t positions, size_t element_bytes) {
  const int64_t channels = wire.channels;
  Panels panels;
  const int64_t fitting = kPanelBytes / (std::max<int64_t>(rows, 1) * static_cast<int64_t>(element_bytes));
  const int64_t wanted = std::max<int64_t>(fitting / kGroup, 1) * kGroup;
  panels.width = channels < kGroup ? channels : std::min(wanted, divide_up(channels, kGroup) * kGroup);
  if (wire.panels.is_set()) panels.width = wire.panels.width;
  panels.per_position = divide_up(channels, panels.width);
  panels.count = panels.per_position * positions;
  // The odd number of lines keeps panels apart in caches, whose sets repeat at powers of two.
  panels.stride = divide_up(rows * panels.width, kGroup) * kGroup + 5 * kGroup;
  return panels;
}

/// Panels of one position that are mixed together.
template <typename T>
struct RowRounds<T>::Bundle {
  RowRange rows;
  int64_t position = 0, first = 0, count = 0;  ///< panels of the position
  T* mixed = nullptr;                          ///< where the first panel lies
  /// Buffers between passes, used in turns. [0] holds a panel each for the pass that reads or writes the wire; [1] is
  /// for the other passes.
  T* spare[2] = {};
  int64_t spare_stride[2] = {};  ///< elements between panels
};

template <typename T>
bool RowRounds<T>::needed(const Key& rows) {
  return rows.rounds.size() > 1 || (rows.rounds.size() == 1 && rows.rounds[0].block > kGroup);
}

/// Round 0 has a pass of its own for what it mixes across groups; TileWalk has done the rest of it.
template <typename T>
int RowRounds<T>::passes() const {
  const int further = static_cast<int>(key.key->rounds.size()) - 1;
  return further + (key.key->rounds[0].block > kGroup ? 1 : 0);
}

template <typename T>
int64_t RowRounds<T>::panels_per_bundle() const {
  if (wire.panels.is_set()) return 1;
  const int64_t bytes = panels.width * wire.element_bytes;
  return std::clamp<int64_t>(kWirePieceBytes / bytes, 1, panels.per_position);
}

template <typename T>
int64_t RowRounds<T>::bundles_per_position() const {
  return divide_up(panels.per_position, panels_per_bundle());
}

template <typename T>
int64_t RowRounds<T>::spare_of_thread() const {
  return passes() < 2 ? 0 : (panels_per_bundle() + 1) * panels.stride;
}

template <typename T>
int64_t RowRounds<T>::spare_elements(int threads) const {
  if (passes() < 2) return 0;
  return threads == 1 ? spare_of_thread() : std::max(threads * spare_of_thread(), panels.elements());
}

template <typename T>
typename RowRounds<T>::Bundle RowRounds<T>::bundle(const Turn& turn, int64_t index, T* mixed) const {
  Bundle b;
  b.rows = turn.rows;
  const int64_t position = index / bundles_per_position();
  b.position = turn.first_position + position;
  b.first = index % bundles_per_position() * panels_per_bundle();
  b.count = std::min(panels_per_bundle(), panels.per_position - b.first);
  b.mixed = mixed + (position * panels.per_position + b.first) * panels.stride;
  return b;
}

/// A pass from scratch memory to scratch memory.
template <typename T>
kernels::RowPass RowRounds<T>::scratch_pass(const Bundle& bundle, int pass, int64_t panel) const {
  const auto rounds = static_cast<int>(key.key->rounds.size());
  const int number = gathering() ? pass + rounds - passes() : rounds - 1 - pass;
  const KeyRound& round = key.key->rounds[static_cast<size_t>(number)];
  const bool from_mixed = gathering() && pass == 0, to_mixed = !gathering() && pass == passes() - 1;
  const int to = (gathering() ? passes() - pass : pass) % 2, from = 1 - to;
  const int64_t before = bundle.rows.begin * panels.width;  // elements of the rows that scratch memory leaves out
  kernels::RowPass p;
  p.src_panel_stride = from_mixed ? panels.stride : bundle.spare_stride[from];
  p.dst_panel_stride = to_mixed ? panels.stride : bundle.spare_stride[to];
  p.src = (from_mixed ? bundle.mixed : bundle.spare[from]) + panel * p.src_panel_stride - before;
  p.dst = (to_mixed ? bundle.mixed : bundle.spare[to]) + panel * p.dst_panel_stride - before;
  p.src_pitch = p.dst_pitch = p.width = panels.width;
  p.rows = key.key->size;
  p.source = number == 0 ? nullptr : round.source.data();
  p.scale = round.scale.data();
  p.divide = divides_by_scale(key.form) && !key.key->orthogonal;
  p.block = round.block;
  return p;
}

/// Puts one end of a pass on the wire.
template <typename T>
void RowRounds<T>::put_on_wire(const WireBlock& block, int64_t column, kernels::RowPass& pass) const {
  std::byte* start = block.row_zero + block.offset(column) * wire.element_bytes;
  if (gathering()) {
    pass.dst = start;
    pass.dst_bf16 = wire_bf16;
    pass.dst_pitch = block.pitch;
    pass.dst_panel_stride = block.offset(panels.width);
    pass.stream = stream && !wire_bf16 && starts_cache_line(wire.data);
  } else {
    pass.src = start;
    pass.src_bf16 = wire_bf16;
    pass.src_pitch = block.pitch;
    pass.src_panel_stride = block.offset(panels.width);
  }
}

template <typename T>
void RowRounds<T>::run_pass(const Bundle& bundle, int pass, Range some_panels, const RowRange& rows) const {
  const int64_t column = (bundle.first + some_panels.begin) * panels.width;
  kernels::RowPass p = scratch_pass(bundle, pass, some_panels.begin);
  p.panels = some_panels.end - some_panels.begin;
  p.last_width = std::min(panels.width, wire.channels - column - (p.panels - 1) * panels.width);
  if (!on_wire(pass)) return run_sections(p, rows);
  const int64_t per_block = divide_up(wire.rows_per_block(), kSection) * kSection;
  for (int64_t begin = rows.begin, end = begin; begin < rows.end; begin = end) {
    end = std::min(rows.end, (begin / per_block + 1) * per_block);
    put_on_wire(wire.block_of(begin, bundle.position), column, p);
    run_sections(p, {begin, end});
  }
}

/// Without a source a pass only mixes across groups.
template <typename T>
void RowRounds<T>::run_sections(kernels::RowPass p, const RowRange& rows) const {
  if (p.block > kGroup) {
    for (Piece piece = {.section = rows.begin / kSection}; piece.first_row() < rows.end; piece = next_piece(p, piece))
      run_piece(p, piece, rows.end);
  } else if (gathering()) {
    p.dst = offset(p.dst, p.dst_bf16, rows.begin * p.dst_pitch);
    kernels->gather_rows(p, rows.begin / kGroup, divide_up(rows.end, kGroup));
  } else {
    p.src = offset(p.src, p.src_bf16, rows.begin * p.src_pitch);
    kernels->scatter_rows(p, rows.begin / kGroup, divide_up(rows.end, kGroup));
  }
  if (p.stream) hwy::FlushStream();
}

/// Sixteen columns of a panel, for one section of rows: the unit that is mixed in a buffer in the first-level cache.
template <typename T>
struct RowRounds<T>::Piece {
  int64_t section = 0, panel = 0, column = 0;

  [[nodiscard]] int64_t width(const kernels::RowPass& pass) const {
    return (panel + 1 == pass.panels ? pass.last_width : pass.width) - column;
  }
  [[nodiscard]] int64_t first_row() const { return section * kSection; }
  /// Where the piece's columns begin in row 0.
  [[nodiscard]] const void* in_src(const kernels::RowPass& pass) const {
    return offset(pass.src, pass.src_bf16, panel * pass.src_panel_stride + column);
  }
  [[nodiscard]] void* in_dst(const kernels::RowPass& pass) const {
    return offset(pass.dst, pass.dst_bf16, panel * pass.dst_panel_stride + column);
  }
};

/// The piece after this one: all columns of a section come before the next section.
template <typename T>
typename RowRounds<T>::Piece RowRounds<T>::next_piece(const kernels::RowPass& pass, Piece piece) {
  if (piece.width(pass) > kGroup) {
    piece.column += kGroup;
    return piece;
  }
  piece.column = 0;
  if (++piece.panel < pass.panels) return piece;
  piece.panel = 0;
  ++piece.section;
  return piece;
}

template <typename T>
void RowRounds<T>::run_piece(const kernels::RowPass& pass, const Piece& piece, int64_t end) const {
  alignas(64) T buffer[kSection * kGroup];
  const int64_t first = piece.first_row(), rows = std::min<int64_t>(kSection, pass.rows - first);
  const int64_t first_group = first / kGroup, last_group = divide_up(first + rows, kGroup);
  const Piece next = next_piece(pass, piece);
  const bool has_next = next.first_row() < end, next_is_whole = next.first_row() + rows <= end;
  const bool only_across = pass.source == nullptr;
  const void* const next_in_order =
      next_is_whole ? offset(next.in_src(pass), pass.src_bf16, next.first_row() * pass.src_pitch) : nullptr;

  kernels::RowPass within = pass;  // mixes within groups, between the buffer and the permuted side
  within.panels = 1;
  within.width = within.last_width = std::min<int64_t>(kGroup, piece.width(pass));
  within.ahead_row = next.first_row();

  kernels::WidePass wide;  // mixes between groups, between the buffer and the side in order
  wide.gathering = gathering();
  wide.rows = rows;
  wide.block = pass.block;
  wide.channels = within.width;
  wide.src_columns = wide.dst_columns = {kGroup, 0};
  if (gathering()) {
    if (only_across) {
      wide.src = offset(piece.in_src(pass), pass.src_bf16, first * pass.src_pitch);
      wide.src_pitch = pass.src_pitch;
      wide.ahead = next_in_order;
    } else {
      within.src = piece.in_src(pass);
      within.ahead = has_next ? next.in_src(pass) : nullptr;
      within.dst = buffer;
      within.dst_pitch = kGroup;
      within.dst_bf16 = within.stream = false;
      kernels->gather_rows(within, first_group, last_group);
      wide.src = buffer;
      wide.src_pitch = kGroup;
    }
    wide.dst = offset(piece.in_dst(pass), pass.dst_bf16, first * pass.dst_pitch);
    wide.dst_pitch = pass.dst_pitch;
    wide.dst_bf16 = pass.dst_bf16;
    wide.stream = pass.stream;
    kernels->mix_wide(wide);
    return;
  }
  wide.src = offset(piece.in_src(pass), pass.src_bf16, first * pass.src_pitch);
  wide.ahead = next_in_order;
  wide.src_pitch = pass.src_pitch;
  wide.src_bf16 = pass.src_bf16;
  if (only_across) {
    wide.dst = offset(piece.in_dst(pass), pass.dst_bf16, first * pass.dst_pitch);
    wide.dst_pitch = pass.dst_pitch;
    kernels->mix_wide(wide);
    return;
  }
  wide.dst = buffer;
  wide.dst_pitch = kGroup;
  kernels->mix_wide(wide);
  within.src = buffer;
  within.src_pitch = kGroup;
  within.src_bf16 = false;
  within.dst = piece.in_dst(pass);
  within.ahead = has_next ? next.in_dst(pass) : nullptr;
  kernels->scatter_rows(within, first_group, last_group);
}

/// Runs all passes: those within scratch memory panel by panel, and the one on the wire for all panels together.
template <typename T>
void RowRounds<T>::run_bundle(const Bundle& bundle, T* spare) const {
  Bundle b = bundle;
  b.spare[1] = spare;  // one panel, which stays in cache
  b.spare[0] = passes() < 2 ? spare : spare + panels.stride;
  b.spare_stride[0] = panels.stride;
  if (on_wire(0)) run_pass(b, 0, {0, b.count}, b.rows);
  for (int64_t panel = 0; panel < b.count; ++panel)
    for (int pass = 0; pass < passes(); ++pass)
      if (!on_wire(pass)) run_pass(b, pass, {panel, panel + 1}, b.rows);
  if (passes() > 1 && on_wire(passes() - 1)) run_pass(b, passes() - 1, {0, b.count}, b.rows);
}

template <typename T>
void RowRounds<T>::run_alone(const Turn& turn, T* mixed, T* spare) const {
  for (int64_t i = 0; i < bundles(turn.positions); ++i) run_bundle(bundle(turn, i, mixed), spare);
}

template <typename T>
void RowRounds<T>::run(const Turn& turn, T* mixed, T* spare, ThreadPool& threads) const {
  const int64_t count = bundles(turn.positions);
  if (count >= threads.threads()) {
    Tickets tickets(threads.threads());
    threads.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      const Tickets::Held ticket(tickets);
      T* const own = spare + static_cast<int64_t>(ticket.number()) * spare_of_thread();
      for (int64_t i = begin; i < end; ++i) run_bundle(bundle(turn, i, mixed), own);
    });
    return;
  }
  // There are fewer bundles than threads: the threads share the rows of each pass and wait between passes. `mixed`
  // serves as one of the two spare buffers. When gathering it is free once the first pass has read it; when scattering,
  // until the last pass, which reads the other buffer.
  const int own_turn = passes() % 2;
  const int64_t first = turn.rows.begin / kSection;
  for (int pass = 0; pass < passes(); ++pass)
    threads.parallel_for(divide_up(turn.rows.end, kSection) - first, 1, [&](int64_t begin, int64_t end) {
      const RowRange rows = {(first + begin) * kSection, std::min((first + end) * kSection, turn.rows.end)};
      for (int64_t i = 0; i < count; ++i) {
        Bundle b = bundle(turn, i, mixed);
        b.spare[own_turn] = passes() < 2 ? nullptr : spare + (b.mixed - mixed);
        b.spare[1 - own_turn] = b.mixed;
        b.spare_stride[0] = b.spare_stride[1] = panels.stride;
        run_pass(b, pass, {0, b.count}, rows);
      }
    });
}

template struct RowRounds<float>;
template struct RowRounds<double>;

}  // namespace tempo::obfuscation
