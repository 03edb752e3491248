// Attack 14: a dictionary of candidate inputs.
//
// Has: X~ of one step, and candidate images with what the attacker's own model computes for them at this layer. Asks
// which candidates are in the batch: membership, or recognition of a known image.
// Algorithm: a signature of a row that keys on channels leave alone, compared with the signatures of all rows of X~.
// Keys that permute and scale channels keep zeros: the signature is the share of zero channels at every position of the
// tile, and the share of channels that are zero at two neighbouring positions, a picture of sparsity. Orthogonal keys
// keep lengths: the signature is the share of the row's energy at every position. The attacker takes the former where
// X~ has zeros. Statistic of an image: mean over its tiles of the distance to the nearest row of X~.
// Members are the images of the batch. Non-members are the same images mirrored (or, for tiles one position wide, with
// half the channels of another image), since no other images of the data set were recorded: as natural, but not in the
// batch. At most 2,000 candidate rows.
// Source: the idea of a dictionary of known inputs is old; zeros as a fingerprint are of this project's brief.
//
// Success: area under the ROC curve, members against non-members. Chance: the same area where X~ holds nothing of
// the candidate, which is 0.5 but for what mirroring gives away. Measured, with rows that are mixed, on X~ whose rows
// are mixed once more, at random; with rows that are not, on plain rows less those of the image in question. Noise:
// standard deviation of the Mann-Whitney statistic.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace candidate_dictionary {
namespace {

constexpr int kNumber = 14;
constexpr const char* kOwnModel = "images of the batch, activations of the attacker's model";
constexpr const char* kUpperBound = "images of the batch, true activations (upper bound)";

constexpr int64_t kCandidateRows = 1000, kTilesOfImage = 16, kComparedRows = 16384, kRemixedRows = 1024;
/// Multiply-adds of comparing signatures: under half a second.
constexpr double kBudget = 4e8;

enum class Signature { kZeros, kEnergy };

Vector energy_signature(const Operand& x, int64_t row) {
  Vector energy = Vector::Zero(x.positions());
  for (int64_t p = 0; p < x.positions(); ++p)
    for (int64_t c = 0; c < x.channels; ++c) energy(p) += static_cast<double>(x.at(row, p, c)) * x.at(row, p, c);
  const double total = energy.sum();
  return total > 0 ? Vector(energy / total) : energy;
}

Vector zero_signature(const Operand& x, int64_t row) {
  const int64_t positions = x.positions(), channels = x.channels;
  std::vector<unsigned char> zero(static_cast<size_t>(positions * channels));
  for (size_t i = 0; i < zero.size(); ++i) zero[i] = x.values[static_cast<size_t>(row) * zero.size() + i] == 0 ? 1 : 0;
  const auto both = [&](int64_t p, int64_t q) {
    const unsigned char *a = &zero[static_cast<size_t>(p * channels)], *b = &zero[static_cast<size_t>(q * channels)];
    int count = 0;
    for (int64_t c = 0; c < channels; ++c) count += a[c] & b[c];
    return count / static_cast<double>(channels);
  };
  Vector share = Vector::Zero(3 * positions);  // zero here; here and to the right; here and below
  for (int64_t p = 0; p < positions; ++p) {
    share(p) = both(p, p);
    if (p % x.width + 1 < x.width) share(positions + p) = both(p, p + 1);
    if (p + x.width < positions) share(2 * positions + p) = both(p, p + x.width);
  }
  return share;
}

Matrix signatures(const Operand& x, const std::vector<int64_t>& rows, Signature kind) {
  Matrix out(static_cast<Eigen::Index>(rows.size()), x.positions() * (kind == Signature::kZeros ? 3 : 1));
  for (size_t i = 0; i < rows.size(); ++i)
    out.row(static_cast<Eigen::Index>(i)) =
        kind == Signature::kZeros ? zero_signature(x, rows[i]) : energy_signature(x, rows[i]);
  return out;
}

/// `count` of 0..size-1, evenly spread.
std::vector<int64_t> spread(int64_t count, int64_t size) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < std::min(count, size); ++i) out.push_back(i * size / std::min(count, size));
  return out;
}

