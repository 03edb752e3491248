#include "obfuscation/row_rounds.h"

#include <algorithm>

namespace tempo::obfuscation {
namespace {

using kernels::kGroup;

/// Two panels, source and destination, should fit in a core's second-level cache.
constexpr int64_t kPanelBytes = 256 << 10;
/// A row's piece of the wire should be a few whole cache lines: neighbouring panels leave and arrive together.
constexpr int64_t kWirePieceBytes = 256;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Panels Panels::of(int64_t rows, int64_t positions, int64_t channels, size_t element_bytes) {
  Panels panels;
  const int64_t fitting = kPanelBytes / (std::max<int64_t>(rows, 1) * static_cast<int64_t>(element_bytes));
  const int64_t wanted = std::max<int64_t>(fitting / kGroup, 1) * kGroup;
  panels.width = channels < kGroup ? channels : std::min(wanted, divide_up(channels, kGroup) * kGroup);
  panels.per_position = divide_up(channels, panels.width);
  panels.count = panels.per_position * positions;
  // The odd lines keep panels apart in caches, whose sets repeat at powers of two.
  panels.stride = divide_up(rows * panels.width, kGroup) * kGroup + 5 * kGroup;
  return panels;
}

/// Panels that are mixed by one thread, and the two scratch buffers they move between.
template <typename T>
struct RowRounds<T>::Group {
  int64_t position = 0, first = 0, count = 0;  ///< panels of the position
  T* buffer[2] = {};                           ///< where the first panel lies
};

template <typename T>
int64_t RowRounds<T>::panels_per_group() const {
  const int64_t bytes = panels.width * (wire_bf16 ? 2 : static_cast<int64_t>(sizeof(T)));
  return std::clamp<int64_t>(kWirePieceBytes / bytes, 1, panels.per_position);
}

template <typename T>
int64_t RowRounds<T>::groups() const {
  return positions * divide_up(panels.per_position, panels_per_group());
}

template <typename T>
int64_t RowRounds<T>::spare_elements(int threads) const {
  if (passes() < 2) return 0;
  return whole_groups(threads) ? threads * panels_per_group() * panels.stride : panels.elements();
}

template <typename T>
typename RowRounds<T>::Group RowRounds<T>::group(int64_t index, T* mixed, T* spare) const {
  const int64_t per_position = divide_up(panels.per_position, panels_per_group());
  Group g;
  g.position = index / per_position;
  g.first = index % per_position * panels_per_group();
  g.count = std::min(panels_per_group(), panels.per_position - g.first);
  g.buffer[0] = mixed + (g.position * panels.per_position + g.first) * panels.stride;
  g.buffer[1] = spare;
  return g;
}

/// Panels [first_panel, first_panel + panel_count) of the group, groups of rows [begin, end).
template <typename T>
void RowRounds<T>::run_pass(const Group& group, int pass, int64_t first_panel, int64_t panel_count, int64_t begin,
                            int64_t end) const {
  const int round_index = gathering() ? pass + 1 : passes() - pass;
  const KeyRound& round = key.key->rounds[static_cast<size_t>(round_index)];
  // Buffers take turns. Gathering starts in buffer 0, scattering must end there.
  const int from = gathering() ? pass % 2 : (passes() - pass) % 2;
  kernels::RowPass p;
  p.src = group.buffer[from] + first_panel * panels.stride;
  p.dst = group.buffer[1 - from] + first_panel * panels.stride;
  p.src_pitch = p.dst_pitch = panels.width;
  p.src_panel_stride = p.dst_panel_stride = panels.stride;
  const int64_t column = (group.first + first_panel) * panels.width;
  if (on_wire(pass)) {
    const int64_t element = wire_bf16 ? 2 : static_cast<int64_t>(sizeof(T));
    std::byte* start = wire + (group.position * channels + column) * element;
    if (gathering()) {
      p.dst = start;
    } else {
      p.src = start;
    }
    (gathering() ? p.dst_bf16 : p.src_bf16) = wire_bf16;
    (gathering() ? p.dst_pitch : p.src_pitch) = positions * channels;
    (gathering() ? p.dst_panel_stride : p.src_panel_stride) = panels.width;
  }
  p.panels = panel_count;
  p.width = panels.width;
  p.last_width = std::min(panels.width, channels - column - (panel_count - 1) * panels.width);
  p.rows = key.key->size;
  p.source = round.source.data();
  p.scale = round.scale.data();
  p.divide = divides_by_scale(key.form) && !key.key->orthogonal;
  p.block = round.block;
  (gathering() ? kernels->gather_rows : kernels->scatter_rows)(p, begin, end);
}

/// All passes: those within scratch memory panel by panel, the one that touches the wire for all panels together.
template <typename T>
void RowRounds<T>::run_group(const Group& group) const {
  const int64_t row_groups = divide_up(key.key->size, kGroup);
  if (on_wire(0)) run_pass(group, 0, 0, group.count, 0, row_groups);
  for (int64_t panel = 0; panel < group.count; ++panel)
    for (int pass = 0; pass < passes(); ++pass)
      if (!on_wire(pass)) run_pass(group, pass, panel, 1, 0, row_groups);
  if (passes() > 1 && on_wire(passes() - 1)) run_pass(group, passes() - 1, 0, group.count, 0, row_groups);
}

template <typename T>
void RowRounds<T>::run(T* mixed, T* spare, ThreadPool& threads) const {
  if (whole_groups(threads.threads())) {
    Tickets tickets(threads.threads());
    threads.parallel_for(groups(), 1, [&](int64_t begin, int64_t end) {
      const Tickets::Held ticket(tickets);
      T* own = spare + static_cast<int64_t>(ticket.number()) * panels_per_group() * panels.stride;
      for (int64_t i = begin; i < end; ++i) run_group(group(i, mixed, own));
    });
    return;
  }
  // Fewer groups than threads: share the rows of each pass, and wait between passes.
  for (int pass = 0; pass < passes(); ++pass)
    threads.parallel_for(divide_up(key.key->size, kGroup), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < groups(); ++i) {
        Group g = group(i, mixed, spare);
        g.buffer[1] = spare + (g.buffer[0] - mixed);
        run_pass(g, pass, 0, g.count, begin, end);
      }
    });
}

template struct RowRounds<float>;
template struct RowRounds<double>;

}  // namespace tempo::obfuscation
