#include "obfuscation/blind.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "obfuscation/blind_checks.h"
#include "obfuscation/row_rounds.h"
#include "obfuscation/scratch.h"
#include "obfuscation/tile_sum.h"
#include "obfuscation/tile_walk.h"
#include "tempo/error.h"

namespace tempo::obfuscation {

/// One tensor that is being blinded or un-blinded, whatever its type.
class BlindingPass {
 public:
  virtual ~BlindingPass() = default;
  virtual void blind_rows(const RowRange& rows) = 0;
  virtual void finish_blinding() = 0;
  virtual void unblind_rows(const RowRange& rows, const std::byte* in) = 0;
  virtual void finish_unblinding() = 0;
};

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

/// Blinds or un-blinds one tensor: the walk over the image, the further row rounds, and the scratch memory that both
/// need. If there are further rounds, positions take turns, so that the values between two rounds stay few.
template <typename T>
class TypedPass final : public BlindingPass {
 public:
  TypedPass(const Blinding& how, ThreadPool& threads, const Taps& taps)
      : channels_(how.channels), threads_(threads), owners_(simplified(how.geometry)), taps_(taps) {
    const auto& kernels = kernels::select<T>(kernels::current_kernels());
    const TileGeometry geometry = simplified(how.geometry);
    further_rounds_ = how.rows.key->rounds.size() > 1;
    walk_.geometry = geometry;
    walk_.real_images = real_images(how.geometry, geometry, how.decoy_images);
    walk_.positions = geometry.positions();
    walk_.rows = how.rows;
    walk_.channels = &channels_;
    walk_.kernels = &kernels;
    walk_.wire_bf16 = how.wire == ElementType::kBFloat16;
    wire_ = {.rows = geometry.rows(),
             .positions = geometry.positions(),
             .channels = geometry.channels,
             .element_bytes = static_cast<int64_t>(contract::element_bytes(how.wire)),
             .panels = how.panels};
    walk_.stream = should_stream<T>(geometry.elements(), geometry.channels);
    if (further_rounds_) {
      walk_.accumulate = !is_gathering(how.rows.form) && !geometry.is_disjoint();
      const int64_t position_bytes = geometry.rows() * geometry.channels * static_cast<int64_t>(sizeof(T));
      walk_.positions =
          walk_.accumulate ? 1 : std::clamp<int64_t>(kMixedBytes / position_bytes, 1, geometry.positions());
      walk_.panels = Panels::of(wire_, walk_.positions, sizeof(T));
      rounds_ = {.key = how.rows,
                 .panels = walk_.panels,
                 .wire = wire_,
                 .wire_bf16 = walk_.wire_bf16,
                 .kernels = &kernels,
                 .stream = walk_.stream};
    }
    take_products();
    take_moments();
  }
  TypedPass(const TypedPass&) = delete;
  TypedPass& operator=(const TypedPass&) = delete;

  void begin_blinding(const PlainOperand& operand, std::byte* out) {
    wire_.data = out;
    walk_.source = static_cast<const T*>(operand.x.data);
    walk_.decoys = static_cast<const T*>(operand.decoys);
    if (taps_.map != nullptr) {
      scale_.assign(taps_.map->scale.begin(), taps_.map->scale.end());
      offset_.assign(taps_.map->offset.begin(), taps_.map->offset.end());
      map_ = {scale_.data(), offset_.data(), taps_.map->relu};
      walk_.map = &map_;
    }
    carve(0);
  }
  void blind_rows(const RowRange& rows) override {
    if (!further_rounds_) {
      walk_.wire = wire_;
      return walk_.run(work_, rows, threads_);
    }
    rounds_.wire = wire_;
    in_turns([&] {
      walk_.run(work_, rows, threads_);
      rounds_.run(walk_.mixed, spare_, threads_);
    });
  }
  void finish_blinding() override {
    for (size_t c = 0; c < totals_.sums.size(); ++c)
      taps_.products.column_sums[channels_.data()->source[c]] = totals_.sums[c];
  }

