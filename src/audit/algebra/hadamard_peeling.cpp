#include "audit/algebra/hadamard_peeling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "audit/algebra/decompositions.h"

namespace tempo::audit {
namespace {

constexpr int kHadamardSide = 16;

Matrix correlations(const Matrix& gram) {
  const Vector scale = gram.diagonal().cwiseMax(1e-300).cwiseSqrt().cwiseInverse();
  return scale.asDiagonal() * gram * scale.asDiagonal();
}

/// Squared correlations off the diagonal, of mean one.
Matrix affinity(const Matrix& correlation) {
  Matrix squares = correlation.array().square();
  squares.diagonal().setZero();
  return squares / std::max(squares.mean(), 1e-300);
}

/// Groups of kHadamardSide channels each, as near to the centres as their number allows; the surest channels first.
std::vector<int> balanced_groups(const Matrix& scores) {
  const Eigen::Index count = scores.cols();
  std::vector<Eigen::Index> order(static_cast<size_t>(scores.rows()));
  std::iota(order.begin(), order.end(), 0);
  Vector sureness(scores.rows());
  for (Eigen::Index i = 0; i < scores.rows(); ++i) {
    Vector row = scores.row(i).transpose();
    std::sort(row.data(), row.data() + count);
    sureness[i] = count > 1 ? row[count - 1] - row[count - 2] : 0;
  }
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return sureness[a] > sureness[b]; });
  std::vector<int> left(static_cast<size_t>(count), kHadamardSide), group(order.size());
  for (const Eigen::Index i : order) {
    int best = -1;
    for (int g = 0; g < count; ++g)
      if (left[static_cast<size_t>(g)] > 0 && (best < 0 || scores(i, g) > scores(i, best))) best = g;
    group[static_cast<size_t>(i)] = best;
    --left[static_cast<size_t>(best)];
  }
  return group;
}

Matrix centres(const Matrix& points, const std::vector<int>& group, Eigen::Index count) {
  Matrix sum = Matrix::Zero(count, points.cols());
  for (Eigen::Index i = 0; i < points.rows(); ++i) sum.row(group[static_cast<size_t>(i)]) += points.row(i);
  sum.rowwise().normalize();
  return sum;
}

/// Swaps two channels of different groups as long as affinities within groups grow. @returns their sum.
double improve_groups(const Matrix& affinities, std::vector<int>& group, Eigen::Index count) {
  const Eigen::Index d = affinities.rows();
  Matrix to_group = Matrix::Zero(d, count);
  for (Eigen::Index j = 0; j < d; ++j) to_group.col(group[static_cast<size_t>(j)]) += affinities.col(j);
  for (Eigen::Index swaps = 0; swaps < 2 * d; ++swaps) {
    double largest = 1e-9;
    Eigen::Index a = -1, b = -1;
    for (Eigen::Index i = 0; i < d; ++i)
      for (Eigen::Index j = 0; j < i; ++j) {
        const int gi = group[static_cast<size_t>(i)], gj = group[static_cast<size_t>(j)];
        if (gi == gj) continue;
        const double gain =
            to_group(i, gj) - to_group(i, gi) + to_group(j, gi) - to_group(j, gj) - 2 * affinities(i, j);
        if (gain <= largest) continue;
        largest = gain;
        a = i;
        b = j;
      }
    if (a < 0) break;
    int &ga = group[static_cast<size_t>(a)], &gb = group[static_cast<size_t>(b)];
    to_group.col(ga) += affinities.col(b) - affinities.col(a);
    to_group.col(gb) += affinities.col(a) - affinities.col(b);
    std::swap(ga, gb);
  }
  double sum = 0;
  for (Eigen::Index i = 0; i < d; ++i) sum += to_group(i, group[static_cast<size_t>(i)]);
  return sum;
}

std::vector<int> find_groups(const Matrix& affinities, Random& random) {
  constexpr int kTries = 12, kRounds = 12;
  const Eigen::Index d = affinities.rows(), count = d / kHadamardSide;
  const Matrix points = symmetric_eigen(affinities).vectors.rightCols(count);
  std::vector<int> best;
  double most = -1;
  for (int n = 0; n < kTries; ++n) {
    Matrix centre(count, count);
    for (Eigen::Index g = 0; g < count; ++g)
      centre.row(g) = points.row(static_cast<Eigen::Index>(random() % static_cast<uint64_t>(d)));
    std::vector<int> group;
    for (int i = 0; i < kRounds; ++i) {
      group = balanced_groups(points * centre.transpose());
      centre = centres(points, group, count);
    }
    const double value = improve_groups(affinities, group, count);
    if (value <= most) continue;
    most = value;
    best = group;
  }
  return best;
}

/// Which channel of a block stands at each place, and its sign.
struct Places {
  std::array<int, kHadamardSide> channel{};
  std::array<double, kHadamardSide> sign{};
};

