#include "audit/theft/tile_overlap.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <unordered_map>

namespace tempo::audit {
namespace {

/// An overlap with fewer non-zero values than this fits too many others.
constexpr int64_t kFewestValues = 12;

/// How far two roundings of one direction lie apart at most, as vectors of unit length.
struct Tolerance {
  double same;       ///< below it two directions are taken for one
  double different;  ///< a second candidate below it makes the match ambiguous
};
constexpr Tolerance kFloat32{1e-5, 1e-4}, kBFloat16{4e-3, 1.2e-2};

bool is_bfloat16(const Operand& x) {
  return std::all_of(x.values.begin(), x.values.end(),
                     [](float v) { return (std::bit_cast<uint32_t>(v) & 0xffff) == 0; });
}

/// The part of every row that it shares with a neighbour, at unit length.
struct Overlaps {
  int64_t features = 0;
  std::vector<float> directions;   ///< [rows, features]
  std::vector<double> norms;       ///< of the shared part
  std::vector<float> projections;  ///< of the directions on one random vector
  std::vector<uint64_t> patterns;  ///< which values are zero, hashed
  std::vector<bool> usable;

  [[nodiscard]] std::span<const float> direction(int64_t row) const {
    return {directions.data() + row * features, static_cast<size_t>(features)};
  }
};

/// @param begin_y, begin_x  where the shared part begins in a tile; it ends `height`, `width` pixels later.
Overlaps cut_overlaps(const Operand& x, int64_t begin_y, int64_t begin_x, int64_t height, int64_t width,
                      const Vector& probe) {
  Overlaps out;
  out.features = height * width * x.channels;
  const auto rows = static_cast<size_t>(x.rows);
  out.directions.resize(rows * static_cast<size_t>(out.features));
  out.norms.resize(rows);
  out.projections.resize(rows);
  out.patterns.resize(rows);
  out.usable.resize(rows);
  for (int64_t r = 0; r < x.rows; ++r) {
    float* direction = out.directions.data() + r * out.features;
    double energy = 0, projection = 0;
    int64_t non_zero = 0, i = 0;
    uint64_t pattern = 0xcbf29ce484222325;  // FNV-1a, a bit at a time
    for (int64_t y = begin_y; y < begin_y + height; ++y)
      for (int64_t p = y * x.width + begin_x; p < y * x.width + begin_x + width; ++p)
        for (int64_t c = 0; c < x.channels; ++c, ++i) {
          const float v = x.at(r, p, c);
          direction[i] = v;
          energy += static_cast<double>(v) * v;
          projection += v * probe(i);
          non_zero += v != 0 ? 1 : 0;
          pattern = (pattern ^ (v != 0 ? 1U : 0U)) * 0x100000001b3;
        }
    const auto row = static_cast<size_t>(r);
    out.norms[row] = std::sqrt(energy);
    out.usable[row] = non_zero >= kFewestValues && std::isfinite(energy);
    out.patterns[row] = pattern;
    out.projections[row] = static_cast<float>(energy > 0 ? projection / out.norms[row] : 0);
    if (energy > 0)
      for (int64_t k = 0; k < out.features; ++k) direction[k] = static_cast<float>(direction[k] / out.norms[row]);
  }
  return out;
}

double distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  return std::sqrt(sum);
}

/// Zeros stay zeros under these keys, so rows that match have one pattern of zeros. Each list is sorted by projection.
std::unordered_map<uint64_t, std::vector<int64_t>> by_pattern(const Overlaps& overlaps) {
  std::unordered_map<uint64_t, std::vector<int64_t>> rows;
  for (size_t r = 0; r < overlaps.patterns.size(); ++r)
    if (overlaps.usable[r]) rows[overlaps.patterns[r]].push_back(static_cast<int64_t>(r));
  for (auto& [pattern, list] : rows)
    std::sort(list.begin(), list.end(), [&](int64_t a, int64_t b) {
      return overlaps.projections[static_cast<size_t>(a)] < overlaps.projections[static_cast<size_t>(b)];
    });
  return rows;
}

/// The one row of `candidates` whose direction is that of row `first`, or -1.
int64_t only_match(const Overlaps& trailing, int64_t first, const Overlaps& leading,
                   const std::vector<int64_t>& candidates, const Tolerance& tolerance) {
  // The projection of a difference is a few times its length at most.
  constexpr double kWindow = 5;
  const double reach = kWindow * tolerance.different, at = trailing.projections[static_cast<size_t>(first)];
  auto candidate = std::lower_bound(candidates.begin(), candidates.end(), at - reach, [&](int64_t row, double value) {
    return leading.projections[static_cast<size_t>(row)] < value;
  });
  int64_t match = -1;
  double best = tolerance.different;
  for (; candidate != candidates.end() && leading.projections[static_cast<size_t>(*candidate)] <= at + reach;
       ++candidate) {
    if (*candidate == first) continue;
    const double apart = distance(trailing.direction(first), leading.direction(*candidate));
    if (apart >= tolerance.different) continue;
    if (match >= 0) return -1;  // a second one
    match = *candidate;
    best = apart;
  }
  return best < tolerance.same ? match : -1;
}

}  // namespace

std::vector<Neighbours> find_neighbours(const Operand& x, int64_t step, Direction direction, Random& random) {
  const bool right = direction == Direction::kRight;
  const int64_t shared = (right ? x.width : x.height) - step;
  if (shared <= 0 || x.empty()) return {};
  const int64_t height = right ? x.height : shared, width = right ? shared : x.width;
  std::normal_distribution<double> normal;
  Vector probe(height * width * x.channels);
  for (double& v : probe) v = normal(random);
  const Overlaps trailing = cut_overlaps(x, right ? 0 : step, right ? step : 0, height, width, probe);
  const Overlaps leading = cut_overlaps(x, 0, 0, height, width, probe);

  const Tolerance tolerance = is_bfloat16(x) ? kBFloat16 : kFloat32;
  const auto candidates = by_pattern(leading);
  std::vector<Neighbours> found;
  std::vector<int> used(static_cast<size_t>(x.rows), 0);
  for (int64_t r = 0; r < x.rows; ++r) {
    const auto row = static_cast<size_t>(r);
    if (!trailing.usable[row]) continue;
    const auto list = candidates.find(trailing.patterns[row]);
    if (list == candidates.end()) continue;
    const int64_t match = only_match(trailing, r, leading, list->second, tolerance);
    if (match < 0) continue;
    ++used[static_cast<size_t>(match)];
    found.push_back({r, match, std::log(leading.norms[static_cast<size_t>(match)] / trailing.norms[row])});
  }
  std::erase_if(found, [&](const Neighbours& pair) { return used[static_cast<size_t>(pair.second)] > 1; });
  return found;
}

}  // namespace tempo::audit
