// Label clusters.
// What the attacker has: dY~ of one step, and the number of classes.
// Algorithm: rows of one label have gradients that point alike, and keys that do not mix rows keep that. (1) Rows are
// normalised, features brought to one size (which undoes scales of columns), and axes are clustered by spherical
// k-means on |cos|, so that signs of rows do not matter. (2) A gradient of logits is softmax minus one-hot: one
// negative entry a row. Signs that a key gives to columns are the same in all rows, and a sign of a row flips all of
// it; so rows of one label have one sign pattern up to a common sign. Source: label leakage from gradients: Zhao et
// al., "iDLG", 2020; Li et al., "Label Leakage and Protection in Two-party Split Learning", ICLR 2022. Spherical
// k-means: Dhillon and Modha, 2001. Success: adjusted Rand index (Hubert and Arabie, 1985), clipped at 0, between
// clusters and the labels of the rows that the blinded rows mostly hold. At most 1,500 rows. Chance: the same clusters
// against labels shuffled among the images, so that rows of one image do not count as found.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "audit/algebra/decompositions.h"
#include "audit/algebra/ownership.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace label_clusters {
namespace {

constexpr int kNumber = 9;
constexpr int64_t kRows = 1500;
constexpr int kDimensions = 96, kRestarts = 6, kIterations = 25, kShuffles = 60, kMixtures = 10;
constexpr int64_t kMixtureRows = 500, kMixtureFeatures = 512;
constexpr const char* kByDirection = "labels of rows, by direction";
constexpr const char* kBySigns = "labels of rows, by signs of logit gradients";

/// 1 / norm of every row, 0 for rows of nothing.
Vector inverse_norms(const Matrix& m) {
  Vector out(m.rows());
  for (Eigen::Index i = 0; i < m.rows(); ++i) {
    const double norm = m.row(i).norm();
    out(i) = norm > 0 && std::isfinite(norm) ? 1 / norm : 0;
  }
  return out;
}

/// Rows of one length whose features have one size, in at most kDimensions features.
Matrix balanced_rows(const Operand& dy, const std::vector<int64_t>& rows, Random& random) {
  const int64_t positions = std::max<int64_t>(1, 2048 / dy.channels);
  const std::vector<int64_t> read = spread(dy.positions(), positions);
  Matrix m(static_cast<Eigen::Index>(rows.size()), static_cast<Eigen::Index>(read.size()) * dy.channels);
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t p = 0; p < read.size(); ++p)
      for (int64_t c = 0; c < dy.channels; ++c)
        m(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(p) * dy.channels + c) = dy.at(rows[i], read[p], c);
  for (int pass = 0; pass < 3; ++pass) {
    m = inverse_norms(m).asDiagonal() * m;
    m = m * inverse_norms(m.transpose()).asDiagonal();
  }
  if (m.cols() > kDimensions) m = m * random_gaussian(m.cols(), kDimensions, random);
  return inverse_norms(m).asDiagonal() * m;
}

struct Clusters {
  std::vector<int> of;    ///< by row
  double tightness = -1;  ///< sum of |cos| to the centres
};

Clusters cluster_once(const Matrix& rows, int count, Random& random) {
  Matrix centres(count, rows.cols());
  // Far apart starts: the next centre is drawn by 1 - cos^2 to the nearest one (as in k-means++).
  std::vector<double> weight(static_cast<size_t>(rows.rows()), 1);
  for (int k = 0; k < count; ++k) {
    double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
    if (!(sum > 0)) std::fill(weight.begin(), weight.end(), 1.0);
    std::discrete_distribution<int> draw(weight.begin(), weight.end());
    centres.row(k) = rows.row(draw(random));
    const Vector cosines = rows * centres.row(k).transpose();
    for (size_t i = 0; i < weight.size(); ++i) {
      const double cosine = cosines(static_cast<Eigen::Index>(i));
      weight[i] = std::min(weight[i], std::max(0.0, 1 - cosine * cosine));
    }
  }
  Clusters clusters{.of = std::vector<int>(static_cast<size_t>(rows.rows()), 0)};
  for (int iteration = 0; iteration < kIterations; ++iteration) {
    const Matrix cosines = rows * centres.transpose();
    centres.setZero();
    double tightness = 0;
    for (Eigen::Index i = 0; i < rows.rows(); ++i) {
      Eigen::Index nearest = 0;
      tightness += cosines.row(i).cwiseAbs().maxCoeff(&nearest);
      clusters.of[static_cast<size_t>(i)] = static_cast<int>(nearest);
      centres.row(nearest) += (cosines(i, nearest) < 0 ? -1.0 : 1.0) * rows.row(i);
    }
    centres = inverse_norms(centres).asDiagonal() * centres;
    const bool is_settled = tightness <= clusters.tightness * (1 + 1e-9);
    clusters.tightness = tightness;
    if (is_settled) break;
  }
  return clusters;
}