  void begin_unblinding(const PlainTensor& x) {
    x_ = static_cast<T*>(x.data);
    walk_.addend = static_cast<const T*>(taps_.addend);
    image_ = walk_.geometry;
    through_tiles_ = !further_rounds_ && !image_.is_disjoint();
    const int64_t tile_elements = through_tiles_ ? image_.elements() : 0;
    if (through_tiles_) {
      walk_.geometry = weight_geometry(image_.rows(), image_.tile_h, image_.tile_w, image_.channels);
      image_.images = std::exchange(walk_.real_images, image_.rows());
      // Overlapping tiles are summed later, and products must be those of the sums.
      of_sums_ = std::exchange(walk_.products, {});
    } else {
      image_.images = walk_.real_images;
    }
    carve(tile_elements);
    walk_.target = through_tiles_ ? tiles_ : x_;
    if (walk_.accumulate) zero(x_, image_.images * image_.height * image_.width * image_.channels);
  }
  void unblind_rows(const RowRange& rows, const std::byte* in) override {
    // Scattering kernels only read the wire. The field is not const because gathering kernels write it.
    wire_.data = const_cast<std::byte*>(in);
    wire_.first_row = rows.begin;
    if (!further_rounds_) {
      walk_.wire = wire_;
      return walk_.run(work_, rows, threads_);
    }
    rounds_.wire = wire_;
    in_turns([&] {
      rounds_.run(walk_.mixed, spare_, threads_);
      walk_.run(work_, rows, threads_);
    });
  }
  void finish_unblinding() override {
    if (through_tiles_)
      sum_tiles<T>(tiles_, image_, {*walk_.kernels, of_sums_}, x_, threads_);
    else if (!walk_.accumulate)
      zero_uncovered(image_, x_, threads_);
    if (taps_.moments.sums == nullptr) return;
    const auto channels = static_cast<ptrdiff_t>(totals_.sums.size() / 2);
    std::copy_n(totals_.sums.begin(), channels, taps_.moments.sums);
    std::copy_n(totals_.sums.begin() + channels, channels, taps_.moments.squares);
  }

 private:
  /// A gathering pass meets channels in the order of the blinded operand, so the vectors are brought into that order.
  void take_products() {
    const PixelProducts& products = taps_.products;
    if (products.count == 0) return;
    walk_.owners = &owners_;
    const int64_t channels = walk_.geometry.channels;
    const auto* const vectors = static_cast<const T*>(products.vectors);
    vectors_.assign(vectors, vectors + products.count * channels);
    if (is_gathering(walk_.rows.form))
      for (int64_t v = 0; v < products.count; ++v)
        for (int64_t c = 0; c < channels; ++c)
          vectors_[static_cast<size_t>(v * channels + c)] =
              vectors[v * channels + int64_t{channels_.data()->source[c]}];
    walk_.products = {static_cast<int>(products.count), vectors_.data(), static_cast<T*>(products.planes),
                      walk_.real_images * walk_.geometry.height * walk_.geometry.width,
                      static_cast<const T*>(products.weights)};
    if (products.weights != nullptr) take_column_sums(1);
  }
  void take_moments() {
    if (taps_.moments.sums == nullptr) return;
    walk_.owners = &owners_;
    walk_.moments_above = static_cast<const T*>(taps_.moments.shift);
    take_column_sums(2);
  }
  void take_column_sums(int64_t per_channel) {
    totals_.per_channel = per_channel;
    totals_.sums.resize(static_cast<size_t>(per_channel * walk_.geometry.channels));
    walk_.column_totals = &totals_;
  }

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
  Taps taps_;
  std::vector<T> scale_, offset_;  // of the map
  kernels::Affine<T> map_;
  WireLayout wire_;
  T* x_ = nullptr;
  TileGeometry image_;
  bool through_tiles_ = false;  // un-blinding goes through tiles that are summed afterwards
  kernels::RowProducts<T> of_sums_ = {};
};

/// The rows of a slice are a multiple of this many, except at the end.
int64_t slice_unit(const contract::PanelLayout& panels) { return panels.is_set() ? panels.rows : kernels::kSection; }

bool mixes_nothing(const Key& key) {
  return std::all_of(key.rounds.begin(), key.rounds.end(), [](const KeyRound& round) { return round.block == 1; });
}

}  // namespace

std::vector<RowRange> slice_rows(const Key& key, const contract::PanelLayout& panels, int64_t count) {
  const int64_t rows = key.size, unit = slice_unit(panels);
  if (key.rounds.size() > 1 || count < 2 || rows == 0) return {{0, rows}};
  const int64_t units = (rows + unit - 1) / unit, most = std::min(count, units);
  std::vector<RowRange> slices;
  for (int64_t i = 0; i < most; ++i)
    slices.push_back({units * i / most * unit, std::min(rows, units * (i + 1) / most * unit)});
  return slices;
}

