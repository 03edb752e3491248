/// Activations that wait for the backward pass, as they are or in bfloat16 (`--activations`): half the memory, and half
/// the bytes that the backward pass reads of them.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "nn/kernels/narrow.h"

namespace tempo::nn {

/// Where rows of a float32 activation are kept while a pass goes over it.
class Keeping {
 public:
  /// @param type float32: the activation itself is kept, and the pass keeps nothing.
  Keeping(const torch::Tensor& x, torch::ScalarType type)
      : kept_(type == torch::kBFloat16 ? torch::empty_like(x, x.options().dtype(type).requires_grad(false)) : x) {}

  /// Of elements [offset, offset + count), which lie at `from`.
  void keep(const float* from, int64_t offset, int64_t count) const {
    if (kept_.scalar_type() != torch::kBFloat16) return;
    kernels::best_narrow_kernels().narrow(from, count, static_cast<uint16_t*>(kept_.data_ptr()) + offset);
  }
  /// What to save for the backward pass.
  [[nodiscard]] const torch::Tensor& tensor() const { return kept_; }

 private:
  torch::Tensor kept_;
};

/// Elements [offset, offset + count) of what is to be kept, where a pass makes them: float32 memory, narrowed at the
/// end where the tensor is. Of a tensor that is not defined: nothing is made.
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

/// Elements [offset, offset + count) of what was kept, in float32: where they lie, or widened into memory of the
/// calling thread, until it asks again.
inline const float* kept_rows(const torch::Tensor& kept, int64_t offset, int64_t count) {
  if (kept.scalar_type() != torch::kBFloat16) return kept.data_ptr<float>() + offset;
  static thread_local std::vector<float> widened;
  if (widened.size() < static_cast<size_t>(count)) widened.resize(static_cast<size_t>(count));
  kernels::best_narrow_kernels().widen(static_cast<const uint16_t*>(kept.data_ptr()) + offset, count, widened.data());
  return widened.data();
}

}  // namespace tempo::nn
