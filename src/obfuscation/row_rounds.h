/// The part of the row rounds that runs on panels of scratch memory: what the first round mixes across groups of
/// sixteen rows, and all further rounds.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/thread_pool.h"
#include "obfuscation/kernels/kernels.h"
#include "obfuscation/key.h"
#include "obfuscation/scratch.h"
#include "obfuscation/tile_geometry.h"
#include "obfuscation/wire_layout.h"

namespace tempo::obfuscation {

/// The layout of half-mixed values. A panel holds a few columns of one position for all rows of a turn, so that all
/// rounds of a panel run in cache. Panel p * per_position + k holds columns [k * width, (k + 1) * width) of position p.
struct Panels {
  int64_t width = 0;         ///< columns of a panel; a multiple of kGroup or all channels
  int64_t per_position = 0;  ///< number of panels of one position
  int64_t stride = 0;        ///< elements between two panels
  int64_t count = 0;

  /// Panels of `rows` rows at `positions` positions of what lies on the wire as `wire` says. If that has panels, these
  /// are as wide.
  [[nodiscard]] static Panels of(const WireLayout& wire, int64_t rows, int64_t positions, size_t element_bytes);
  [[nodiscard]] int64_t elements() const { return count * stride; }
  /// Whether every row of a panel that starts aligned is aligned.
  [[nodiscard]] bool whole_lines() const { return width % kernels::kGroup == 0; }
};

inline bool starts_cache_line(const void* address) { return reinterpret_cast<uintptr_t>(address) % 64 == 0; }

/// Whether results should be written past the caches: a large operand would only evict everything else. Channels must
/// be whole cache lines, since otherwise half a line would be written at a time.
template <typename T>
constexpr bool should_stream(int64_t elements, int64_t channels) {
  constexpr auto kBytes = static_cast<int64_t>(sizeof(T));
  return elements * kBytes >= int64_t{8} << 20 && channels * kBytes % 64 == 0;
}

/// The part of an operand that scratch memory holds: some rows at some positions of the tile.
struct Turn {
  RowRange rows;  ///< all rows of the key or of a group of it
  int64_t first_position = 0, positions = 0;
};

/// What the row rounds need to know of the call. Rows have the numbers that the key gives them, in scratch memory too.
template <typename T>
struct RowRounds {
  KeyUse key;
  Panels panels;
  WireLayout wire;  ///< read when scattering, written when gathering
  bool wire_bf16 = false;
  const kernels::Kernels<T>* kernels = nullptr;
  bool stream = false;  ///< write results past the caches where they are aligned; channels make up whole cache lines

  /// Whether there is anything to do for this key. If not, TileWalk reaches the wire.
  [[nodiscard]] static bool needed(const Key& rows);
  /// The number of elements that `spare` must have for this many threads, which share one turn.
  [[nodiscard]] int64_t spare_elements(int threads) const;
  /// Gathering: runs the rest of round 0 and rounds 1, 2, .. from `mixed` to the wire. Scattering: runs them backward,
  /// from the wire to `mixed`. All other contents of the two scratch buffers are lost.
  void run(const Turn& turn, T* mixed, T* spare, ThreadPool& threads) const;
  /// Does the same on the calling thread alone.
  void run_alone(const Turn& turn, T* mixed, T* spare) const;

 private:
  struct Bundle;
  [[nodiscard]] bool gathering() const { return is_gathering(key.form); }
  [[nodiscard]] int passes() const;
  [[nodiscard]] int64_t panels_per_bundle() const;
  [[nodiscard]] int64_t bundles_per_position() const;
  [[nodiscard]] int64_t bundles(int64_t positions) const { return positions * bundles_per_position(); }
  [[nodiscard]] int64_t spare_of_thread() const;
  [[nodiscard]] Bundle bundle(const Turn& turn, int64_t index, T* mixed) const;
  [[nodiscard]] bool on_wire(int pass) const { return pass == (gathering() ? passes() - 1 : 0); }
  [[nodiscard]] kernels::RowPass scratch_pass(const Bundle& bundle, int pass, int64_t panel) const;
  void put_on_wire(const WireBlock& block, int64_t column, kernels::RowPass& pass) const;
  void run_sections(kernels::RowPass pass, const RowRange& rows) const;
  static const void* offset(const void* base, bool bf16, int64_t elements);
  static void* offset(void* base, bool bf16, int64_t elements);
  struct Piece;
  static Piece next_piece(const kernels::RowPass& pass, Piece piece);
  void run_piece(const kernels::RowPass& pass, const Piece& piece, int64_t end) const;
  void run_bundle(const Bundle& bundle, T* spare) const;
  /// Half-open.
  struct Range {
    int64_t begin = 0, end = 0;
  };
  /// Runs one pass over some panels of the bundle and some whole sections of its rows.
  void run_pass(const Bundle& bundle, int pass, Range some_panels, const RowRange& rows) const;
};

}  // namespace tempo::obfuscation