bool supports(const Taps& taps, const Blinding& how) {
  const Key &rows = *how.rows.key, &channels = *how.channels.key;
  const bool takes = taps.products.count > 0 || taps.moments.sums != nullptr || taps.addend != nullptr;
  const bool permutes =
      rows.rounds.size() <= 1 && mixes_nothing(rows) && channels.rounds.size() == 1 && mixes_nothing(channels);
  if (takes && (!permutes || how.panels.is_set())) return false;
  if (taps.products.count > PixelProducts::kMost || (taps.products.weights != nullptr && taps.products.count != 1))
    return false;
  if (taps.moments.sums != nullptr && (taps.addend != nullptr || !how.geometry.is_disjoint())) return false;
  const TileGeometry cut = simplified(how.geometry);
  return taps.addend == nullptr || (cut.height == 1 && cut.width == 1 && cut.positions() == 1);
}

namespace {

/// The next rows of a pass, which must be a range of `slice_rows`.
void check_next(const char* where, const RowRange& some, int64_t begin, const Blinding& how) {
  const Key& key = *how.rows.key;
  const int64_t rows = key.size;
  const bool is_whole = some.begin == 0 && some.end == rows;
  const bool ends_unit = some.end == rows || (some.end < rows && some.end % slice_unit(how.panels) == 0);
  if (is_whole || (key.rounds.size() <= 1 && some.begin == begin && some.end > begin && ends_unit)) return;
  throw InputError(fmt::format("{}: rows {} to {} of {} after {}, expected the next ones of slice_rows", where,
                               some.begin, some.end, rows, begin));
}

template <typename T>
std::unique_ptr<TypedPass<T>> make_pass(const Blinding& how, ThreadPool& threads, const Taps& taps) {
  return std::make_unique<TypedPass<T>>(how, threads, taps);
}

}  // namespace

Blinder::Blinder(const Blinding& how, const PlainOperand& operand, std::byte* out, ThreadPool& threads,
                 const Taps& taps)
    : how_(how) {
  check_blind(how, operand, out, taps);
  if (how.geometry.elements() == 0) return;
  with_element_type(operand.x.type, [&](auto element) {
    auto pass = make_pass<ElementOf<decltype(element)>>(how, threads, taps);
    pass->begin_blinding(operand, out);
    pass_ = std::move(pass);
  });
}
Blinder::~Blinder() = default;

void Blinder::rows(const RowRange& some) {
  check_next("blind", some, std::exchange(next_, some.end), how_);
  if (pass_) pass_->blind_rows(some);
}
void Blinder::finish() {
  if (pass_) pass_->finish_blinding();
}

Unblinder::Unblinder(const Blinding& how, PlainTensor x, ThreadPool& threads, const Taps& taps) : how_(how) {
  check_unblind(how, x, taps);
  if (taps.moments.sums != nullptr) {
    std::fill_n(taps.moments.sums, how.geometry.channels, 0.0);
    std::fill_n(taps.moments.squares, how.geometry.channels, 0.0);
  }
  if (how.geometry.elements() == 0) return;
  with_element_type(x.type, [&](auto element) {
    auto pass = make_pass<ElementOf<decltype(element)>>(how, threads, taps);
    pass->begin_unblinding(x);
    pass_ = std::move(pass);
  });
}
Unblinder::~Unblinder() = default;

void Unblinder::rows(const RowRange& some, const std::byte* in) {
  check_next("unblind", some, std::exchange(next_, some.end), how_);
  check_wire_memory("unblind", how_.wire, in);
  if (pass_) pass_->unblind_rows(some, in);
}
void Unblinder::finish() {
  if (pass_) pass_->finish_unblinding();
}

void blind(const Blinding& how, const PlainOperand& operand, std::byte* out, ThreadPool& threads, const Taps& taps) {
  Blinder blinder(how, operand, out, threads, taps);
  blinder.rows({0, how.geometry.rows()});
  blinder.finish();
}

void unblind(const Blinding& how, const std::byte* in, PlainTensor x, ThreadPool& threads, const Taps& taps) {
  Unblinder unblinder(how, x, threads, taps);
  unblinder.rows({0, how.geometry.rows()}, in);
  unblinder.finish();
}

void add(PlainTensor x, const void* addend, int64_t elements, ThreadPool& threads) {
  with_element_type(x.type, [&](auto element) {
    using T = ElementOf<decltype(element)>;
    auto* const to = static_cast<T*>(x.data);
    const auto* const from = static_cast<const T*>(addend);
    threads.parallel_for(elements, 1 << 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    });
  });
}

}  // namespace tempo::obfuscation
