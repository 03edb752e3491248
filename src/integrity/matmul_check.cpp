#include "integrity/matmul_check.h"

#include <algorithm>
#include <cmath>

#include "integrity/projection.h"

namespace tempo::integrity {
namespace {

template <typename T>
struct Items {
  const T* data;
  int64_t rows, columns;
  [[nodiscard]] const T* item(int64_t i) const { return data + i * rows * columns; }
};

/// What is compared with found v, by item: left (right v), left (right^T v), or left^T (right v).
enum class Side { kPlain, kRightTransposed, kLeftTransposed };

template <typename T>
struct ItemCheck {
  Items<T> left, right, found;
  Side side;
  const std::vector<T>& secret;
  double left_energy = 0, right_energy = 0, found_energy = 0;

  std::vector<double> transposed(const Items<T>& m, int64_t i, const std::vector<T>& v, ThreadPool& serial) const {
    std::vector<double> out(static_cast<size_t>(m.columns));
    accumulate(m.item(i), m.rows, m.columns, v.data(), 1, out.data(), serial);
    return out;
  }
  std::vector<T> plain(const Items<T>& m, int64_t i, const std::vector<T>& v, double& energy,
                       ThreadPool& serial) const {
    std::vector<T> out(static_cast<size_t>(m.rows));
    energy = project(m.item(i), m.rows, m.columns, v.data(), 1, out.data(), serial);
    return out;
  }

  /// Computes the residual of item i.
  void run(int64_t i, double* residual, ThreadPool& serial) {
    const std::vector<T> seen = plain(found, i, secret, found_energy, serial);
    std::vector<double> expected;
    if (side == Side::kLeftTransposed) {
      expected = transposed(left, i, plain(right, i, secret, right_energy, serial), serial);
      std::vector<T> unused(static_cast<size_t>(left.rows));
      const std::vector<T> zeros(static_cast<size_t>(left.columns));
      left_energy = project(left.item(i), left.rows, left.columns, zeros.data(), 0, unused.data(), serial);
    } else {
      std::vector<T> middle;
      if (side == Side::kPlain) {
        middle = plain(right, i, secret, right_energy, serial);
      } else {
        const std::vector<double> wide = transposed(right, i, secret, serial);
        middle.assign(wide.begin(), wide.end());
        right_energy = project(right.item(i), right.rows, right.columns, middle.data(), 0, middle.data(), serial);
      }
      const std::vector<T> narrow = plain(left, i, middle, left_energy, serial);
      expected.assign(narrow.begin(), narrow.end());
    }
    for (size_t r = 0; r < seen.size(); ++r) residual[r] = static_cast<double>(seen[r]) - expected[r];
  }
};

std::vector<double> draw_secret(Csprng& random, int64_t size) {
  std::vector<double> values(static_cast<size_t>(size));
  for (double& value : values) value = (random.coin() ? 1 : -1) * (0.5 + random.uniform());
  return values;
}

template <typename T>
Residual check_items(int64_t batch, const RoundingModel& rounding, int64_t inner, const ItemCheck<T>& check,
                     ThreadPool& threads) {
  constexpr double kProjectionRms = 1.0408, kWireRms = 0.6;
  Residual residual;
  const int64_t rows = check.found.rows;
  residual.values.resize(static_cast<size_t>(batch * rows));
  std::vector<double> products(static_cast<size_t>(batch)), found(products.size());
  threads.parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
    ThreadPool serial(1);
    for (int64_t i = begin; i < end; ++i) {
      ItemCheck<T> one = check;
      one.run(i, residual.values.data() + i * rows, serial);
      products[static_cast<size_t>(i)] = one.left_energy * one.right_energy;
      found[static_cast<size_t>(i)] = one.found_energy;
    }
  });
  double all_products = 0, all_found = 0;
  for (const double value : products) all_products += value;
  for (const double value : found) all_found += value;
  residual.is_decidable = std::isfinite(all_products);
  const double scale = std::sqrt(all_products) * kProjectionRms;
  const double wire = std::sqrt(2 * all_products / static_cast<double>(std::max<int64_t>(inner, 1)) + all_found);
  residual.tolerance = kToleratedDeviations * rounding.key_spread *
                       (rounding.unit_roundoff * scale + rounding.wire_roundoff * kWireRms * kProjectionRms * wire);
  return residual;
}

template <typename T>
std::vector<T> secret_of(Csprng& random, int64_t size) {
  const std::vector<double> wide = draw_secret(random, size);
  return {wide.begin(), wide.end()};
}

}  // namespace

template <typename T>
Residual check_matmul(const MatmulShape& s, const RoundingModel& rounding, const T* a, const T* b, const T* c,
                      Csprng& secret, ThreadPool& threads) {
  const std::vector<T> rho = secret_of<T>(secret, s.m);
  return check_items<T>(s.batch, rounding, s.d, {{a, s.n, s.d}, {b, s.d, s.m}, {c, s.n, s.m}, Side::kPlain, rho},
                        threads);
}

template <typename T>
Residual check_matmul_da(const MatmulShape& s, const RoundingModel& rounding, const T* b, const T* dc, const T* da,
                         Csprng& secret, ThreadPool& threads) {
  const std::vector<T> sigma = secret_of<T>(secret, s.d);
  return check_items<T>(s.batch, rounding, s.m,
                        {{dc, s.n, s.m}, {b, s.d, s.m}, {da, s.n, s.d}, Side::kRightTransposed, sigma}, threads);
}

template <typename T>
Residual check_matmul_db(const MatmulShape& s, const RoundingModel& rounding, const T* a, const T* dc, const T* db,
                         Csprng& secret, ThreadPool& threads) {
  const std::vector<T> tau = secret_of<T>(secret, s.m);
  return check_items<T>(s.batch, rounding, s.n,
                        {{a, s.n, s.d}, {dc, s.n, s.m}, {db, s.d, s.m}, Side::kLeftTransposed, tau}, threads);
}

#define TEMPO_INSTANTIATE(T)                                                                                         \
  template Residual check_matmul(const MatmulShape&, const RoundingModel&, const T*, const T*, const T*, Csprng&,    \
                                 ThreadPool&);                                                                       \
  template Residual check_matmul_da(const MatmulShape&, const RoundingModel&, const T*, const T*, const T*, Csprng&, \
                                    ThreadPool&);                                                                    \
  template Residual check_matmul_db(const MatmulShape&, const RoundingModel&, const T*, const T*, const T*, Csprng&, \
                                    ThreadPool&);
TEMPO_INSTANTIATE(float)
TEMPO_INSTANTIATE(double)
#undef TEMPO_INSTANTIATE

}  // namespace tempo::integrity