/// Squares of the sums over pairs of places with one exclusive or: largest where products depend on that alone.
double agreement_of(const std::array<Matrix, 2>& correlation, const Places& places) {
  double value = 0;
  for (const Matrix& c : correlation) {
    std::array<double, kHadamardSide> sum{};
    for (int i = 0; i < kHadamardSide; ++i)
      for (int j = 0; j < i; ++j)
        sum[static_cast<size_t>(i ^ j)] +=
            c(places.channel[static_cast<size_t>(i)], places.channel[static_cast<size_t>(j)]) *
            places.sign[static_cast<size_t>(i)] * places.sign[static_cast<size_t>(j)];
    for (const double s : sum) value += s * s;
  }
  return value / (kHadamardSide * 4);
}

Places propose(const Places& now, Random& random) {
  Places other = now;
  const uint64_t bits = random();
  const size_t a = bits % kHadamardSide, b = (bits >> 8U) % kHadamardSide;
  const uint64_t kind = (bits >> 16U) % 10;
  if (kind < 2) {
    other.sign[a] = -other.sign[a];
    return other;
  }
  std::swap(other.channel[a], other.channel[b]);
  if (kind < 8) std::swap(other.sign[a], other.sign[b]);
  return other;
}

Places anneal(const std::array<Matrix, 2>& correlation, int starts, Random& random, double& most) {
  constexpr int kProposals = 20'000;
  constexpr double kStart = 0.3, kEnd = 0.003;
  const double cooling = std::pow(kEnd / kStart, 1.0 / kProposals);
  std::uniform_real_distribution<double> uniform;
  Places best;
  most = -1;
  for (int n = 0; n < starts; ++n) {
    Places now;
    std::iota(now.channel.begin(), now.channel.end(), 0);
    std::shuffle(now.channel.begin(), now.channel.end(), random);
    for (double& s : now.sign) s = random() % 2 == 0 ? 1 : -1;
    double value = agreement_of(correlation, now), temperature = kStart;
    for (int i = 0; i < kProposals; ++i, temperature *= cooling) {
      const Places other = propose(now, random);
      const double then = agreement_of(correlation, other);
      if (then <= value && uniform(random) >= std::exp((then - value) / temperature)) continue;
      now = other;
      value = then;
      if (value <= most) continue;
      most = value;
      best = now;
    }
  }
  return best;
}

double hadamard(int i, int j) {
  return (__builtin_popcount(static_cast<unsigned>(i & j)) % 2 == 0 ? 1 : -1) / std::sqrt(double{kHadamardSide});
}

}  // namespace

PeeledRound peel_round(const Matrix& gram, double effort, Random& random) {
  const Eigen::Index d = gram.rows();
  PeeledRound peeled{.rows = Matrix::Zero(d, d)};
  if (d == 0 || d % kHadamardSide != 0) return peeled;
  const Matrix inverse = inverse_of(gram);
  if (!inverse.allFinite()) return peeled;
  const Matrix forward = correlations(gram), backward = correlations(inverse);
  const std::vector<int> group = find_groups(affinity(forward) + affinity(backward), random);
  // sqrt(G_jj / (G^-1)_jj) follows the scale behind the round, in a gram and in its inverse alike.
  const Vector scale = (gram.diagonal().array() / inverse.diagonal().array()).sqrt().sqrt();
  const int starts = std::max(1, static_cast<int>(40 * effort));
  for (int g = 0; g < d / kHadamardSide; ++g) {
    std::vector<Eigen::Index> members;
    for (Eigen::Index i = 0; i < d; ++i)
      if (group[static_cast<size_t>(i)] == g) members.push_back(i);
    std::array<Matrix, 2> inside{Matrix(kHadamardSide, kHadamardSide), Matrix(kHadamardSide, kHadamardSide)};
    for (int i = 0; i < kHadamardSide; ++i)
      for (int j = 0; j < kHadamardSide; ++j) {
        inside[0](i, j) = forward(members[static_cast<size_t>(i)], members[static_cast<size_t>(j)]);
        inside[1](i, j) = backward(members[static_cast<size_t>(i)], members[static_cast<size_t>(j)]);
      }
    double most = 0;
    const Places places = anneal(inside, starts, random, most);
    peeled.agreement += most / static_cast<double>(d / kHadamardSide);
    for (int i = 0; i < kHadamardSide; ++i)
      for (int j = 0; j < kHadamardSide; ++j) {
        const Eigen::Index column = members[static_cast<size_t>(places.channel[static_cast<size_t>(j)])];
        peeled.rows(g * kHadamardSide + i, column) =
            hadamard(i, j) * places.sign[static_cast<size_t>(j)] / scale[column];
      }
  }
  return peeled;
}

}  // namespace tempo::audit
