/// Walks over groups of rows and tile positions, and reads or writes the image: what the first row round mixes within
/// groups of sixteen rows, and all channel rounds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/thread_pool.h"
#include "obfuscation/kernels/kernels.h"
#include "obfuscation/key.h"
#include "obfuscation/row_rounds.h"
#include "obfuscation/tile_geometry.h"
#include "obfuscation/wire_layout.h"

namespace tempo::obfuscation {

/// The channel rounds of a key in the order in which a form runs them, with coefficients in the operand's type.
template <typename T>
class ChannelRounds {
 public:
  explicit ChannelRounds(KeyUse use);
  [[nodiscard]] const kernels::ChannelRound<T>* data() const { return rounds_.data(); }
  [[nodiscard]] int size() const { return static_cast<int>(rounds_.size()); }

 private:
  std::vector<uint32_t> sources_;
  std::vector<T> coefficients_;
  std::vector<kernels::ChannelRound<T>> rounds_;
};

/// Where the tile of a row begins in the image. (y, x) may lie outside the image.
struct TileOrigin {
  int64_t offset;  ///< in elements, from pixel (0, 0) of the first real image; the row's number if rows are joined
  int32_t y, x;
};

/// The column sums of all threads together, `per_channel` sums for each channel.
struct ColumnTotals {
  std::mutex mutex;
  int64_t per_channel = 0;
  std::vector<double> sums;  ///< [per_channel, channels]
};

/// Says which tile owns a pixel: the last of those that cover it. What is computed of a pixel is computed at its owner
/// only, and so once.
class Owners {
 public:
  explicit Owners(const TileGeometry& geometry);
  /// Whether position (py, px) of the tile that begins at pixel (y, x) is the owner of its pixel.
  [[nodiscard]] bool owns(int64_t py, int64_t px, int32_t y, int32_t x) const {
    return along_y_.owns(py, y) && along_x_.owns(px, x);
  }

 private:
  struct Axis {
    int64_t shared_from;  ///< positions from here on are covered by a later tile, too
    int64_t last_begins;  ///< tiles that begin at this pixel or later are the last to cover their pixels
    [[nodiscard]] bool owns(int64_t position, int32_t begin) const {
      return position < shared_from || begin >= last_begins;
    }
  };
  static Axis axis(int64_t tiles, int64_t step, int64_t pitch, int64_t offset);
  Axis along_y_, along_x_;
};

/// A walk between the image and the other side: rows of positions on the wire, or in panels of scratch memory.
template <typename T>
struct TileWalk {
  TileGeometry geometry;
  KeyUse rows;
  const ChannelRounds<T>* channels = nullptr;
  const kernels::Kernels<T>* kernels = nullptr;
  int64_t real_images = 0;    ///< images after these are decoys: read from `decoys`, never written
  const T* source = nullptr;  ///< real images, when gathering
  const T* decoys = nullptr;  ///< decoys, when gathering
  T* target = nullptr;        ///< real images, when scattering
  WireLayout wire;            ///< the other side, unless its data is nullptr: then it is `mixed`
  bool wire_bf16 = false;
  T* mixed = nullptr;   ///< the rows and positions of the turn
  Panels panels;        ///< layout of `mixed`
  bool stream = false;  ///< as in RowRounds
  /// When scattering, adds to the image. Only for one position at a time, at which no two tiles share a pixel.
  bool accumulate = false;
  /// Products to compute, by pixel of the image; under the conditions of BlockPass.
  kernels::RowProducts<T> products = {};
  const T* moments_above = nullptr;         ///< shift of the moments of what is scattered; or nullptr: none
  ColumnTotals* column_totals = nullptr;    ///< set if `products` has weights or there are moments
  const kernels::Affine<T>* map = nullptr;  ///< when gathering, computes the pixels of real images; or nullptr
  const Owners* owners = nullptr;           ///< set if there are products or moments
  /// When gathering: the cut of the real images, if each row is put together from its positions. `geometry` is then
  /// that of the rows as a matrix.
  const TileGeometry* joined = nullptr;
  const T* addend = nullptr;  ///< added to what is scattered; has the image's shape; under the conditions of BlockPass
  /// The origins of all rows in the order of the key, if several walks need them; or nullptr: they are computed in the
  /// walk.
  const TileOrigin* origins = nullptr;

  /// Fills `table`, one entry for each row, for `origins`.
  void find_origins(TileOrigin* table, ThreadPool& threads) const;
  /// The number of elements that `work` must have for this many threads.
  [[nodiscard]] int64_t work_elements(int threads) const { return threads * work_per_thread(); }
  /// @param turn whole groups of kGroup rows, except at the end
  void run(const Turn& turn, T* work, ThreadPool& threads) const;
  /// Does the same on the calling thread alone, with work memory of one thread.
  void run_alone(const Turn& turn, T* work) const;

 private:
  [[nodiscard]] bool gathering() const { return is_gathering(rows.form); }
  [[nodiscard]] bool streams() const;
  /// Whether the image's rows are prefetched when scattering.
  [[nodiscard]] bool fetches_target() const;
  [[nodiscard]] int64_t run_elements() const;
  [[nodiscard]] int64_t work_per_thread() const;
  /// Where a walk is. Items are pairs of a group of rows and a position, positions fastest.
  struct At {
    int64_t group, position;
  };
  struct Prepared {
    kernels::BlockPass<T> pass;
    T* work = nullptr;
    /// For each row of the pass, its pixel in the image; negative outside real images.
    std::array<int64_t, kernels::kGroup> pixels = {};
    std::array<int64_t, kernels::kGroup> joined_rows = {};  ///< in the cut, if rows are joined
  };
  [[nodiscard]] bool needs_pixels() const {
    return products.count > 0 || moments_above != nullptr || (map != nullptr && joined == nullptr);
  }
  [[nodiscard]] bool makes_rows() const { return map != nullptr || joined != nullptr; }
  struct OtherSide;
  [[nodiscard]] OtherSide other_side(const Turn& turn, int64_t row, int64_t position) const;
  [[nodiscard]] TileOrigin origin(int64_t near) const;
  void start_group(int64_t group, TileOrigin* of_rows, kernels::BlockPass<T>& pass) const;
  void set_addresses(const Turn& turn, const At& at, const TileOrigin* of_rows, Prepared& into) const;
  /// Lets `map` compute the rows of a pass.
  void make_rows(Prepared& prepared, T* work) const;
  /// Puts the rows of a pass together from their positions, each through `map` if there is one.
  void join_rows(Prepared& prepared, T* work) const;
  void join_row(int64_t row, T* joined_row) const;
  [[nodiscard]] kernels::BlockPass<T> common_pass(const Turn& turn, T* work) const;
  [[nodiscard]] T* column_sums(T* work, int64_t which = 0) const;
  [[nodiscard]] int64_t before_made_rows() const;
  [[nodiscard]] T* made_rows(T* work) const;
  void clear_column_sums(T* work) const;
  void flush_column_sums(T* work) const;
  void walk(const Turn& turn, const RowRange& items, T* work) const;
};

}  // namespace tempo::obfuscation
