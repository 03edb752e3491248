/// Blinds operands for workers, and un-blinds their results. Blinding is the copy out of the TEE, un-blinding the copy
/// in; both happen here and nowhere else.
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

/// An instruction set that the kernels are built for. `supported_isas()` lists those that this machine supports, best
/// first and the reference (plain loops) last. The best one is used by default.
struct Isa {
  int64_t target;  ///< a Highway target bit, or 0 for the reference
  const char* name;
};
std::span<const Isa> supported_isas();
/// Forces an instruction set for the calling thread until the object is destroyed. For tests and benchmarks.
class ScopedIsa {
 public:
  explicit ScopedIsa(Isa isa);
  ~ScopedIsa();
  ScopedIsa(const ScopedIsa&) = delete;
  ScopedIsa& operator=(const ScopedIsa&) = delete;

 private:
  int64_t previous_;
};

/// Decoys: the last images of a geometry, if they are not part of the tensor. They are read from their own memory and
/// never written back.
template <typename T>
struct DecoyImages {
  int64_t images = 0;
  const T* pixels = nullptr;  ///< [images, height, width, channels]
};

/// Inner products of each pixel's channels with a few vectors, and each pixel's sum of squares. They are computed while
/// a tensor is blinded or un-blinded, so that verification needs no pass of its own.
template <typename T>
struct PixelProducts {
  static constexpr int64_t kMost = 2;
  int64_t count = 0;           ///< number of vectors, at most kMost; 0: nothing is computed
  const T* vectors = nullptr;  ///< [count, channels]
  /// Receives [count + 1, pixels of x]; the last plane has the sums of squares. Pixels that no tile covers are not
  /// written.
  T* planes = nullptr;
  /// Allowed with one vector, while blinding: column_sums[c] = sum over pixels of weights[pixel] * x[pixel, c]. Or
  /// nullptr.
  const T* weights = nullptr;
  double* column_sums = nullptr;  ///< [channels]
};
/// Sums of (x - shift) and of its square over all pixels, computed while a tensor is un-blinded.
template <typename T>
struct PixelMoments {
  const T* shift = nullptr;  ///< [channels]
  double* sums = nullptr;    ///< [channels]; or nullptr: nothing is computed
  double* squares = nullptr;
};
/// Whether PixelProducts can be computed under these keys: neither may mix, the row key has at most one round, and the
/// channel key exactly one.
bool takes_products(const Key& rows, const Key& channels);
/// Whether PixelMoments can be computed: as for products, and no two tiles may share a pixel.
bool takes_moments(const TileGeometry& geometry, const Key& rows, const Key& channels);
/// Whether an addend can be added while un-blinding: as for products, and every pixel must be a row.
bool takes_addend(const TileGeometry& geometry, const Key& rows, const Key& channels);

/// Cuts all rows into at most `count` adjacent ranges of about equal length, so that some rows can be on their way to
/// or from a worker while others are blinded or un-blinded. Returns one range of all rows if `rows` has more than one
/// round.
std::vector<RowRange> slice_rows(const Key& rows, int64_t count);
/// The slices of an operand that is blinded, as `slice_rows` returns them and in that order. Empty: not sliced.
struct BlindSlices {
  std::vector<RowRange> rows;
  std::function<void(const RowRange&)> done;  ///< called when these rows are finished
};
struct UnblindSlices {
  std::vector<RowRange> rows;
  std::function<const std::byte*(const RowRange&)> arrive;  ///< waits for these rows, and returns where they lie
};

/// What can be done in the same pass as blinding.
template <typename T>
struct WhileBlinding {
  DecoyImages<T> decoys = {};  ///< take the place of the last images of the geometry
  /// Computed of x (or of what `map` computes), not of decoys. Only if `takes_products`.
  PixelProducts<T> products = {};
  BlindSlices slices = {};
  PixelMap map = {};  ///< computes what is blinded, for real images only
};
/// What can be done in the same pass as un-blinding. Products and moments are of the un-blinded x; the addend is added
/// after them.
template <typename T>
struct WhileUnblinding {
  int64_t decoy_images = 0;        ///< this many images at the end of the geometry are dropped: they are not part of x
  PixelProducts<T> products = {};  ///< only if `takes_products`
  PixelMoments<T> moments = {};    ///< only if `takes_moments`, and without an addend
  const T* addend = nullptr;       ///< has the shape of x; only if `takes_addend`; or nullptr
  UnblindSlices slices = {};       ///< if not empty, rows are read from these and `in` is ignored
};

/// Blinds a batch so that a worker can multiply but not read it:  out = L x M, for each tile position.
/// @param x        [images, height, width, channels] of `geometry`, without decoys; contiguous, element type `T`.
/// @param rows     acts on the rows of the cut (size geometry.rows()). Must be a gathering form.
/// @param channels acts on the channels of each position (size geometry.channels). Must be a gathering form.
/// @param out      Receives [rows, tile_h, tile_w, channels] in `wire`: the element type of x, or bfloat16 if x is
/// float32. The worker may see this memory: only finished values are ever written to it. It must be aligned to its
/// elements; 64-byte alignment is fastest.
/// An adversary learns the shape, the rank, and (with orthogonal keys) all singular values from one call. What else it
/// can learn is for the audit to measure.
/// Thread-safe. Cost: one read of x, one write of out, and one more pass over scratch memory for each further row
/// round.
/// @throws InputError if a size, form, type or alignment does not fit; RunError if there is no memory for scratch.
template <typename T>
void blind(const T* x, const TileGeometry& geometry, KeyUse rows, KeyUse channels, ElementType wire, std::byte* out,
           ThreadPool& threads, const WhileBlinding<T>& also = {});

/// Un-blinds a result:  x = L^-1 in M^-1 (or the transposes). Forms must be scattering. Every pixel of x is written:
/// overlapping tiles are summed (the gradient of the halo), pixels that no tile covers become zero, padding is dropped.
/// Thread-safe. @throws as blind.
template <typename T>
void unblind(const std::byte* in, ElementType wire, const TileGeometry& geometry, KeyUse rows, KeyUse channels, T* x,
             ThreadPool& threads, const WhileUnblinding<T>& also = {});

/// x += addend, for addends that could not be added while un-blinding.
template <typename T>
void add(T* x, const T* addend, int64_t elements, ThreadPool& threads);

}  // namespace tempo::obfuscation
