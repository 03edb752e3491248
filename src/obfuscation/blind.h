/// Blinding is the copy out of the TEE; un-blinding is the copy in. Both go through here and nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "obfuscation/key.h"
#include "obfuscation/pixel_map.h"
#include "obfuscation/tile_geometry.h"
#include "tempo/worker.h"

namespace tempo::obfuscation {

using offload::ElementType;

/// Instruction sets the kernels are built for. `supported_isas()` lists those this machine runs, best first; the
/// reference (plain loops) is always last. The default is the best.
struct Isa {
  int64_t target;  ///< a Highway target bit, or 0 for the reference
  const char* name;
};
std::span<const Isa> supported_isas();
/// Forces an instruction set for the calling thread until the object dies; for tests and benchmarks.
class ScopedIsa {
 public:
  explicit ScopedIsa(Isa isa);
  ~ScopedIsa();
  ScopedIsa(const ScopedIsa&) = delete;
  ScopedIsa& operator=(const ScopedIsa&) = delete;

 private:
  int64_t previous_;
};

/// The last images of a geometry, where they are not part of the tensor: read from memory of their own, and never
/// written back.
template <typename T>
struct DecoyImages {
  int64_t images = 0;
  const T* pixels = nullptr;  ///< [images, height, width, channels]
};

/// Inner products of each pixel's channels with a few vectors, and sums of their squares, taken while a tensor is
/// blinded or un-blinded: what verification needs to know of it, without a pass of its own.
template <typename T>
struct PixelProducts {
  static constexpr int64_t kMost = 2;
  int64_t count = 0;           ///< of vectors; 0: nothing is taken
  const T* vectors = nullptr;  ///< [count, channels]
  /// [count + 1, pixels of x]; squares are the last. Pixels that no tile covers are left as they are.
  T* planes = nullptr;
  /// With one vector, while blinding: column_sums[c] = sum over pixels of weights[pixel] * x[pixel, c]. Or nullptr.
  const T* weights = nullptr;
  double* column_sums = nullptr;  ///< [channels]
};
/// Sums over all pixels of what lies above a shift, and of its squares, taken while a tensor is un-blinded.
template <typename T>
struct PixelMoments {
  const T* shift = nullptr;  ///< [channels]
  double* sums = nullptr;    ///< [channels]; or nullptr: nothing is taken
  double* squares = nullptr;
};
/// Whether products can be taken of it: nothing is mixed.
bool takes_products(const Key& rows, const Key& channels);
/// Whether moments can be taken of it: the same, and no two tiles share a pixel.
bool takes_moments(const TileGeometry& geometry, const Key& rows, const Key& channels);
/// Whether something can be added to it on the way: the same, and every pixel is a row.
bool takes_addend(const TileGeometry& geometry, const Key& rows, const Key& channels);

/// Neighbouring ranges of all rows, about as long each, `count` at most: so that some can be on their way to a worker
/// or back while others are blinded or un-blinded. One of all rows where `key` mixes further than that.
std::vector<RowRange> slice_rows(const Key& rows, int64_t count);
/// What was sliced, in order, as `slice_rows` has it; empty: it is not.
struct BlindSlices {
  std::vector<RowRange> rows;
  std::function<void(const RowRange&)> done;  ///< these rows are finished
};
struct UnblindSlices {
  std::vector<RowRange> rows;
  std::function<const std::byte*(const RowRange&)> arrive;  ///< waits for these rows, and says where they lie
};

/// What may be done in the same pass as blinding.
template <typename T>
struct WhileBlinding {
  DecoyImages<T> decoys = {};      ///< stand for the last images of the geometry
  PixelProducts<T> products = {};  ///< of x (or of what `map` makes), not of decoys; only where `takes_products`
  BlindSlices slices = {};
  PixelMap map = {};  ///< makes what is blinded: of real images, not of decoys
};
/// And as un-blinding. Products and moments are of x as it was un-blinded; the addend is added after them.
template <typename T>
struct WhileUnblinding {
  int64_t decoy_images = 0;        ///< of the geometry, its last, which are dropped: x has none
  PixelProducts<T> products = {};  ///< only where `takes_products`
  PixelMoments<T> moments = {};    ///< only where `takes_moments`, and without an addend
  const T* addend = nullptr;       ///< of the shape of x; only where `takes_addend`. Or nullptr
  UnblindSlices slices = {};       ///< where rows lie and when; `in` is not used then
};

/// Blinds a batch so that a worker can multiply but not read it:  out = L x M, per tile position.
/// @param x        [images, height, width, channels] of `geometry`, less decoys; contiguous, element type `T`.
/// @param rows     acts on the rows of the cut (size geometry.rows()); must be a gathering form.
/// @param channels acts on each run of channels (size geometry.channels); must be a gathering form.
/// @param out      receives [rows, tile_h, tile_w, channels] in `wire`: the element type of x, or bfloat16 where x is
///                 float32. May be memory that the worker sees: only finished values are ever written to it.
///                 Aligned to its elements at least; 64-byte aligned is fastest.
/// An adversary learns the shape, the rank, and (orthogonal keys) all singular values from one call; what else it can
/// learn is for the audit to measure.
/// Thread-safe. Cost: one read of x, one write of out, and one more pass over scratch memory per further row round.
/// @throws InputError if a size, a form, a type or an alignment does not fit; RunError if scratch memory runs out.
template <typename T>
void blind(const T* x, const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, std::byte* out,
           ThreadPool& threads, const WhileBlinding<T>& also = {});

/// The way back:  x = L^-1 in M^-1 (or the transposes). Forms must be scattering. Every pixel of x is written: tiles
/// that overlap are summed (the gradient of the halo), pixels no tile covers become zero, padding is dropped.
template <typename T>
void unblind(const std::byte* in, ElementType wire, const TileGeometry& geometry, KeyUse rows, KeyUse channels, T* x,
             ThreadPool& threads, const WhileUnblinding<T>& also = {});

/// x += addend, for what could not be added on the way.
template <typename T>
void add(T* x, const T* addend, int64_t elements, ThreadPool& threads);

}  // namespace tempo::obfuscation
