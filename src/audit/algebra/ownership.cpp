#include "audit/algebra/ownership.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tempo::audit {
namespace {

// Single precision: only the order of cosines counts here.
using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Strided = Eigen::Map<const Floats, 0, Eigen::OuterStride<>>;

constexpr int kDimensions = 48;
constexpr int64_t kFeatures = 2048;

/// One random map [channels, dimensions] for each position. Summed over positions they keep cosines between rows nearly
/// (Johnson and Lindenstrauss, 1984).
std::vector<Floats> random_maps(size_t positions, int64_t channels, int dimensions, Random& random) {
  std::vector<Floats> maps;
  for (size_t i = 0; i < positions; ++i) maps.push_back(random_gaussian(channels, dimensions, random).cast<float>());
  return maps;
}

Floats project(const Operand& operand, const std::vector<int64_t>& positions, const std::vector<Floats>& maps) {
  Floats out = Floats::Zero(operand.rows, maps.front().cols());
  for (size_t i = 0; i < positions.size(); ++i)
    out.noalias() += Strided(operand.values.data() + positions[i] * operand.channels, operand.rows, operand.channels,
                             Eigen::OuterStride<>(operand.positions() * operand.channels)) *
                     maps[i];
  return out;
}

Operand take_rows(const Operand& operand, const std::vector<int64_t>& rows) {
  if (static_cast<int64_t>(rows.size()) == operand.rows) return operand;
  Operand out(static_cast<int64_t>(rows.size()), operand.height, operand.width, operand.channels);
  const auto size = static_cast<std::ptrdiff_t>(operand.positions() * operand.channels);
  for (size_t i = 0; i < rows.size(); ++i)
    std::copy_n(operand.values.begin() + rows[i] * size, size,
                out.values.begin() + static_cast<std::ptrdiff_t>(i) * size);
  return out;
}

std::vector<int64_t> all_of(int64_t size) { return spread(size, size); }

/// Rows to unit length; rows of nothing stay zero.
void normalise_rows(Floats& m) {
  for (Eigen::Index i = 0; i < m.rows(); ++i) {
    const float norm = m.row(i).norm();
    if (norm > 0 && std::isfinite(norm))
      m.row(i) /= norm;
    else
      m.row(i).setZero();
  }
}

}  // namespace

std::vector<int64_t> spread(int64_t size, int64_t limit) {
  const int64_t count = std::max<int64_t>(0, std::min(size, limit));
  std::vector<int64_t> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) out[static_cast<size_t>(i)] = i * size / count;
  return out;
}

Matrix sample_channels(const Operand& operand, int64_t limit, bool skip_zeros) {
  const int64_t total = operand.rows * operand.positions(), channels = operand.channels;
  std::vector<int64_t> kept;
  // A stride with a factor in common with the positions would see only some of them.
  int64_t stride = std::max<int64_t>(1, (total + limit - 1) / std::max<int64_t>(1, limit));
  while (stride > 1 && std::gcd(stride, operand.positions()) != 1) ++stride;
  for (int64_t i = 0; i < total; i += stride) {
    const float* begin = operand.values.data() + i * channels;
    if (!skip_zeros || std::any_of(begin, begin + channels, [](float v) { return v != 0; })) kept.push_back(i);
  }
  Matrix out(static_cast<Eigen::Index>(kept.size()), channels);
  for (size_t i = 0; i < kept.size(); ++i)
    for (int64_t c = 0; c < channels; ++c)
      out(static_cast<Eigen::Index>(i), c) = operand.values[static_cast<size_t>(kept[i] * channels + c)];
  return out;
}