std::vector<int> cluster_axes(const Matrix& rows, int count, Random& random) {
  Clusters best;
  for (int i = 0; i < kRestarts; ++i) {
    Clusters next = cluster_once(rows, count, random);
    if (next.tightness > best.tightness) best = std::move(next);
  }
  return best.of;
}

/// Rows with equal signs, up to a sign of the row, get equal numbers.
std::vector<int> cluster_signs(const Operand& dy, const std::vector<int64_t>& rows) {
  std::map<std::vector<bool>, int> patterns;
  std::vector<int> clusters;
  for (const int64_t r : rows) {
    std::vector<bool> pattern;
    const bool is_flipped = dy.at(r, 0, 0) < 0;
    for (int64_t c = 0; c < dy.channels; ++c) pattern.push_back((dy.at(r, 0, c) < 0) != is_flipped);
    clusters.push_back(patterns.emplace(pattern, static_cast<int>(patterns.size())).first->second);
  }
  return clusters;
}

/// Adjusted Rand index, at least 0.
double rand_index(const std::vector<int>& a, const std::vector<int>& b) {
  const auto pairs = [](double n) { return n * (n - 1) / 2; };
  std::map<std::pair<int, int>, int> both;
  std::map<int, int> only_a, only_b;
  for (size_t i = 0; i < a.size(); ++i) ++both[{a[i], b[i]}], ++only_a[a[i]], ++only_b[b[i]];
  double together = 0, in_a = 0, in_b = 0;
  for (const auto& [key, n] : both) together += pairs(n);
  for (const auto& [key, n] : only_a) in_a += pairs(n);
  for (const auto& [key, n] : only_b) in_b += pairs(n);
  const double all = pairs(static_cast<double>(a.size()));
  if (!(all > 0)) return 0;
  const double expected = in_a * in_b / all, most = (in_a + in_b) / 2;
  return most > expected ? std::max(0.0, (together - expected) / (most - expected)) : 0;
}

/// Clusters of the rows of dY~, and the images that these rows mostly come from.
struct Clustered {
  std::vector<int> clusters;
  std::vector<int64_t> images;
};

std::vector<int> labels_of(const std::vector<int64_t>& images, const std::vector<int>& labels) {
  std::vector<int> out;
  for (const int64_t image : images) out.push_back(labels[static_cast<size_t>(image)]);
  return out;
}

struct Victim {
  const Operand& dy;
  const StepTruth& truth;
  int classes = 2;
  int64_t rows_of_image = 1;
};

using Method = std::vector<int> (*)(const Operand& dy, const std::vector<int64_t>& rows, int classes, Random& random);

std::vector<int> by_direction(const Operand& dy, const std::vector<int64_t>& rows, int classes, Random& random) {
  return cluster_axes(balanced_rows(dy, rows, random), classes, random);
}

std::vector<int> by_signs(const Operand& dy, const std::vector<int64_t>& rows, int, Random&) {
  return cluster_signs(dy, rows);
}

/// Score of the same method on some rows of the true dY under a dense random mixture, in which no row is any sample's.
/// It is above 0 all the same: the row that a mixture is nearest to says something about the mixture.
double score_of_mixture(const Victim& victim, Method method, Random& random) {
  const Operand& plain = victim.truth.dy;
  const std::vector<int64_t> rows = spread(plain.rows, kMixtureRows);
  const std::vector<int64_t> read = spread(plain.positions(), std::max<int64_t>(1, kMixtureFeatures / plain.channels));
  const auto positions = static_cast<int64_t>(read.size());
  Operand some(static_cast<int64_t>(rows.size()), 1, positions, plain.channels);
  for (int64_t i = 0; i < some.rows; ++i)
    for (int64_t p = 0; p < positions; ++p)
      for (int64_t c = 0; c < plain.channels; ++c)
        some.at(i, p, c) = plain.at(rows[static_cast<size_t>(i)], read[static_cast<size_t>(p)], c);
  const Matrix inverse = inverse_of(victim.truth.right).transpose();
  const Operand mixed = transform(random_gaussian(some.rows, some.rows, random), some, inverse);
  const Ownership owners = owners_of_rows(mixed, victim.truth.right.transpose(), some, kMixtureRows, {}, random);
  std::vector<int64_t> images;
  for (const int64_t owner : owners.owner) images.push_back(rows[static_cast<size_t>(owner)] / victim.rows_of_image);
  if (images.size() < 4) return 0;
  return rand_index(method(mixed, owners.blinded, victim.classes, random), labels_of(images, victim.truth.labels));
}