/// The candidates: some tiles of some images, as rows of the activations.
struct Candidates {
  int64_t images = 0, tiles_of_image = 0, tiles = 1;
  std::vector<int64_t> rows;  ///< by image, then by tile

  Candidates(const LayerCase& layer, int64_t all_rows, int64_t most_rows) {
    tiles = std::max<int64_t>(layer.tiles_y * layer.tiles_x, 1);
    if (all_rows % tiles != 0) tiles = 1;
    const std::vector<int64_t> some = spread(kTilesOfImage, tiles);
    tiles_of_image = static_cast<int64_t>(some.size());
    images = std::min(all_rows / tiles, std::max<int64_t>(most_rows / tiles_of_image, 2));
    for (const int64_t image : spread(images, all_rows / tiles))
      for (const int64_t tile : some) rows.push_back(image * tiles + tile);
  }
};

/// Candidates' activations as an operand of their own; mirrored left to right, or, where a tile is one position wide,
/// with every second channel of the next image: natural images that are not in the batch.
Operand candidate_activations(const Operand& x, const Candidates& candidates, bool is_member) {
  const auto count = static_cast<int64_t>(candidates.rows.size());
  Operand out(count, x.height, x.width, x.channels);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = candidates.rows[static_cast<size_t>(i)];
    const int64_t other = candidates.rows[static_cast<size_t>((i + candidates.tiles_of_image) % count)];
    for (int64_t p = 0; p < x.positions(); ++p) {
      const int64_t mirrored = p / x.width * x.width + x.width - 1 - p % x.width;
      for (int64_t c = 0; c < x.channels; ++c) {
        if (is_member)
          out.at(i, p, c) = x.at(row, p, c);
        else
          out.at(i, p, c) = x.width > 1 ? x.at(row, mirrored, c) : x.at(c % 2 == 0 ? row : other, p, c);
      }
    }
  }
  return out;
}

/// Mean over a candidate's tiles of the squared distance to the nearest known row; `skip` says which known rows do not
/// count for an image.
template <typename Skip>
std::vector<double> distances(const Matrix& candidates, int64_t tiles_of_image, const Matrix& known, const Skip& skip) {
  const Vector lengths = known.rowwise().squaredNorm();
  std::vector<double> out(static_cast<size_t>(candidates.rows() / tiles_of_image), 0);
  Matrix products;  // of one image
  for (Eigen::Index i = 0; i < candidates.rows(); ++i) {
    const auto image = static_cast<size_t>(i / tiles_of_image);
    if (i % tiles_of_image == 0) products.noalias() = candidates.middleRows(i, tiles_of_image) * known.transpose();
    double nearest = std::numeric_limits<double>::infinity();
    for (Eigen::Index j = 0; j < known.rows(); ++j)
      if (!skip(image, j)) nearest = std::min(nearest, lengths(j) - 2 * products(i % tiles_of_image, j));
    // Rounded, so that equal signatures are equal whatever the order of summing.
    if (std::isfinite(nearest)) out[image] += std::round((nearest + candidates.row(i).squaredNorm()) * 1e12) / 1e12;
  }
  return out;
}

/// P(member's distance < non-member's), ties half.
double area_under_curve(const std::vector<double>& members, const std::vector<double>& others) {
  double wins = 0;
  for (const double m : members)
    for (const double o : others) wins += m < o ? 1 : m == o ? 0.5 : 0;
  return wins / static_cast<double>(members.size() * others.size());
}

/// X~ with its rows mixed once more, so that nothing that was in one of them is left in one.
Operand remixed(const Operand& x, const std::vector<int64_t>& rows, Random& random) {
  const auto size = x.positions() * x.channels;
  Operand out(std::min(static_cast<int64_t>(rows.size()), kRemixedRows), x.height, x.width, x.channels);
  for (int64_t i = 0; i < out.rows; ++i)
    for (int k = 0; k < 16; ++k) {
      const int64_t from = rows[random() % rows.size()];
      const float sign = random() % 2 == 0 ? 1.0F : -1.0F;
      for (int64_t j = 0; j < size; ++j)
        out.values[static_cast<size_t>(i * size + j)] += sign * x.values[static_cast<size_t>(from * size + j)];
    }
  return out;
}

