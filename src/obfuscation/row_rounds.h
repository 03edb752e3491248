/// The row rounds of one call after the first. They move whole panels of scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/thread_pool.h"
#include "obfuscation/kernels/kernels.h"
#include "obfuscation/key.h"
#include "obfuscation/scratch.h"
#include "obfuscation/wire_layout.h"

namespace tempo::obfuscation {

/// The layout of half-mixed values. A panel holds a few columns of one position for all rows, so that all rounds of a
/// panel run in cache. Panel p * per_position + k holds columns [k * width, (k + 1) * width) of position p.
struct Panels {
  int64_t width = 0;         ///< columns of a panel; a multiple of kGroup or all channels
  int64_t per_position = 0;  ///< number of panels of one position
  int64_t stride = 0;        ///< elements between two panels
  int64_t count = 0;

  /// Panels of `positions` positions of what lies on the wire as `wire` says. If that has panels, these are as wide.
  [[nodiscard]] static Panels of(const WireLayout& wire, int64_t positions, size_t element_bytes);
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

/// What the row rounds need to know of the call.
template <typename T>
struct RowRounds {
  KeyUse key;
  Panels panels;
  int64_t first_position = 0, positions = 0;  ///< positions that `mixed` holds now
  WireLayout wire;                            ///< read when scattering, written when gathering
  bool wire_bf16 = false;
  const kernels::Kernels<T>* kernels = nullptr;
  bool stream = false;  ///< write results past the caches where they are aligned; channels make up whole cache lines

  /// The number of elements that `spare` must have for this many threads.
  [[nodiscard]] int64_t spare_elements(int threads) const;
  /// Gathering: runs rounds 1, 2, .. from `mixed` to the wire. Scattering: runs them backward, from the wire to
  /// `mixed`. All other contents of the two scratch buffers are lost.
  void run(T* mixed, T* spare, ThreadPool& threads) const;

 private:
  struct Group;
  [[nodiscard]] bool gathering() const { return is_gathering(key.form); }
  [[nodiscard]] int passes() const { return static_cast<int>(key.key->rounds.size()) - 1; }
  [[nodiscard]] int64_t panels_per_group() const;
  [[nodiscard]] int64_t groups() const;
  [[nodiscard]] bool whole_groups(int threads) const { return groups() >= threads; }
  [[nodiscard]] Group group(int64_t index, T* mixed) const;
  [[nodiscard]] bool on_wire(int pass) const { return pass == (gathering() ? passes() - 1 : 0); }
  [[nodiscard]] kernels::RowPass scratch_pass(const Group& group, int pass, int64_t panel) const;
  void put_on_wire(const WireBlock& block, int64_t column, kernels::RowPass& pass) const;
  void run_sections(kernels::RowPass pass, int64_t begin, int64_t end) const;
  static const void* offset(const void* base, bool bf16, int64_t elements);
  static void* offset(void* base, bool bf16, int64_t elements);
  struct Piece;
  static Piece next_piece(const kernels::RowPass& pass, Piece piece);
  void run_piece(const kernels::RowPass& pass, const Piece& piece) const;
  void run_group(const Group& group) const;
  /// Half-open.
  struct Range {
    int64_t begin = 0, end = 0;
  };
  /// Runs one pass over some panels of the group and some sections of rows.
  void run_pass(const Group& group, int pass, Range some_panels, Range sections) const;
};

}  // namespace tempo::obfuscation
