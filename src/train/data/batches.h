/// Batches of one epoch: which images, in which order, cropped and flipped how. All of it follows from a key.
#pragma once

#include <cstdint>
#include <vector>

#include "base/secret.h"
#include "base/thread_pool.h"
#include "train/data/dataset.h"

namespace tempo::train {

/// Any batch of an epoch can be made at any time and in any order, with the same result: an interrupted run resumes
/// exactly. Nothing depends on threads or on earlier calls. Borrows the data set. Thread-safe.
class Batches {
 public:
  /// Training: every image once, in an order drawn from (root, epoch). With `augment`, each image is cropped at random
  /// out of itself with 4 pixels of black around it, then mirrored with probability 1/2, as drawn from
  /// (root, epoch, position in the epoch); so a batch size changed at a resume changes no image.
  /// @param first_position of the epoch, below the number of images: those before it have been seen, and are left out.
  /// @throws InputError if the data set is empty or not consistent, or `batch_size` < 1.
  Batches(const Dataset& dataset, const SecretKey& root, uint64_t epoch, int64_t batch_size, bool augment,
          int64_t first_position = 0);
  /// Evaluation: in the data set's own order, unchanged.
  Batches(const Dataset& dataset, int64_t batch_size);

  /// Batches of the epoch, from its first position on. The last may be short.
  [[nodiscard]] int64_t count() const;
  /// Images of one batch. @throws InputError if `batch_index` is not in 0..count()-1.
  [[nodiscard]] int64_t rows(int64_t batch_index) const;
  /// Index in the data set of the image at a position of the epoch, 0..dataset.size()-1.
  [[nodiscard]] int64_t image_at(int64_t position) const;

  /// Writes one batch.
  /// @param images [rows, height, width, channels] float32, channels last, normalised with the data set's constants.
  /// @param labels [rows].
  /// @param pool   shares the work, if not null.
  void fill(int64_t batch_index, float* images, int64_t* labels, ThreadPool* pool = nullptr) const;

 private:
  struct View {
    uint32_t image = 0;
    int64_t top = 0, left = 0;  // of the crop, relative to the image; -4..4
    bool mirrored = false;
  };

  [[nodiscard]] View view_at(int64_t position) const;
  void write_image(const View& view, float* out) const noexcept;

  const Dataset& dataset_;
  SecretKey root_;
  uint64_t epoch_ = 0;
  int64_t first_position_ = 0;
  int64_t batch_size_;
  bool augment_ = false;
  std::vector<uint32_t> order_;
  std::vector<float> normalised_;  // [channels, 256]: what each byte becomes
};

}  // namespace tempo::train
