#include "audit/theft/colours.h"

#include <algorithm>
#include <cmath>

#include <unsupported/Eigen/NonLinearOptimization>

#include "audit/algebra/decompositions.h"
#include "audit/theft/colour_statistics.h"
#include "audit/theft/first_layer.h"

namespace tempo::audit {
namespace {

constexpr int kDirections = 16, kQuantiles = 40;
constexpr int kStarts = 200, kRefined = 6;
/// What steps between pixels count for beside colours: they do not depend on what an image shows.
constexpr double kStepWeight = 4;
constexpr double kTendencyWeight = 0.02;
/// So many grey levels from black, a colour that should be black costs as much as a bad fit.
constexpr double kBlackSpread = 60;

/// From white mixed colours to white colours: colour = matrix * mixed + shift.
struct Turn {
  static constexpr Eigen::Index kParameters = kColours * kColours + kColours;
  Matrix matrix;  ///< [3, 3]
  Vector shift;   ///< [3]

  explicit Turn(Matrix m) : matrix(std::move(m)), shift(Vector::Zero(kColours)) {}
  /// @param parameters  the matrix by rows, then the shift
  static Turn of(const Vector& parameters) {
    Turn turn(Eigen::Map<const Matrix>(parameters.data(), kColours, kColours));
    turn.shift = parameters.tail(kColours);
    return turn;
  }
  [[nodiscard]] Vector parameters() const {
    Vector values(kParameters);
    values << Eigen::Map<const Vector>(matrix.data(), kColours * kColours), shift;
    return values;
  }
};

/// How two sets of images differ, as a sum of squares: a sliced Wasserstein distance of colours and of steps, by
/// quantiles, and the squared Mahalanobis distance of their tendencies. Eigen's Levenberg-Marquardt calls it.
class ColourDistance {
 public:
  ColourDistance(const ColourStatistics& mixed, const ColourStatistics& others, Random& random)
      : mixed_(mixed),
        directions_(kColours, kDirections),
        tendency_(mixed.tendencies.colwise().mean().transpose()),
        wanted_tendency_(others.tendencies.colwise().mean().transpose()) {
    // Half are random to the eye, half are random in white colours, where faint differences of hue are large.
    directions_ << others.white.unwhiten.transpose() * random_gaussian(kColours, kDirections / 2, random),
        random_gaussian(kColours, kDirections / 2, random);
    directions_.colwise().normalize();
    for (Eigen::Index d = 0; d < kDirections; ++d) {
      pixels_.push_back(quantiles_of(others.pixels * directions_.col(d)).values);
      steps_.push_back(quantiles_of(others.steps * directions_.col(d)).values);
    }
    const Matrix centred = others.tendencies.rowwise() - wanted_tendency_.transpose();
    const auto other_images = static_cast<double>(others.tendencies.rows());
    const auto mixed_images = static_cast<double>(mixed.tendencies.rows());
    const EigenPairs pairs = symmetric_eigen(centred.transpose() * centred / other_images *
                                             (1 / other_images + 1 / mixed_images) / kTendencyWeight);
    weigh_tendency_ = pairs.values.cwiseMax(1e-12).cwiseSqrt().cwiseInverse().asDiagonal() * pairs.vectors.transpose();
  }

  [[nodiscard]] double operator()(const Turn& turn) const {
    Vector errors(values());
    fill(turn, &errors, nullptr);
    return errors.squaredNorm();
  }

  // What Eigen asks for.
  [[nodiscard]] static int values() { return 2 * kDirections * kQuantiles + 2 * kColours; }
  int operator()(const Vector& parameters, Vector& errors) const {
    fill(Turn::of(parameters), &errors, nullptr);
    return 0;
  }
  int df(const Vector& parameters, Eigen::MatrixXd& jacobian) const {
    fill(Turn::of(parameters), nullptr, &jacobian);
    return 0;
  }

 private:
  struct Quantiles {
    Vector values;
    std::vector<Eigen::Index> rows;  ///< by quantile the sample that it is
  };
  static Quantiles quantiles_of(const Vector& samples) {
    std::vector<std::pair<double, Eigen::Index>> order;
    order.reserve(static_cast<size_t>(samples.size()));
    for (Eigen::Index i = 0; i < samples.size(); ++i) order.emplace_back(samples(i), i);
    std::sort(order.begin(), order.end());
    Quantiles out{Vector(kQuantiles), {}};
    for (int q = 0; q < kQuantiles; ++q) {
      const auto& at = order[static_cast<size_t>((q + 0.5) / kQuantiles * static_cast<double>(order.size()))];
      out.values(q) = at.first;
      out.rows.push_back(at.second);
    }
    return out;
  }

