/// Activations kept for the backward pass, as they are or in bfloat16 (`--activations`), which takes half the memory
/// and half the bytes to read.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "nn/kernels/narrow.h"

namespace tempo::nn {

/// Keeps a float32 activation, row by row, while a pass goes over it.
class Keeping {
 public:
  /// @param type bfloat16: `keep` stores rounded copies. float32: the activation itself is kept and `keep` does
  /// nothing.
  Keeping(const torch::Tensor& x, torch::ScalarType type)
      : kept_(type == torch::kBFloat16 ? torch::empty_like(x, x.options().dtype(type).requires_grad(false)) : x) {}

  /// Keeps elements [offset, offset + count), which lie at `from`.
  void keep(const float* from, int64_t offset, int64_t count) const {
    if (kept_.scalar_type() != torch::kBFloat16) return;
    kernels::best_narrow_kernels().narrow(from, count, static_cast<uint16_t*>(kept_.data_ptr()) + offset);
  }
  /// The tensor to save for the backward pass.
  [[nodiscard]] const torch::Tensor& tensor() const { return kept_; }

 private:
  torch::Tensor kept_;
};

/// Float32 memory into which a pass computes elements [offset, offset + count) of a tensor to be kept. If the tensor is
/// bfloat16, the destructor rounds them into it. A thread may have one such object at a time. If the tensor is
/// undefined, `data()` is nullptr and nothing is kept.
class KeptPiece {
 public:
  KeptPiece(const torch::Tensor& kept, int64_t offset, int64_t count) {
    if (!kept.defined()) return;
    if (kept.scalar_type() != torch::kBFloat16) {
      data_ = kept.data_ptr<float>() + offset;
      return;
    }
    static thread_local std::vector<float> made;
    if (made.size() < static_cast<size_t>(count)) made.resize(static_cast<size_t>(count));
    data_ = made.data();
    narrowed_ = static_cast<uint16_t*>(kept.data_ptr()) + offset;
    count_ = count;
  }
  ~KeptPiece() {
    if (narrowed_ != nullptr) kernels::best_narrow_kernels().narrow(data_, count_, narrowed_);
  }
  KeptPiece(const KeptPiece&) = delete;
  KeptPiece& operator=(const KeptPiece&) = delete;

  [[nodiscard]] float* data() const { return data_; }

 private:
  float* data_ = nullptr;
  uint16_t* narrowed_ = nullptr;
  int64_t count_ = 0;
};

/// Elements [offset, offset + count) of a kept tensor in float32. A float32 tensor is read in place; a bfloat16 one is
/// widened into memory of the calling thread that is valid until its next call.
inline const float* kept_rows(const torch::Tensor& kept, int64_t offset, int64_t count) {
  if (kept.scalar_type() != torch::kBFloat16) return kept.data_ptr<float>() + offset;
  static thread_local std::vector<float> widened;
  if (widened.size() < static_cast<size_t>(count)) widened.resize(static_cast<size_t>(count));
  kernels::best_narrow_kernels().widen(static_cast<const uint16_t*>(kept.data_ptr()) + offset, count, widened.data());
  return widened.data();
}

}  // namespace tempo::nn
