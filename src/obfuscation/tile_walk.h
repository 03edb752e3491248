/// The walk over groups of rows and tile positions that meets the image: the first row round and all channel rounds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/thread_pool.h"
#include "obfuscation/kernels/kernels.h"
#include "obfuscation/key.h"
#include "obfuscation/pixel_map.h"
#include "obfuscation/row_rounds.h"
#include "obfuscation/tile_geometry.h"

namespace tempo::obfuscation {

/// The channel rounds of a key in the order in which a form runs them, with coefficients in the type of the operand.
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

/// Where the tile of a row begins in the image; (y, x) may be outside.
struct TileOrigin {
  int64_t offset;  ///< elements from pixel (0, 0) of the first real image
  int32_t y, x;
};

/// Column sums of all threads: of `per_channel` sums for each.
struct ColumnTotals {
  std::mutex mutex;
  int64_t per_channel = 0;
  std::vector<double> sums;  ///< [per_channel, channels]
};

/// Of the tiles that lie on a pixel the last is its owner: what is taken of a pixel is taken once.
class Owners {
 public:
  explicit Owners(const TileGeometry& geometry);
  /// Of position (py, px) of the tile that begins at pixel (y, x).
  [[nodiscard]] bool owns(int64_t py, int64_t px, int32_t y, int32_t x) const {
    return along_y_.owns(py, y) && along_x_.owns(px, x);
  }

 private:
  struct Axis {
    int64_t shared_from;  ///< positions from here on lie on a later tile, too
    int64_t last_begins;  ///< pixel, unless the tile begins here or after
    [[nodiscard]] bool owns(int64_t position, int32_t begin) const {
      return position < shared_from || begin >= last_begins;
    }
  };
  static Axis axis(int64_t tiles, int64_t step, int64_t pitch, int64_t offset);
  Axis along_y_, along_x_;
};

/// One side of the walk is the image. The other is rows of positions: the wire, or panels of scratch memory.
template <typename T>
struct TileWalk {
  TileGeometry geometry;
  int64_t first_position = 0, positions = 0;  ///< that this walk visits, and `mixed` has
  KeyUse rows;
  const ChannelRounds<T>* channels = nullptr;
  const kernels::Kernels<T>* kernels = nullptr;
  int64_t real_images = 0;     ///< those after them are decoys: read from elsewhere, never written
  const T* source = nullptr;   ///< the real images if gathering
  const T* decoys = nullptr;   ///< and the decoys
  T* target = nullptr;         ///< the real images if scattering
  std::byte* wire = nullptr;   ///< the other side, or nullptr: it is `mixed`
  int64_t first_wire_row = 0;  ///< that `wire` begins with
  bool wire_bf16 = false;
  T* mixed = nullptr;
  Panels panels;        ///< of `mixed`
  bool stream = false;  ///< as in RowRounds
  /// Scattering: add to the image. Only for one position at a time, at which no two tiles share a pixel.
  bool accumulate = false;
  /// Taken on the way, by pixel of the image; only as BlockPass has them.
  kernels::RowProducts<T> products = {};
  const T* moments_above = nullptr;       ///< of what is scattered: the shift, or nullptr: none are taken
  ColumnTotals* column_totals = nullptr;  ///< where there are weights in `products`, or moments are taken
  const PixelMap* map = nullptr;          ///< gathering: what makes the pixels of real images, or nullptr
  const Owners* owners = nullptr;         ///< where there are products or moments
  const T* addend = nullptr;  ///< of the image's shape, added to what is scattered; only as BlockPass has it
  /// Of all rows in the order of the key, where more walks than one need them; or nullptr: worked out on the way.
  const TileOrigin* origins = nullptr;

  /// Fills `table`, of a row each, for `origins`.
  void find_origins(TileOrigin* table, ThreadPool& threads) const;
  /// Elements of `work` for so many threads.
  [[nodiscard]] int64_t work_elements(int threads) const { return threads * work_per_thread(); }
  /// @param some all, or those of a slice (blind.h): whole sections, but for the last
  void run(T* work, const RowRange& some, ThreadPool& threads) const;

 private:
  [[nodiscard]] bool gathering() const { return is_gathering(rows.form); }
  [[nodiscard]] bool streams() const;
  [[nodiscard]] int64_t run_elements() const;
  [[nodiscard]] int64_t work_per_thread() const;
  /// Whether groups are mixed with one another, a section at a time, through a buffer.
  [[nodiscard]] bool is_wide() const {
    return !rows.key->rounds.empty() && rows.key->rounds[0].block > kernels::kGroup;
  }
  [[nodiscard]] int64_t rows_per_item() const { return is_wide() ? kernels::kSection : kernels::kGroup; }
  /// Of a pass: where its rows lie in the image; negative outside of real images.
  using Pixels = std::array<int64_t, kernels::kGroup>;
  [[nodiscard]] bool needs_pixels() const { return products.count > 0 || moments_above != nullptr || map != nullptr; }
  struct OtherSide;
  [[nodiscard]] OtherSide other_side(int64_t position) const;
  [[nodiscard]] TileOrigin origin(int64_t near) const;
  void start_group(int64_t group, TileOrigin* of_rows, kernels::BlockPass<T>& pass) const;
  void set_addresses(int64_t group, int64_t position, const TileOrigin* of_rows, T* work, kernels::BlockPass<T>& pass,
                     Pixels& pixels) const;
  /// Lets `map` make the rows of a pass.
  void make_rows(kernels::BlockPass<T>& pass, const Pixels& pixels, T* work) const;
  [[nodiscard]] kernels::BlockPass<T> common_pass(T* work) const;
  [[nodiscard]] T* section_buffer(T* work) const;
  [[nodiscard]] T* column_sums(T* work, int64_t which = 0) const;
  [[nodiscard]] int64_t before_made_rows() const;
  [[nodiscard]] T* made_rows(T* work) const;
  void clear_column_sums(T* work) const;
  void flush_column_sums(T* work) const;
  void mix_section(int64_t section, int64_t position, T* work) const;
  void walk(int64_t begin, int64_t end, T* work) const;
};

}  // namespace tempo::obfuscation