/// What the attacker does: who is in the batch, by view and candidates alone.
struct Guess {
  Signature kind;
  Candidates candidates;
  Matrix members, others;         ///< signatures
  std::vector<int64_t> compared;  ///< rows of X~

  Guess(const LayerCase& layer, const Operand& activations)
      : kind(shows_unmixed_rows(layer.view.front().x) ? Signature::kZeros : Signature::kEnergy),
        candidates(layer, activations.rows, most_rows(layer)) {
    const Operand& x = layer.view.front().x;
    compared = spread(kComparedRows, x.rows);
    std::vector<int64_t> all(candidates.rows.size());
    std::iota(all.begin(), all.end(), 0);
    members = signatures(candidate_activations(activations, candidates, true), all, kind);
    others = signatures(candidate_activations(activations, candidates, false), all, kind);
  }
  template <typename Skip>
  [[nodiscard]] double area(const Matrix& known, const Skip& skip) const {
    return area_under_curve(distances(members, candidates.tiles_of_image, known, skip),
                            distances(others, candidates.tiles_of_image, known, skip));
  }

 private:
  static int64_t most_rows(const LayerCase& layer) {
    const Operand& x = layer.view.front().x;
    const auto pair = static_cast<double>((x.positions() * 3 + 8) * std::min(x.rows, kComparedRows));
    return std::clamp(static_cast<int64_t>(kBudget / pair), int64_t{64}, kCandidateRows);
  }
};

/// Chance of that guess; the comment at the head of the file says why it is not simply a half.
double chance_of(const Guess& guess, const LayerCase& layer, Random& random) {
  const Operand& x = layer.view.front().x;
  const StepTruth& truth = layer.truth.front();
  if (truth.rows_mixed >= 2 || truth.x.empty()) {
    const Operand mixed = remixed(x, guess.compared, random);
    return guess.area(signatures(mixed, spread(mixed.rows, mixed.rows), guess.kind),
                      [](size_t, Eigen::Index) { return false; });
  }
  const int64_t tiles = guess.candidates.tiles;
  const auto skip = [&](size_t image, Eigen::Index known) {
    const int64_t own = guess.candidates.rows[image * static_cast<size_t>(guess.candidates.tiles_of_image)] / tiles;
    return guess.compared[static_cast<size_t>(known)] / tiles == own;
  };
  return guess.area(signatures(truth.x, guess.compared, guess.kind), skip);
}

Finding membership(const char* target, const LayerCase& layer, const Operand& activations, Random& random) {
  const Operand& x = layer.view.front().x;
  if (x.empty()) return not_applicable(kNumber, target, "no activations were sent");
  if (activations.empty()) return not_applicable(kNumber, target, "no activations of candidates");
  if (activations.height != x.height || activations.width != x.width || activations.channels != x.channels)
    return not_applicable(kNumber, target, "candidates' activations have another shape");
  const Guess guess(layer, activations);
  const auto images = static_cast<double>(guess.candidates.images);
  if (images < 2) return not_applicable(kNumber, target, "a batch of one image");
  Finding finding =
      scored(kNumber, target, "area under the ROC curve",
             guess.area(signatures(x, guess.compared, guess.kind), [](size_t, Eigen::Index) { return false; }),
             {.mean = std::max(0.5, chance_of(guess, layer, random)), .stddev = 0});
  finding.given_truth = target == kUpperBound;
  finding.noise = std::sqrt((2 * images + 1) / (12 * images * images));
  finding.note =
      fmt::format("{} images, {} tiles of each, by {}", guess.candidates.images, guess.candidates.tiles_of_image,
                  guess.kind == Signature::kZeros ? "shares of zeros" : "shares of energy");
  return finding;
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  return {membership(kOwnModel, layer, layer.knowledge.activations, random),
          membership(kUpperBound, layer, layer.truth.front().x, random)};
}

}  // namespace
}  // namespace candidate_dictionary

const Attack kCandidateDictionary{candidate_dictionary::kNumber,
                                  "candidate dictionary",
                                  "Can a worker tell that an image it has is in the batch?",
                                  "candidate images and a model of its own",
                                  "dictionary of known inputs; zeros as a fingerprint, this project",
                                  candidate_dictionary::run};

}  // namespace tempo::audit