Ownership owners_of_rows(const Operand& blinded, const Matrix& undo, const Operand& plain, int64_t limit,
                         const std::vector<int64_t>& positions, Random& random) {
  Ownership result;
  const bool comparable = blinded.height == plain.height && blinded.width == plain.width &&
                          blinded.channels == plain.channels && (undo.size() == 0 || undo.rows() == plain.channels);
  if (blinded.empty() || plain.empty() || !comparable) return result;
  std::vector<int64_t> compared = positions.empty() ? all_of(plain.positions()) : positions;
  const auto most = std::max<int64_t>(1, kFeatures / plain.channels);
  std::vector<int64_t> thinned;
  for (const int64_t i : spread(static_cast<int64_t>(compared.size()), most))
    thinned.push_back(compared[static_cast<size_t>(i)]);

  std::vector<Floats> maps = random_maps(thinned.size(), plain.channels, kDimensions, random);
  Floats plain_rows = project(plain, thinned, maps);
  // Undoing the key in the map costs less than undoing it in the data.
  if (undo.size() != 0)
    for (Floats& map : maps) map = (undo * map.cast<double>()).cast<float>();
  const std::vector<int64_t> looked_at = spread(blinded.rows, limit);
  Floats blinded_rows = project(take_rows(blinded, looked_at), thinned, maps);
  normalise_rows(plain_rows);
  normalise_rows(blinded_rows);

  constexpr Eigen::Index kBlock = 128;
  for (Eigen::Index begin = 0; begin < blinded_rows.rows(); begin += kBlock) {
    const Eigen::Index count = std::min(kBlock, blinded_rows.rows() - begin);
    const Floats cosines = (blinded_rows.middleRows(begin, count) * plain_rows.transpose()).cwiseAbs();
    for (Eigen::Index i = 0; i < count; ++i) {
      Eigen::Index owner = 0;
      if (!(cosines.row(i).maxCoeff(&owner) > 0)) continue;
      result.blinded.push_back(looked_at[static_cast<size_t>(begin + i)]);
      result.owner.push_back(owner);
    }
  }
  return result;
}

std::vector<int> largest_columns(const Matrix& key) {
  std::vector<int> columns;
  for (Eigen::Index i = 0; i < key.rows(); ++i) {
    Eigen::Index column = 0;
    key.row(i).cwiseAbs().maxCoeff(&column);
    columns.push_back(static_cast<int>(column));
  }
  return columns;
}

std::vector<int> assign_ties_at_random(const Matrix& gain, Random& random) {
  std::vector<int> order(static_cast<size_t>(gain.cols()));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  Matrix shuffled(gain.rows(), gain.cols());
  for (Eigen::Index j = 0; j < gain.cols(); ++j) shuffled.col(j) = gain.col(order[static_cast<size_t>(j)]);
  std::vector<int> columns = assign(shuffled);
  for (int& column : columns)
    if (column >= 0) column = order[static_cast<size_t>(column)];
  return columns;
}

std::vector<bool> live_channels(const Operand& x) {
  std::vector<bool> live(static_cast<size_t>(x.channels), false);
  for (size_t i = 0; i < x.values.size(); ++i)
    if (x.values[i] != 0) live[i % live.size()] = true;
  return live;
}

std::vector<int> only_live(const std::vector<int>& columns, const std::vector<bool>& live) {
  std::vector<int> kept;
  for (size_t c = 0; c < columns.size(); ++c)
    if (live[c]) kept.push_back(columns[c]);
  return kept;
}

double share_linked(const std::vector<int>& guess, const std::vector<int>& from, const std::vector<int>& to) {
  if (from.empty() || from.size() != to.size()) return 0;
  int right = 0;
  for (size_t e = 0; e < from.size(); ++e)
    if (static_cast<size_t>(from[e]) < guess.size() && guess[static_cast<size_t>(from[e])] == to[e]) ++right;
  return static_cast<double>(right) / static_cast<double>(from.size());
}

Chance linking_chance(const std::vector<int>& from, const std::vector<int>& to, int64_t size, Random& random) {
  std::vector<int> guess(static_cast<size_t>(size));
  std::iota(guess.begin(), guess.end(), 0);
  Chance chance = measure_chance(300, [&] {
    std::shuffle(guess.begin(), guess.end(), random);
    return share_linked(guess, from, to);
  });
  chance.mean = 1.0 / static_cast<double>(size);  // exact: every element is placed right with this probability
  return chance;
}

}  // namespace tempo::audit
