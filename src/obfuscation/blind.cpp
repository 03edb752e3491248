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

/// Whether rows must be put together before a channel key can act on them.
bool joins_positions(const TileGeometry& g) { return g.mixes_positions && g.positions() > 1; }

/// Turns a cut into adjacent single positions into a plain matrix, which is cheaper to walk, and so a cut whose
/// positions are joined.
TileGeometry simplified(const TileGeometry& g) {
  if (joins_positions(g)) return matrix_geometry(g.rows(), g.key_channels());
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

/// A thread's half-mixed values should still be in its second-level cache when the next round reads them, and those
/// that threads share in the last-level cache.
constexpr int64_t kOwnMixedBytes = 1 << 20, kSharedMixedBytes = 8 << 20;
/// The scratch memory for half-mixed values of all threads, if each has its own.
constexpr int64_t kMostMixedBytes = 256 << 20;
/// Rows that are staged together if nothing moves between them: at least so many, and fewer than twice as many.
constexpr int64_t kUnboundRows = 4096;

/// Blinds or un-blinds one tensor: the walk over the image, the further row rounds, and the scratch memory that both
/// need. If there are further rounds, values are staged in scratch memory, a turn at a time. Each thread has turns of
/// its own if there are enough of them, and otherwise all share one.
template <typename T>
class TypedPass final : public BlindingPass {
 public:
  TypedPass(const Blinding& how, ThreadPool& threads, const Taps& taps)
      : channels_(how.channels), threads_(threads), cut_(how.geometry), owners_(simplified(how.geometry)), taps_(taps) {
    const auto& kernels = kernels::select<T>(kernels::current_kernels());
    const TileGeometry geometry = simplified(how.geometry);
    is_staged_ = RowRounds<T>::needed(*how.rows.key);
    walk_.geometry = geometry;
    decoy_images_ = how.decoy_images;
    walk_.real_images = real_images(how.geometry, geometry, how.decoy_images);
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
    if (is_staged_) {
      // Slices arrive row by row, and sums must not depend on them: then overlapping tiles are summed at the end.
      const bool has_slices = how.rows.key->rounds.size() < 2;
      walk_.accumulate = !is_gathering(how.rows.form) && !geometry.is_disjoint() && !has_slices;
      plan_turns();
      walk_.panels = Panels::of(wire_, most_rows_, positions_per_turn_, sizeof(T));
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
    if (joins_positions(cut_)) walk_.joined = &cut_;
    carve(0);
  }
  void blind_rows(const RowRange& rows) override { run(rows); }
  void finish_blinding() override {
    for (size_t c = 0; c < totals_.sums.size(); ++c)
      taps_.products.column_sums[channels_.data()->source[c]] = totals_.sums[c];
  }

  void begin_unblinding(const PlainTensor& x) {
    x_ = static_cast<T*>(x.data);
    walk_.addend = static_cast<const T*>(taps_.addend);
    image_ = walk_.geometry;
    through_tiles_ = joins_positions(cut_) || (!walk_.accumulate && !image_.is_disjoint());
    const int64_t tile_elements = through_tiles_ ? image_.elements() : 0;
    if (joins_positions(cut_)) {
      image_ = cut_;
      image_.images -= decoy_images_;
      walk_.real_images = walk_.geometry.images;
    } else if (through_tiles_) {
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
    run(rows);
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

  /// Positions take turns so that the values between two rounds stay few. Where tiles overlap, one position adds to the
  /// image at a time.
  void plan_turns() {
    const TileGeometry& g = walk_.geometry;
    const Key& key = *walk_.rows.key;
    rows_per_turn_ = key.rounds.size() < 2 ? kUnboundRows : key.group == 0 ? g.rows() : int64_t{key.group};
    const int64_t chunks = row_chunks(g.rows());
    // A slice may have any number of rows, so its last turn may be nearly twice as long as the others.
    most_rows_ =
        key.rounds.size() < 2 ? std::min(g.rows(), 2 * rows_per_turn_ - 1) : g.rows() - (chunks - 1) * rows_per_turn_;
    const int64_t position_bytes = most_rows_ * g.channels * static_cast<int64_t>(sizeof(T));
    const auto positions_within = [&](int64_t bytes) {
      return walk_.accumulate ? 1 : std::clamp<int64_t>(bytes / position_bytes, 1, g.positions());
    };
    const int64_t own_positions = positions_within(kOwnMixedBytes), threads = threads_.threads();
    const int64_t turns = chunks * (walk_.accumulate ? 1 : divide_up(g.positions(), own_positions));
    // With few turns a thread that has one more than the others makes them wait.
    const bool fills_threads = turns % threads == 0 || turns >= 4 * threads;
    each_alone_ = fills_threads && threads * own_positions * position_bytes <= kMostMixedBytes;
    positions_per_turn_ = each_alone_ ? own_positions : positions_within(kSharedMixedBytes);
  }

  /// The number of chunks that `rows` rows are staged in. The last one has what is left over as well.
  [[nodiscard]] int64_t row_chunks(int64_t rows) const { return std::max<int64_t>(rows / rows_per_turn_, 1); }
  /// Turn `number` of those of `rows`, positions fastest.
  [[nodiscard]] Turn turn(const RowRange& rows, int64_t number) const {
    const int64_t per_chunk = divide_up(walk_.geometry.positions(), positions_per_turn_), chunk = number / per_chunk;
    const int64_t first = rows.begin + chunk * rows_per_turn_;
    const int64_t position = number % per_chunk * positions_per_turn_;
    return {{first, chunk + 1 == row_chunks(rows.count()) ? rows.end : first + rows_per_turn_},
            position,
            std::min(positions_per_turn_, walk_.geometry.positions() - position)};
  }

  /// Blinds or un-blinds some rows: all of them, or those of a slice (blind.h).
  void run(const RowRange& rows) {
    if (!is_staged_) {
      walk_.wire = wire_;
      return walk_.run({rows, 0, walk_.geometry.positions()}, work_, threads_);
    }
    rounds_.wire = wire_;
    const int64_t chunks = row_chunks(rows.count());
    const int64_t per_chunk = divide_up(walk_.geometry.positions(), positions_per_turn_);
    if (!walk_.accumulate) return run_turns(chunks * per_chunk, [&](int64_t i) { return turn(rows, i); });
    // Every pixel is summed in the order of the positions.
    for (int64_t p = 0; p < per_chunk; ++p) run_turns(chunks, [&](int64_t i) { return turn(rows, i * per_chunk + p); });
  }
  /// Runs turns `get(0)` to `get(count - 1)`, in any order.
  template <typename GetTurn>
  void run_turns(int64_t count, const GetTurn& get) {
    if (each_alone_) return run_alone(count, get);
    for (int64_t i = 0; i < count; ++i) {
      const Turn turn = get(i);
      if (!gathering()) rounds_.run(turn, walk_.mixed, spare_, threads_);
      walk_.run(turn, work_, threads_);
      if (gathering()) rounds_.run(turn, walk_.mixed, spare_, threads_);
    }
  }
  /// Each turn on one thread.
  template <typename GetTurn>
  void run_alone(int64_t count, const GetTurn& get) {
    Tickets tickets(threads_.threads());
    threads_.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      const Tickets::Held ticket(tickets);
      const auto thread = static_cast<int64_t>(ticket.number());
      TileWalk<T> walk = walk_;
      walk.mixed += thread * walk_.panels.elements();
      T* const work = work_ + thread * walk_.work_elements(1);
      T* const spare = spare_ + thread * rounds_.spare_elements(1);
      for (int64_t i = begin; i < end; ++i) {
        const Turn turn = get(i);
        if (!gathering()) rounds_.run_alone(turn, walk.mixed, spare);
        walk.run_alone(turn, work);
        if (gathering()) rounds_.run_alone(turn, walk.mixed, spare);
      }
    });
  }
  [[nodiscard]] bool gathering() const { return is_gathering(walk_.rows.form); }

  void zero(T* x, int64_t elements) {
    threads_.parallel_for(elements, 1 << 16, [&](int64_t begin, int64_t end) { std::fill(x + begin, x + end, T(0)); });
  }

  void carve(int64_t tile_elements) {
    const bool has_turns = is_staged_ && positions_per_turn_ < walk_.geometry.positions();
    const int threads = threads_.threads();
    const int64_t sets = each_alone_ ? threads : 1;  // of scratch memory
    TileOrigin* origins = nullptr;
    const auto take_all = [&](Carver carver) {
      work_ = carver.take<T>(walk_.work_elements(threads));
      walk_.mixed = carver.take<T>(is_staged_ ? sets * walk_.panels.elements() : 0);
      spare_ = carver.take<T>(!is_staged_   ? 0
                              : each_alone_ ? sets * rounds_.spare_elements(1)
                                            : rounds_.spare_elements(threads));
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
  TileGeometry cut_;  // as it came, not simplified
  int64_t decoy_images_ = 0;
  Owners owners_;
  bool is_staged_ = false;   // values go through scratch memory
  bool each_alone_ = false;  // every thread takes turns of its own
  int64_t rows_per_turn_ = 0, positions_per_turn_ = 0;
  int64_t most_rows_ = 0;  // of one turn
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
  if (takes && (!permutes || how.panels.is_set() || joins_positions(how.geometry))) return false;
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
