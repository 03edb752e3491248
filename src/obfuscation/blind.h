/// Blinds operands for workers, and un-blinds their results. Blinding is the copy out of the TEE, un-blinding the copy
/// in; both happen here and nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "obfuscation/plain_tensor.h"
#include "obfuscation/taps.h"

namespace tempo::obfuscation {

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

/// Cuts all rows into at most `count` adjacent ranges of about equal length, so that some rows can be on their way to
/// or from a worker while others are blinded or un-blinded. Returns one range of all rows if `rows` has more than one
/// round. Blocks of panels stay whole.
std::vector<RowRange> slice_rows(const Key& rows, const contract::PanelLayout& panels, int64_t count);

/// What is blinded.
struct PlainOperand {
  ConstPlainTensor x;            ///< [images, height, width, channels] of the geometry, without decoys; contiguous
  const void* decoys = nullptr;  ///< pixels of the decoys, of x's type
};

class BlindingPass;  // blind.cpp

/// Blinds one tensor, all of it or some rows at a time. A thread may have one Blinder or Unblinder at a time: they use
/// its scratch memory.
class Blinder {
 public:
  /// @param out Receives [rows, tile_h, tile_w, channels], in panels if `how` says so. The worker may see this memory:
  /// only finished values are ever written to it. It must be aligned to its elements; 64-byte alignment is fastest.
  /// @throws InputError if a size, form, type or alignment does not fit, or a tap is not supported; RunError if there
  /// is no memory for scratch.
  Blinder(const Blinding& how, const PlainOperand& operand, std::byte* out, ThreadPool& threads, const Taps& taps = {});
  ~Blinder();
  Blinder(const Blinder&) = delete;
  Blinder& operator=(const Blinder&) = delete;

  /// Blinds the next rows, a range of `slice_rows`. @throws InputError for other rows.
  void rows(const RowRange& some);
  /// Hands out what was taken. Call once all rows are blinded.
  void finish();

 private:
  Blinding how_;
  int64_t next_ = 0;                    // row
  std::unique_ptr<BlindingPass> pass_;  // nullptr if there are no elements
};

/// Un-blinds one result, all of it or some rows at a time, as Blinder does.
class Unblinder {
 public:
  /// @throws as Blinder
  Unblinder(const Blinding& how, PlainTensor x, ThreadPool& threads, const Taps& taps = {});
  ~Unblinder();
  Unblinder(const Unblinder&) = delete;
  Unblinder& operator=(const Unblinder&) = delete;

  /// Takes the next rows, a range of `slice_rows`, which lie at `in`. @throws InputError for other rows.
  void rows(const RowRange& some, const std::byte* in);
  /// Finishes x and hands out what was taken. Call once all rows are there.
  void finish();

 private:
  Blinding how_;
  int64_t next_ = 0;                    // row
  std::unique_ptr<BlindingPass> pass_;  // nullptr if there are no elements
};

/// Blinds a batch so that a worker can multiply but not read it:  out = L x M, for each tile position. Both forms of
/// `how` must be gathering ones.
/// An adversary learns the shape, the rank, and (with orthogonal keys) all singular values from one call. What else it
/// can learn is for the audit to measure.
/// Thread-safe. Cost: one read of x, one write of out, and one more pass over scratch memory for each further row
/// round. @throws as Blinder
void blind(const Blinding& how, const PlainOperand& operand, std::byte* out, ThreadPool& threads,
           const Taps& taps = {});

/// Un-blinds a result:  x = L^-1 in M^-1 (or the transposes). Both forms must be scattering ones. Every pixel of x is
/// written: overlapping tiles are summed (the gradient of the halo), pixels that no tile covers become zero, padding is
/// dropped. Thread-safe. @throws as Blinder
void unblind(const Blinding& how, const std::byte* in, PlainTensor x, ThreadPool& threads, const Taps& taps = {});

/// x += addend over `elements` elements, for addends that could not be added while un-blinding.
void add(PlainTensor x, const void* addend, int64_t elements, ThreadPool& threads);

}  // namespace tempo::obfuscation
