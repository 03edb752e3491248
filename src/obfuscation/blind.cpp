#include "obfuscation/blind.h"

#include <algorithm>
#include <utility>

#include "obfuscation/blind_checks.h"
#include "obfuscation/row_rounds.h"
#include "obfuscation/scratch.h"
#include "obfuscation/tile_sum.h"
#include "obfuscation/tile_walk.h"

namespace tempo::obfuscation {
namespace {

/// Turns a cut into adjacent single positions into a plain matrix, which is cheaper to walk.
TileGeometry simplified(const TileGeometry& g) {
  const bool matrix = g.positions() == 1 && g.step_y == 1 && g.step_x == 1 && g.offset_y == 0 && g.offset_x == 0 &&
                      g.tiles_y == g.height && g.tiles_x == g.width;
  return matrix ? matrix_geometry(g.images * g.height * g.width, g.channels) : g;
}

/// The number of real images in a simplified cut, whose images may be single positions.
int64_t real_images(const TileGeometry& geometry, const TileGeometry& cut, int64_t decoys) {
  return geometry.images == 0 ? 0 : (geometry.images - decoys) * (cut.images / geometry.images);
}

/// Cuts one piece of memory into 64-byte aligned arrays. Without memory it only counts the bytes.
class Carver {
 public:
  explicit Carver(std::byte* memory = nullptr) : memory_(memory) {}
  template <typename T>
  T* take(int64_t elements) {
    std::byte* piece = memory_ == nullptr ? nullptr : memory_ + bytes_;
    bytes_ += (static_cast<size_t>(elements) * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(piece);
  }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  size_t bytes_ = 0;
};

/// Half-mixed values of at most this many bytes should still be in the last-level cache when the next round reads them.
constexpr int64_t kMixedBytes = 8 << 20;

/// One call of blind or unblind: the walk over the image, the further row rounds, and the scratch memory that both
/// need. If there are further rounds, positions take turns, so that the values between two rounds stay few.
template <typename T>
class Call {
 public:
  Call(const TileGeometry& geometry, int64_t real_images, KeyUse rows, KeyUse channels, ElementType wire_type,
       std::byte* wire, ThreadPool& threads)
      : channels_(channels), threads_(threads), owners_(geometry) {
    const auto& kernels = kernels::select<T>(kernels::current_kernels());
    const bool bf16 = wire_type == ElementType::kBFloat16;
    further_rounds_ = rows.key->rounds.size() > 1;
    walk_.geometry = geometry;
    walk_.real_images = real_images;
    walk_.positions = geometry.positions();
    walk_.rows = rows;
    walk_.channels = &channels_;
    walk_.kernels = &kernels;
    walk_.wire = further_rounds_ ? nullptr : wire;
    walk_.wire_bf16 = bf16;
    walk_.stream = should_stream<T>(geometry.elements(), geometry.channels);
    if (!further_rounds_) return;
    walk_.accumulate = !is_gathering(rows.form) && !geometry.is_disjoint();
    const int64_t position_bytes = geometry.rows() * geometry.channels * static_cast<int64_t>(sizeof(T));
    walk_.positions = walk_.accumulate ? 1 : std::clamp<int64_t>(kMixedBytes / position_bytes, 1, geometry.positions());
    walk_.panels = Panels::of(geometry.rows(), walk_.positions, geometry.channels, sizeof(T));
    rounds_ = {.key = rows,
               .panels = walk_.panels,
               .channels = geometry.channels,
               .wire = wire,
               .wire_pitch = geometry.positions() * geometry.channels,
               .wire_bf16 = bf16,
               .kernels = &kernels,
               .stream = walk_.stream};
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// Prepares to compute products. Must be called before the walk. A gathering pass meets channels in the order of the
  /// blinded operand, so the vectors are brought into that order.
  void take(const PixelProducts<T>& products) {
    if (products.count == 0) return;
    walk_.owners = &owners_;
    const int64_t channels = walk_.geometry.channels;
    vectors_.assign(products.vectors, products.vectors + products.count * channels);
    if (is_gathering(walk_.rows.form))
      for (int64_t v = 0; v < products.count; ++v)
        for (int64_t c = 0; c < channels; ++c)
          vectors_[static_cast<size_t>(v * channels + c)] =
              products.vectors[v * channels + int64_t{channels_.data()->source[c]}];
    walk_.products = {static_cast<int>(products.count), vectors_.data(), products.planes,
                      walk_.real_images * walk_.geometry.height * walk_.geometry.width, products.weights};
    if (products.weights != nullptr) take_column_sums(1);
  }
  void take(const PixelMoments<T>& moments) {
    if (moments.sums == nullptr) return;
    walk_.owners = &owners_;
    walk_.moments_above = moments.shift;
    take_column_sums(2);
  }

  /// Hands out column sums, in the order of the image's channels. Call after the walk.
  void hand_out(const PixelProducts<T>& products) const {
    for (size_t c = 0; c < totals_.sums.size(); ++c)
      products.column_sums[channels_.data()->source[c]] = totals_.sums[c];
  }
  void hand_out(const PixelMoments<T>& moments) const {
    const auto channels = static_cast<ptrdiff_t>(totals_.sums.size() / 2);
    std::copy_n(totals_.sums.begin(), channels, moments.sums);
    std::copy_n(totals_.sums.begin() + channels, channels, moments.squares);
  }

  void blind(const T* x, const WhileBlinding<T>& also) {
    walk_.source = x;
    if (also.map) walk_.map = &also.map;
    walk_.decoys = also.decoys.pixels;
    carve(0);
    if (further_rounds_) {
      in_turns([&] {
        walk_.run(work_, all_rows(), threads_);
        rounds_.run(walk_.mixed, spare_, threads_);
      });
      if (also.slices.done) also.slices.done(all_rows());
      return;
    }
    if (also.slices.rows.empty()) return walk_.run(work_, all_rows(), threads_);
    for (const RowRange& rows : also.slices.rows) {
      walk_.run(work_, rows, threads_);
      also.slices.done(rows);
    }
  }

  void unblind(T* x, const WhileUnblinding<T>& also) {
    const UnblindSlices& slices = also.slices;
    walk_.addend = also.addend;
    TileGeometry image = walk_.geometry;
    const bool through_tiles = !further_rounds_ && !image.is_disjoint();
    const int64_t tile_elements = through_tiles ? image.elements() : 0;
    if (through_tiles) {
      walk_.geometry = weight_geometry(image.rows(), image.tile_h, image.tile_w, image.channels);
      image.images = std::exchange(walk_.real_images, image.rows());
    } else {
      image.images = walk_.real_images;
    }
    // Overlapping tiles are summed later, and products must be those of the sums.
    const kernels::RowProducts<T> of_sums =
        through_tiles ? std::exchange(walk_.products, {}) : kernels::RowProducts<T>();
    carve(tile_elements);
    walk_.target = through_tiles ? tiles_ : x;
    if (walk_.accumulate) zero(x, image.images * image.height * image.width * image.channels);
    if (further_rounds_) {
      if (!slices.rows.empty()) rounds_.wire = const_cast<std::byte*>(slices.arrive(all_rows()));
      in_turns([&] {
        rounds_.run(walk_.mixed, spare_, threads_);
        walk_.run(work_, all_rows(), threads_);
      });
    } else if (slices.rows.empty()) {
      walk_.run(work_, all_rows(), threads_);
    } else {
      for (const RowRange& rows : slices.rows) {
        walk_.wire = const_cast<std::byte*>(slices.arrive(rows));
        walk_.first_wire_row = rows.begin;
        walk_.run(work_, rows, threads_);
      }
    }
    if (through_tiles)
      sum_tiles(tiles_, image, *walk_.kernels, x, of_sums, threads_);
    else if (!walk_.accumulate)
      zero_uncovered(image, x, threads_);
  }

 private:
  void take_column_sums(int64_t per_channel) {
    totals_.per_channel = per_channel;
    totals_.sums.resize(static_cast<size_t>(per_channel * walk_.geometry.channels));
    walk_.column_totals = &totals_;
  }
  [[nodiscard]] RowRange all_rows() const { return {0, walk_.geometry.rows()}; }

  /// Calls `body` once for each turn, with walk_ and rounds_ set to the positions of the turn.
  template <typename Body>
  void in_turns(const Body& body) {
    const int64_t all = walk_.geometry.positions(), at_once = walk_.positions;
    for (int64_t first = 0; first < all; first += at_once) {
      walk_.first_position = rounds_.first_position = first;
      walk_.positions = rounds_.positions = std::min(at_once, all - first);
      body();
    }
  }

  void zero(T* x, int64_t elements) {
    threads_.parallel_for(elements, 1 << 16, [&](int64_t begin, int64_t end) { std::fill(x + begin, x + end, T(0)); });
  }

  void carve(int64_t tile_elements) {
    rounds_.positions = walk_.positions;
    const bool has_turns = further_rounds_ && walk_.positions < walk_.geometry.positions();
    TileOrigin* origins = nullptr;
    const auto take_all = [&](Carver carver) {
      work_ = carver.take<T>(walk_.work_elements(threads_.threads()));
      walk_.mixed = carver.take<T>(further_rounds_ ? walk_.panels.elements() : 0);
      spare_ = carver.take<T>(further_rounds_ ? rounds_.spare_elements(threads_.threads()) : 0);
      tiles_ = carver.take<T>(tile_elements);
      origins = carver.take<TileOrigin>(has_turns ? walk_.geometry.rows() : 0);
      return carver.bytes();
    };
    take_all(Carver(thread_scratch(take_all(Carver()))));
    if (!has_turns) return;
    walk_.find_origins(origins, threads_);
    walk_.origins = origins;
  }

  ChannelRounds<T> channels_;
  ThreadPool& threads_;
  Owners owners_;
  bool further_rounds_ = false;
  TileWalk<T> walk_;
  RowRounds<T> rounds_;
  T *work_ = nullptr, *spare_ = nullptr, *tiles_ = nullptr;
  std::vector<T> vectors_;  // vectors of products
  ColumnTotals totals_;
};

bool mixes_nothing(const Key& key) {
  return std::all_of(key.rounds.begin(), key.rounds.end(), [](const KeyRound& round) { return round.block == 1; });
}

}  // namespace

std::vector<RowRange> slice_rows(const Key& key, int64_t count) {
  const int64_t rows = key.size;
  if (key.rounds.size() > 1 || count < 2 || rows == 0) return {{0, rows}};
  const int64_t sections = (rows + kernels::kSection - 1) / kernels::kSection, most = std::min(count, sections);
  std::vector<RowRange> slices;
  for (int64_t i = 0; i < most; ++i)
    slices.push_back(
        {sections * i / most * kernels::kSection, std::min(rows, sections * (i + 1) / most * kernels::kSection)});
  return slices;
}

bool takes_products(const Key& rows, const Key& channels) {
  return rows.rounds.size() <= 1 && mixes_nothing(rows) && channels.rounds.size() == 1 && mixes_nothing(channels);
}

bool takes_moments(const TileGeometry& geometry, const Key& rows, const Key& channels) {
  return geometry.is_disjoint() && takes_products(rows, channels);
}

bool takes_addend(const TileGeometry& geometry, const Key& rows, const Key& channels) {
  const TileGeometry cut = simplified(geometry);
  return cut.height == 1 && cut.width == 1 && cut.positions() == 1 && takes_products(rows, channels);
}

template <typename T>
void blind(const T* x, const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, std::byte* out,
           ThreadPool& threads, const WhileBlinding<T>& also) {
  check_blind(geometry, rows, channels, wire, out, also);
  if (geometry.elements() == 0) return;
  const TileGeometry cut = simplified(geometry);
  Call<T> call(cut, real_images(geometry, cut, also.decoys.images), rows, channels, wire, out, threads);
  call.take(also.products);
  call.blind(x, also);
  call.hand_out(also.products);
}

template <typename T>
void unblind(const std::byte* in, ElementType wire, const TileGeometry& geometry, KeyUse rows, KeyUse channels, T* x,
             ThreadPool& threads, const WhileUnblinding<T>& also) {
  check_unblind(geometry, rows, channels, wire, in, also);
  if (also.moments.sums != nullptr) {
    std::fill_n(also.moments.sums, geometry.channels, 0.0);
    std::fill_n(also.moments.squares, geometry.channels, 0.0);
  }
  if (geometry.elements() == 0) return;
  // Scattering kernels only read the wire. The field is not const because gathering kernels write it.
  const TileGeometry cut = simplified(geometry);
  Call<T> call(cut, real_images(geometry, cut, also.decoy_images), rows, channels, wire, const_cast<std::byte*>(in),
               threads);
  call.take(also.products);
  call.take(also.moments);
  call.unblind(x, also);
  if (also.moments.sums != nullptr) call.hand_out(also.moments);
}

template <typename T>
void add(T* x, const T* addend, int64_t elements, ThreadPool& threads) {
  threads.parallel_for(elements, 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] += addend[i];
  });
}

#define TEMPO_INSTANTIATE(T)                                                                                 \
  template void blind(const T*, const TileGeometry&, KeyUse, KeyUse, ElementType, std::byte*, ThreadPool&,   \
                      const WhileBlinding<T>&);                                                              \
  template void unblind(const std::byte*, ElementType, const TileGeometry&, KeyUse, KeyUse, T*, ThreadPool&, \
                        const WhileUnblinding<T>&);                                                          \
  template void add(T*, const T*, int64_t, ThreadPool&);
TEMPO_INSTANTIATE(float)
TEMPO_INSTANTIATE(double)
#undef TEMPO_INSTANTIATE

}  // namespace tempo::obfuscation