Finding score_method(const char* target, const Victim& victim, const Ownership& rows, Method method, Random& random) {
  const std::vector<int> clusters = method(victim.dy, rows.blinded, victim.classes, random);
  std::vector<int64_t> images;
  for (const int64_t owner : rows.owner) images.push_back(owner / victim.rows_of_image);
  std::vector<int> labels = victim.truth.labels;
  const double score = rand_index(clusters, labels_of(images, labels));
  const Chance shuffled = measure_chance(kShuffles, [&] {
    std::shuffle(labels.begin(), labels.end(), random);
    return rand_index(clusters, labels_of(images, labels));
  });
  const Chance mixed = measure_chance(kMixtures, [&] { return score_of_mixture(victim, method, random); });
  const Chance chance{.mean = std::max(shuffled.mean, mixed.mean), .stddev = std::max(shuffled.stddev, mixed.stddev)};
  return scored(kNumber, target, "adjusted Rand index with labels", score, chance);
}

/// Whether (nearly) every row of dY has exactly one entry of its sign, as gradients of logits have.
bool is_logit_gradient(const Operand& dy) {
  if (dy.positions() != 1 || dy.channels < 3) return false;
  int64_t odd = 0;
  for (int64_t r = 0; r < dy.rows; ++r) {
    int64_t negative = 0;
    for (int64_t c = 0; c < dy.channels; ++c) negative += dy.at(r, 0, c) < 0 ? 1 : 0;
    odd += negative == 1 ? 1 : 0;
  }
  return odd * 10 >= dy.rows * 9;
}

/// Why the labels of rows cannot be scored; empty if they can.
std::string obstacle(const StepView& view, const StepTruth& truth) {
  if (view.dy.empty() || !view.dy.same_shape(truth.dy)) return "dY was not sent";
  if (truth.right.rows() != view.dy.channels) return "the right key is not known";
  // Under reuse=none this dY~ has a right key of its own, which is not recorded: its rows cannot be told apart.
  if (!view.w_again.empty()) return "reuse=none: the key of dY, needed to score, is not recorded";
  const auto images = static_cast<int64_t>(truth.labels.size());
  if (images < 2 || view.dy.rows % images != 0) return "rows do not belong to labelled images";
  if (std::set<int>(truth.labels.begin(), truth.labels.end()).size() < 2) return "all labels are the same";
  return "";
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const StepView& view = layer.view.front();
  const StepTruth& truth = layer.truth.front();
  if (const std::string why = obstacle(view, truth); !why.empty())
    return {not_applicable(kNumber, kByDirection, why), not_applicable(kNumber, kBySigns, why)};

  const Ownership rows = owners_of_rows(view.dy, truth.right.transpose(), truth.dy, kRows, {}, random);
  if (rows.owner.size() < 4) {
    const char* why = "fewer than four rows of dY are not zero";
    return {not_applicable(kNumber, kByDirection, why), not_applicable(kNumber, kBySigns, why)};
  }
  // How many classes there are is public.
  const auto classes = static_cast<int>(std::set<int>(truth.labels.begin(), truth.labels.end()).size());
  const Victim victim{view.dy, truth, classes, view.dy.rows / static_cast<int64_t>(truth.labels.size())};
  return {score_method(kByDirection, victim, rows, by_direction, random),
          is_logit_gradient(truth.dy) ? score_method(kBySigns, victim, rows, by_signs, random)
                                      : not_applicable(kNumber, kBySigns, "Y holds no logits")};
}

}  // namespace
}  // namespace label_clusters

const Attack kLabelClusters{9,
                            "label clusters",
                            "Can a worker tell which samples share a label from the gradients it is sent?",
                            "the number of classes",
                            "Zhao et al., iDLG, 2020; Li et al., Label Leakage in Split Learning, ICLR 2022",
                            label_clusters::run};

}  // namespace tempo::audit
