/// The walk over groups of rows and tile positions that meets the image: the first row round and all channel rounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "obfuscation/kernels/kernels.h"
#include "obfuscation/key.h"
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

/// One side of the walk is the image. The other is rows of all positions: the wire, or panels of scratch memory.
template <typename T>
struct TileWalk {
  TileGeometry geometry;
  KeyUse rows;
  const ChannelRounds<T>* channels = nullptr;
  const kernels::Kernels<T>* kernels = nullptr;
  const T* source = nullptr;  ///< the image if gathering
  T* target = nullptr;        ///< the image if scattering
  std::byte* wire = nullptr;  ///< the other side, or nullptr: it is `mixed`
  bool wire_bf16 = false;
  T* mixed = nullptr;
  Panels panels;        ///< of `mixed`
  bool stream = false;  ///< as in RowRounds

  /// Elements of `work` for so many threads.
  [[nodiscard]] int64_t work_elements(int threads) const { return threads * work_per_thread(); }
  void run(T* work, ThreadPool& threads) const;

 private:
  [[nodiscard]] bool gathering() const { return is_gathering(rows.form); }
  [[nodiscard]] bool streams() const;
  [[nodiscard]] int64_t run_elements() const;
  [[nodiscard]] int64_t work_per_thread() const;
  struct Origins;
  void start_group(int64_t group, Origins& origins, kernels::BlockPass<T>& pass) const;
  void set_addresses(int64_t group, int64_t position, const Origins& origins, T* void_run,
                     kernels::BlockPass<T>& pass) const;
  [[nodiscard]] kernels::BlockPass<T> common_pass(T* work) const;
  void walk(int64_t begin, int64_t end, T* work) const;
};

/// x[pixel] = sum of the tile positions that cover it, in a fixed order; zero where there are none.
/// @param tiles [rows, tile_h, tile_w, channels]
template <typename T>
void sum_tiles(const T* tiles, const TileGeometry& geometry, const kernels::Kernels<T>& kernels, T* x,
               ThreadPool& threads);

/// Zeroes the pixels of x that no tile covers. Costs nothing where every pixel is covered.
template <typename T>
void zero_uncovered(const TileGeometry& geometry, T* x, ThreadPool& threads);

}  // namespace tempo::obfuscation
