#include "train/data/batches.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/csprng.h"
#include "tempo/error.h"

namespace tempo::train {
namespace {

constexpr int64_t kPadding = 4;

void check(const Dataset& data, int64_t batch_size) {
  if (batch_size < 1) throw InputError(fmt::format("batches: batch size {}, expected at least 1", batch_size));
  if (data.size() == 0) throw InputError(fmt::format("batches: data set {} is empty, expected images", data.name));
  if (data.size() > std::numeric_limits<uint32_t>::max())
    throw InputError(
        fmt::format("batches: data set {} has {} images, expected fewer than 2^32", data.name, data.size()));
  if (data.channels < 1 || data.channels > 3 || data.height < 1 || data.width < 1)
    throw InputError(fmt::format("batches: data set {} has images of {}x{}x{}, expected 1 to 3 channels", data.name,
                                 data.channels, data.height, data.width));
  if (data.images.size() != data.labels.size() * static_cast<size_t>(data.image_values()))
    throw InputError(fmt::format("batches: data set {} has {} bytes of images, expected {} images of {}", data.name,
                                 data.images.size(), data.size(), data.image_values()));
}

/// [channels, 256]
std::vector<float> normalisation_table(const Dataset& data) {
  std::vector<float> table;
  for (size_t channel = 0; channel < static_cast<size_t>(data.channels); ++channel) {
    if (!(data.stddev[channel] > 0))
      throw InputError(fmt::format("batches: data set {} has deviation {} in channel {}, expected a positive number",
                                   data.name, data.stddev[channel], channel));
    for (int value = 0; value < 256; ++value)
      table.push_back((static_cast<float>(value) / 255.0F - data.mean[channel]) / data.stddev[channel]);
  }
  return table;
}

}  // namespace

Batches::Batches(const Dataset& dataset, int64_t batch_size) : dataset_(dataset), batch_size_(batch_size) {
  check(dataset, batch_size);
  normalised_ = normalisation_table(dataset);
}

Batches::Batches(const Dataset& dataset, const SecretKey& root, uint64_t epoch, int64_t batch_size, bool augment,
                 int64_t first_position)
    : Batches(dataset, batch_size) {
  if (first_position < 0 || first_position >= dataset.size())
    throw InputError(fmt::format("batches: first position {}, expected 0 to {}", first_position, dataset.size() - 1));
  first_position_ = first_position;
  root_ = root.duplicate();
  epoch_ = epoch;
  augment_ = augment;
  order_ = Csprng(derive_key(root, "shuffle", {epoch})).permutation(static_cast<uint32_t>(dataset.size()));
}

// Written so that a huge batch size, which means one batch, does not overflow.
int64_t Batches::count() const { return (dataset_.size() - first_position_ - 1) / batch_size_ + 1; }

int64_t Batches::rows(int64_t batch_index) const {
  if (batch_index < 0 || batch_index >= count())
    throw InputError(fmt::format("batches: batch {}, expected 0 to {}", batch_index, count() - 1));
  return std::min(batch_size_, dataset_.size() - first_position_ - batch_index * batch_size_);
}

int64_t Batches::image_at(int64_t position) const {
  if (position < 0 || position >= dataset_.size())
    throw InputError(fmt::format("batches: position {}, expected 0 to {}", position, dataset_.size() - 1));
  return order_.empty() ? position : order_[static_cast<size_t>(position)];
}

Batches::View Batches::view_at(int64_t position) const {
  View view{.image = static_cast<uint32_t>(image_at(position))};
  if (!augment_) return view;
  Csprng random(derive_key(root_, "augment", {epoch_, static_cast<uint64_t>(position)}));
  view.top = static_cast<int64_t>(random.below(2 * kPadding + 1)) - kPadding;
  view.left = static_cast<int64_t>(random.below(2 * kPadding + 1)) - kPadding;
  view.mirrored = random.coin();
  return view;
}

void Batches::write_image(const View& view, float* out) const noexcept {
  const int64_t height = dataset_.height, width = dataset_.width, channels = dataset_.channels;
  const uint8_t* image = dataset_.images.data() + static_cast<int64_t>(view.image) * dataset_.image_values();
  for (int64_t y = 0; y < height; ++y) {
    const int64_t from_y = y + view.top;
    const bool row_inside = from_y >= 0 && from_y < height;
    for (int64_t x = 0; x < width; ++x) {
      const int64_t from_x = (view.mirrored ? width - 1 - x : x) + view.left;
      const bool inside = row_inside && from_x >= 0 && from_x < width;
      for (int64_t channel = 0; channel < channels; ++channel) {
        const uint8_t value = inside ? image[(channel * height + from_y) * width + from_x] : uint8_t{0};
        *out++ = normalised_[static_cast<size_t>(channel * 256 + value)];
      }
    }
  }
}

void Batches::fill(int64_t batch_index, float* images, int64_t* labels, ThreadPool* pool) const {
  const int64_t count = rows(batch_index);
  const int64_t first = first_position_ + batch_index * batch_size_;
  // Drawn here because deriving a key may throw, which the body of parallel_for must not.
  std::vector<View> views;
  views.reserve(static_cast<size_t>(count));
  for (int64_t row = 0; row < count; ++row) {
    views.push_back(view_at(first + row));
    labels[row] = dataset_.labels[views.back().image];
  }
  const auto write_rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      write_image(views[static_cast<size_t>(row)], images + row * dataset_.image_values());
  };
  if (pool != nullptr)
    pool->parallel_for(count, 8, write_rows);
  else
    write_rows(0, count);
}

}  // namespace tempo::train