  void fill(const Turn& turn, Vector* errors, Eigen::MatrixXd* jacobian) const {
    if (jacobian != nullptr) jacobian->setZero();
    Eigen::Index at = 0;
    const double weight = std::sqrt(1.0 / (kQuantiles * kDirections));
    for (Eigen::Index d = 0; d < kDirections; ++d) {
      const Vector direction = directions_.col(d), turned = turn.matrix.transpose() * direction;
      const auto compare = [&](const Matrix& samples, const Vector& wanted, double shifts, double by) {
        const Quantiles have = quantiles_of(samples * turned);
        for (int q = 0; q < kQuantiles; ++q, ++at) {
          if (errors != nullptr) (*errors)(at) = by * (have.values(q) + shifts * direction.dot(turn.shift) - wanted(q));
          if (jacobian == nullptr) continue;
          const auto sample = samples.row(have.rows[static_cast<size_t>(q)]);
          for (int64_t c = 0; c < kColours; ++c) {
            jacobian->row(at).segment(c * kColours, kColours) = by * direction(c) * sample;
            (*jacobian)(at, kColours * kColours + c) = by * shifts * direction(c);
          }
        }
      };
      compare(mixed_.pixels, pixels_[static_cast<size_t>(d)], 1, weight);
      compare(mixed_.steps, steps_[static_cast<size_t>(d)], 0, weight * std::sqrt(kStepWeight));
    }
    if (errors != nullptr) {
      Vector error(2 * kColours);
      error << turn.matrix * tendency_.head(kColours), turn.matrix * tendency_.tail(kColours);
      errors->tail(2 * kColours) = weigh_tendency_ * (error - wanted_tendency_);
    }
    if (jacobian != nullptr)
      for (int64_t half = 0; half < 2; ++half)
        for (int64_t c = 0; c < kColours; ++c)
          jacobian->bottomRows(2 * kColours).middleCols(c * kColours, kColours) +=
              weigh_tendency_.col(half * kColours + c) * tendency_.segment(half * kColours, kColours).transpose();
  }

  const ColourStatistics& mixed_;
  Matrix directions_;  ///< [3, directions], of white colours
  std::vector<Vector> pixels_, steps_;
  Vector tendency_, wanted_tendency_;
  Matrix weigh_tendency_;  ///< [6, 6]
};

struct Candidate {
  Turn turn;
  double distance = 0;
};

void refine(Candidate& candidate, const ColourDistance& distance) {
  constexpr int kMostEvaluations = 60;
  Vector at = candidate.turn.parameters();
  Eigen::LevenbergMarquardt<const ColourDistance> solver(distance);
  solver.parameters.maxfev = kMostEvaluations;
  solver.parameters.ftol = solver.parameters.xtol = 1e-5;
  solver.minimize(at);
  candidate.turn = Turn::of(at);
  candidate.distance = distance(candidate.turn);
}

ColourMap map_of(const Turn& turn, const Whitening& from, const Whitening& to) {
  ColourMap map;
  map.matrix = to.unwhiten * turn.matrix * from.whiten;
  map.offset = to.mean + to.unwhiten * turn.shift - map.matrix * from.mean;
  return map;
}

}  // namespace

ColourMap match_colours(const FeatureMaps& mixed, const FeatureMaps& others, Random& random) {
  const auto from = colour_statistics(mixed, random), to = colour_statistics(others, random);
  if (!from || !to) return {Matrix::Identity(kColours, kColours), Vector::Zero(kColours)};
  const ColourDistance distance(*from, *to, random);
  const auto nearer = [](const Candidate& a, const Candidate& b) { return a.distance < b.distance; };
  std::vector<Candidate> candidates;
  for (int i = 0; i < kStarts; ++i) {
    const Turn turn(random_orthogonal(kColours, random));
    candidates.push_back({turn, distance(turn)});
  }
  std::sort(candidates.begin(), candidates.end(), nearer);
  candidates.erase(candidates.begin() + kRefined, candidates.end());
  // A negative looks much like the image, so each is tried.
  for (int i = 0; i < kRefined; ++i) candidates.push_back({Turn(-candidates[static_cast<size_t>(i)].turn.matrix), 0});
  for (Candidate& one : candidates) {
    refine(one, distance);
    if (!from->edge) continue;
    const Vector black = to->white.unwhiten * (one.turn.matrix * *from->edge + one.turn.shift) + to->white.mean;
    one.distance += black.squaredNorm() / (kColours * kBlackSpread * kBlackSpread);
  }
  return map_of(std::min_element(candidates.begin(), candidates.end(), nearer)->turn, from->white, to->white);
}

ColourMap known_colours(const FeatureMaps& mixed, const FeatureMaps& truth) {
  const Plausible plausible(mixed);
  std::vector<std::pair<Vector, Vector>> pairs;
  for (int64_t i = 0; i < mixed.images; ++i)
    for (int64_t y = kUncertainBorder; y < mixed.height - kUncertainBorder; ++y)
      for (int64_t x = kUncertainBorder; x < mixed.width - kUncertainBorder; ++x) {
        const Vector colour = pixel_of(mixed, i, y * mixed.width + x);
        if (plausible(colour)) pairs.emplace_back(colour, pixel_of(truth, i, y * truth.width + x));
      }
  Matrix a(static_cast<Eigen::Index>(pairs.size()), kColours + 1), b(a.rows(), kColours);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto row = static_cast<Eigen::Index>(i);
    a.row(row) << pairs[i].first.transpose(), 1;
    b.row(row) = pairs[i].second.transpose();
  }
  const Matrix solution = least_squares(a, b);
  return {solution.topRows(kColours).transpose(), solution.row(kColours).transpose()};
}

}  // namespace tempo::audit
