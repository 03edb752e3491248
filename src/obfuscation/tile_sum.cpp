#include "obfuscation/tile_sum.h"

#include <algorithm>
#include <span>
#include <vector>

#include "obfuscation/scratch.h"

namespace tempo::obfuscation {
namespace {

/// For each pixel along one axis, the (tile, position) pairs that lie on it: those of pixel i are
/// entries [start[i], start[i + 1]).
struct Cover {
  struct Entry {
    int64_t tile, position;
  };
  std::vector<size_t> start;
  std::vector<Entry> entries;

  Cover(int64_t size, int64_t tiles, int64_t positions, int64_t step, int64_t offset, int64_t pitch) {
    for (int64_t i = 0; i < size; ++i) {
      start.push_back(entries.size());
      for (int64_t position = 0; position < positions; ++position) {
        const int64_t origin = i + offset - position * pitch;
        if (origin >= 0 && origin % step == 0 && origin / step < tiles) entries.push_back({origin / step, position});
      }
    }
    start.push_back(entries.size());
  }
  [[nodiscard]] std::span<const Entry> of(int64_t i) const {
    const auto at = static_cast<size_t>(i);
    return std::span(entries).subspan(start[at], start[at + 1] - start[at]);
  }
  [[nodiscard]] size_t most() const {
    size_t most = 0;
    for (size_t i = 0; i + 1 < start.size(); ++i) most = std::max(most, start[i + 1] - start[i]);
    return most;
  }
  [[nodiscard]] bool complete() const {
    for (size_t i = 0; i + 1 < start.size(); ++i)
      if (start[i] == start[i + 1]) return false;
    return true;
  }
};

Cover cover_y(const TileGeometry& g) { return {g.height, g.tiles_y, g.tile_h, g.step_y, g.offset_y, g.pitch_y}; }
Cover cover_x(const TileGeometry& g) { return {g.width, g.tiles_x, g.tile_w, g.step_x, g.offset_x, g.pitch_x}; }

}  // namespace

template <typename T>
void sum_tiles(const T* tiles, const TileGeometry& geometry, const PixelSums<T>& sums, T* x, ThreadPool& threads) {
  const TileGeometry& g = geometry;
  const auto& [kernels, products] = sums;
  const Cover along_y = cover_y(g), along_x = cover_x(g);
  Tickets tickets(threads.threads());
  const size_t most = along_y.most() * along_x.most();
  std::vector<const T*> runs(most * static_cast<size_t>(threads.threads()));
  threads.parallel_for(g.images * g.height, 1, [&](int64_t begin, int64_t end) {
    const Tickets::Held ticket(tickets);
    const T** run = runs.data() + ticket.number() * most;
    for (int64_t line = begin; line < end; ++line) {
      T* pixel = x + line * g.width * g.channels;
      for (int64_t column = 0; column < g.width; ++column, pixel += g.channels) {
        int64_t count = 0;
        for (const auto& [ty, py] : along_y.of(line % g.height))
          for (const auto& [tx, px] : along_x.of(column)) {
            const int64_t row = (line / g.height * g.tiles_y + ty) * g.tiles_x + tx;
            run[count++] = tiles + (row * g.positions() + py * g.tile_w + px) * g.channels;
          }
        if (count == 0) {
          std::fill(pixel, pixel + g.channels, T(0));
          continue;
        }
        kernels.sum_runs(run, count, pixel, g.channels);
        if (products.count > 0) kernels.take_products(pixel, g.channels, products, line * g.width + column);
      }
    }
  });
}

template <typename T>
void zero_uncovered(const TileGeometry& geometry, T* x, ThreadPool& threads) {
  const TileGeometry& g = geometry;
  const Cover along_y = cover_y(g), along_x = cover_x(g);
  if (along_y.complete() && along_x.complete()) return;
  threads.parallel_for(g.images * g.height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      T* pixel = x + line * g.width * g.channels;
      const bool whole_line = along_y.of(line % g.height).empty();
      for (int64_t column = 0; column < g.width; ++column, pixel += g.channels)
        if (whole_line || along_x.of(column).empty()) std::fill(pixel, pixel + g.channels, T(0));
    }
  });
}

template void sum_tiles(const float*, const TileGeometry&, const PixelSums<float>&, float*, ThreadPool&);
template void sum_tiles(const double*, const TileGeometry&, const PixelSums<double>&, double*, ThreadPool&);
template void zero_uncovered(const TileGeometry&, float*, ThreadPool&);
template void zero_uncovered(const TileGeometry&, double*, ThreadPool&);

}  // namespace tempo::obfuscation
