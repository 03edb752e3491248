#include "audit/dense_key.h"

#include <algorithm>

#include "base/thread_pool.h"
#include "obfuscation/blind.h"

namespace tempo::audit {
namespace {

/// Row i of the result: what the key makes of the unit vector of `units[i]`.
Matrix images_of_units(const obfuscation::Key& key, obfuscation::Form form, const std::vector<int64_t>& units) {
  const auto count = static_cast<int64_t>(units.size()), size = static_cast<int64_t>(key.size);
  std::vector<float> in(static_cast<size_t>(count * size)), out(in.size());
  for (int64_t i = 0; i < count; ++i) in[static_cast<size_t>(units[static_cast<size_t>(i)] * count + i)] = 1;
  ThreadPool threads(1);
  const obfuscation::Key identity{.size = static_cast<uint32_t>(count), .rounds = {}};
  // Over rows, which every key may be of.
  obfuscation::blind({.geometry = obfuscation::matrix_geometry(size, count),
                      .rows = {&key, form},
                      .channels = {&identity, obfuscation::Form::kDirect}},
                     {{obfuscation::ElementType::kFloat32, in.data()}}, reinterpret_cast<std::byte*>(out.data()),
                     threads);
  return Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(out.data(), size, count)
      .transpose()
      .cast<double>();
}

}  // namespace

Matrix dense_key(const obfuscation::Key& key, obfuscation::Form form) {
  std::vector<int64_t> all(key.size);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  return images_of_units(key, form, all);
}

double effective_rows_mixed(const obfuscation::Key& left) {
  constexpr int64_t kColumns = 64;
  const int64_t size = left.size, count = std::min(size, kColumns);
  std::vector<int64_t> some;
  for (int64_t i = 0; i < count; ++i) some.push_back(i * size / count);
  const Matrix columns = images_of_units(left, obfuscation::Form::kDirect, some);
  double sum = 0;
  for (Eigen::Index i = 0; i < columns.rows(); ++i) {
    const auto squares = columns.row(i).array().square();
    sum += squares.square().sum() / (squares.sum() * squares.sum());
  }
  return static_cast<double>(count) / sum;
}

}  // namespace tempo::audit
