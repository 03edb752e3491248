// Attack 12: blind source separation of blinded activations.
//
// Has: X~ of one step, of all steps under one key M, or of steps whose keys it relates through their weights.
// Channels: a sample of X~ (one row, one position) is s M, where s mixes K plain samples. Plain channels are sparse, so
// s is less Gaussian along the rows of M than along any other direction, and FastICA (Hyvarinen, 1999) finds those.
// Mixing divides the excess kurtosis by K; pooling the steps for which M lives makes up for it, and for the steps after
// which it does there is an extrapolation (pooling.h). The number of samples is capped at what a second of one core
// allows, so a measured score is a lower bound of what a patient worker gets; steps_to_win has no such cap. It counts
// all rows x neighbouring pairs of a step as independent samples: too many, so it errs towards few steps to win.
// Linked steps: with new keys every step, W~_t and W~_0 are the same weight but for the drift, and aligning them gives
// M_t^T M_0 (algebra/alignment.h), which turns the samples of step t under the key of step 0.
// Weight gradients: dW~ = M^T dW R is mixed by R alone, over the output channels; its columns are pooled likewise.
// Rows: a row of X~ mixes rows of X M. Natural rows differ in how they vary over the tile, so their autocovariances
// over spatial shifts are L D L^T, all diagonal together (SOBI: Belouchrani et al., 1997).
//
// Success: median |cos| of recovered and true directions, matched one to one by the Hungarian method; of recovered rows
// and the nearest plain row under M. Chance: random orthogonal directions in place of the truth, or, where larger, the
// guess that M is the identity (its directions, not its order, are public under permuted keys); for rows, random
// orthogonal combinations of X~, or, where larger, the guess against mirrored plain rows.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "audit/algebra/alignment.h"
#include "audit/algebra/matching.h"
#include "audit/algebra/separation.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/pooling.h"
#include "audit/information.h"

namespace tempo::audit {
namespace blind_source_separation {
namespace {

constexpr int kNumber = 12;
constexpr double kWin = 0.9;
constexpr int64_t kSamples = 60'000, kPooledSamples = 120'000;
constexpr int64_t kMostRows = 256, kScoredRows = 64;

constexpr const char* kOneStep = "channel directions, one step";
constexpr const char* kOneKey = "channel directions, all steps of one key";
constexpr const char* kLinked = "channel directions, linked steps";
constexpr const char* kGradients = "channel directions, from weight gradients";
constexpr const char* kRows = "plain rows, by spatial statistics";

// --- Channels -------------------------------------------------------------------------------------------------------

Finding directions_finding(const char* target, const Matrix& guess, const Matrix& inner, Random& random) {
  Chance chance = direction_chance(guess, random, guess.cols() > 128 ? 5 : 20);
  const Matrix identity = Matrix::Identity(inner.rows(), inner.cols());
  chance.mean = std::max(chance.mean, match_directions(identity, inner).median_cosine);
  Finding finding = scored(kNumber, target, "median |cosine| of matched directions",
                           match_directions(guess, inner).median_cosine, chance);
  if (finding.chance > 0.999) finding.note = "keys keep channel directions: there is nothing to separate";
  return finding;
}

struct Guess {
  Matrix directions;
  int64_t samples = 0;
};

Guess guess_directions(const std::vector<PooledStep>& steps, int64_t most, double patience, Random& random) {
  const auto affordable = static_cast<int64_t>(patience * static_cast<double>(most));
  const Matrix samples = separation_samples(steps, affordable, random, patience);
  return {channel_directions(samples, random, patience), samples.rows()};
}

/// Smallest number of pooled steps that wins, doubling; `all` are known to.
double steps_that_won(const std::vector<PooledStep>& all, const LayerCase& layer, Random& random) {
  for (size_t count = 1; count < all.size(); count *= 2) {
    const std::vector<PooledStep> some(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
    const Matrix guess = guess_directions(some, kPooledSamples, layer.patience, random).directions;
    if (match_directions(guess, layer.truth.front().inner).median_cosine >= kWin) return static_cast<double>(count);
  }
  return static_cast<double>(all.size());
}

/// Extrapolated, and never fewer than what was pooled in vain. @param mixed plain samples in one blinded sample
double steps_by_model(const Operand& plain, double mixed, int64_t samples_a_step, int64_t samples_used,
                      Random& random) {
  const double kurtosis = excess_kurtosis(separation_samples({{&plain, {}}}, kSamples, random));
  const double needed = samples_to_win(plain.channels, mixed, kurtosis);
  const auto per_step = static_cast<double>(samples_a_step);
  return std::max(std::ceil(needed / per_step), std::floor(static_cast<double>(samples_used) / per_step) + 1);
}

/// Under orthogonal keys  W_k = R W~_k M^T. An oracle gives the order and the signs of both guesses.
Matrix in_plain_order(const Matrix& guess, const Matrix& truth) {
  const DirectionMatch match = match_directions(guess, truth);
  Matrix ordered = Matrix::Zero(truth.rows(), truth.cols());
  for (Eigen::Index i = 0; i < guess.rows(); ++i) {
    const int row = match.truth_of[static_cast<size_t>(i)];
    if (row < 0) continue;
    const double sign = guess.row(i).dot(truth.row(row)) < 0 ? -1 : 1;
    ordered.row(row) = sign * guess.row(i);
  }
  return nearest_orthogonal(ordered);
}

/// The out side is separated from Y~ = L Y R in the same way. Made only for a guess that is better than chance.
class WeightRecovery {
 public:
  void fill(Finding& finding, const LayerCase& layer, const Matrix& inner_guess, Random& random) {
    const StepView& view = layer.view.front();
    if (!finding.beats_chance() || view.y.empty() || view.w.empty()) return;
    const StepTruth& truth = layer.truth.front();
    if (right_.size() == 0) {
      const Matrix guess = channel_directions(separation_samples({{&view.y, {}}}, kSamples, random), random);
      if (guess.rows() == 0) return;
      right_ = in_plain_order(guess, truth.right);
    }
    finding.recovered_weight = transform(right_, view.w, in_plain_order(inner_guess, truth.inner).transpose());
  }

 private:
  Matrix right_;  ///< made once: it is the same for all findings
};

Finding pooled_finding(const char* target, const LayerCase& layer, const std::vector<PooledStep>& steps,
                       const Guess& guess, Random& random) {
  const Matrix& inner = layer.truth.front().inner;
  Finding finding = directions_finding(target, guess.directions, inner, random);
  if (finding.chance >= kWin) return finding;
  const bool has_won = finding.score >= kWin;
  const StepTruth& truth = layer.truth.front();
  const Operand& plain = truth.x.empty() ? layer.view.front().x : truth.x;
  finding.steps_to_win = has_won ? steps_that_won(steps, layer, random)
                                 : steps_by_model(plain, truth.rows_mixed,
                                                  separation_sample_count(layer.view.front().x), guess.samples, random);
  finding.note = fmt::format("{} steps, {} samples pooled; steps to win are {}", steps.size(), guess.samples,
                             has_won ? "measured" : "extrapolated");
  return finding;
}

// --- Linked steps ---------------------------------------------------------------------------------------------------

std::vector<Matrix> taps_of(const Operand& w) {
  std::vector<Matrix> taps;
  for (int64_t k = 0; k < w.positions(); ++k) taps.push_back(w.at_position(k));
  return taps;
}

/// Every step's samples, turned under the key of step 0 as the attacker aligns it. Alignments are slow, so no more keys
/// than a second or two allow; the earliest, since the weight drifts away from that of step 0.
std::vector<PooledStep> linked_steps(const LayerCase& layer) {
  const auto side = static_cast<double>(std::max(layer.in(), layer.out()));
  auto keys_left = static_cast<int>(std::clamp(4e6 / (side * side * side), 1.0, 5.0));
  const std::vector<Matrix> first = taps_of(layer.view.front().w);
  std::vector<PooledStep> steps{{&layer.view.front().x, {}}};
  for (size_t t = 1; t < layer.view.size(); ++t) {
    const StepView& view = layer.view[t];
    if (view.x.empty() || !view.w.same_shape(layer.view.front().w)) continue;
    PooledStep step{&view.x, {}};
    if (same_key(layer.truth[t].inner, layer.truth[t - 1].inner)) {
      step.turn = steps.back().turn;
    } else {
      if (keys_left-- == 0) break;
      step.turn = align_orthogonal(taps_of(view.w), first, 30).right;
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

Finding linked_finding(const LayerCase& layer, WeightRecovery& weights, Random& random) {
  if (layer.view.size() < 2) return not_applicable(kNumber, kLinked, "one step was recorded");
  if (steps_under_first_key(layer).size() == layer.view.size())
    return not_applicable(kNumber, kLinked, "all recorded steps share their keys");
  if (layer.view.front().w.empty()) return not_applicable(kNumber, kLinked, "no weight was sent");
  const std::vector<PooledStep> steps = linked_steps(layer);
  const Guess guess = guess_directions(steps, kPooledSamples, layer.patience, random);
  Finding finding = pooled_finding(kLinked, layer, steps, guess, random);
  weights.fill(finding, layer, guess.directions, random);
  return finding;
}

// --- Weight gradients ------------------------------------------------------------------------------------------------

/// One sample for every output channel and tap.
Operand as_samples(const Operand& w) {
  Operand flat = w;
  flat.rows = w.rows * w.positions();
  flat.height = flat.width = 1;
  return flat;
}

/// dW~ = M^T dW R: no left key mixes it, only R over the output channels. Its columns are samples too.
Finding gradient_finding(const LayerCase& layer, Random& random) {
  const StepTruth& truth = layer.truth.front();
  if (layer.view.front().dw.empty() || truth.dw.empty())
    return not_applicable(kNumber, kGradients, "no weight gradient was recorded");
  if (!layer.view.front().x_again.empty())
    return not_applicable(kNumber, kGradients, "weight gradients have keys of their own under reuse=none");
  std::vector<Operand> gradients;
  for (size_t t = 0; t < layer.view.size(); ++t)
    if (!layer.view[t].dw.empty() && same_key(layer.truth[t].inner, truth.inner))
      gradients.push_back(as_samples(layer.view[t].dw));
  std::vector<PooledStep> steps;
  for (const Operand& gradient : gradients) steps.push_back({&gradient, {}});
  const Guess guess = guess_directions(steps, kPooledSamples, layer.patience, random);
  if (guess.directions.rows() == 0) return not_applicable(kNumber, kGradients, "weight gradients do not vary");
  Finding finding = directions_finding(kGradients, guess.directions, truth.inner, random);
  if (finding.chance < kWin && finding.score < kWin)
    finding.steps_to_win = steps_by_model(as_samples(truth.dw), effective_count(truth.right), gradients.front().rows,
                                          guess.samples, random);
  finding.note = fmt::format("{} steps, {} samples", steps.size(), guess.samples);
  return finding;
}

// --- Rows -----------------------------------------------------------------------------------------------------------

/// Some channels of some rows, each less its mean over the tile: [rows, positions * channels]. Linear in the rows, so
/// it commutes with L; and the mean would be common to all rows.
struct RowSample {
  int64_t rows, channels;
  [[nodiscard]] int64_t channel(int64_t i, int64_t of) const { return i * of / channels; }

  [[nodiscard]] Matrix centred(Matrix values, int64_t positions) const {
    for (Eigen::Index r = 0; r < values.rows(); ++r) {
      Eigen::Map<Matrix> tile(values.row(r).data(), positions, channels);
      tile.rowwise() -= tile.colwise().mean().eval();
    }
    return values;
  }
  [[nodiscard]] Matrix of_view(const Operand& x) const {
    Matrix values(rows, x.positions() * channels);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t p = 0; p < x.positions(); ++p)
        for (int64_t i = 0; i < channels; ++i) values(r, p * channels + i) = x.at(r, p, channel(i, x.channels));
    return centred(std::move(values), x.positions());
  }
  /// The same of X M, for scoring.
  [[nodiscard]] Matrix of_truth(const Operand& x, const Matrix& inner) const {
    Matrix some(inner.rows(), channels);
    for (int64_t i = 0; i < channels; ++i) some.col(i) = inner.col(channel(i, inner.cols()));
    Matrix values(rows, x.positions() * channels);
    for (int64_t p = 0; p < x.positions(); ++p)
      values.middleCols(p * channels, channels) = x.at_position(p).topRows(rows) * some;
    return centred(std::move(values), x.positions());
  }
};

/// sum over positions and channels of x[:, p] x[:, p + shift]^T.
Matrix shifted_covariance(const Matrix& x, int64_t height, int64_t width, int64_t dy, int64_t dx) {
  const int64_t channels = x.cols() / (height * width), run = (width - dx) * channels;
  Matrix from(x.rows(), (height - dy) * run), to(from.rows(), from.cols());
  for (int64_t y = 0; y + dy < height; ++y) {
    from.middleCols(y * run, run) = x.middleCols(y * width * channels, run);
    to.middleCols(y * run, run) = x.middleCols(((y + dy) * width + dx) * channels, run);
  }
  return from * to.transpose();
}

struct RowGuess {
  Matrix white, unmixed;  ///< white rows of X~, and what the separation makes of them
};

RowGuess separate_rows(const Matrix& x, int64_t height, int64_t width) {
  // Rows are the unknown sources here, so (position, channel) pairs are the samples.
  const Matrix white = whiten(x.transpose(), 1e-6).samples.transpose();
  std::vector<Matrix> covariances;
  for (const auto& [dy, dx] : {std::pair{0, 1}, {1, 0}, {1, 1}, {0, 2}, {2, 0}})
    if (dy < height && dx < width) covariances.push_back(shifted_covariance(white, height, width, dy, dx));
  if (white.rows() == 0 || covariances.empty()) return {white, white};
  const Matrix v = joint_diagonaliser(std::move(covariances), 8);
  return {white, v.transpose() * white};
}

struct RowScore {
  double median = 0;  ///< over some of the guessed rows, of |cos| with the nearest true one
  double error = 0;   ///< standard error of that median, were it of normal values
};

RowScore nearest_row_score(const Matrix& guess, const Matrix& truth) {
  const Eigen::Index count = std::min<Eigen::Index>(guess.rows(), kScoredRows);
  if (count == 0) return {};
  Matrix some(count, guess.cols());
  for (Eigen::Index i = 0; i < count; ++i) some.row(i) = guess.row(i * guess.rows() / count);
  Vector best = absolute_cosines(some, truth).rowwise().maxCoeff();
  std::sort(best.data(), best.data() + count);
  const double deviation = std::sqrt((best.array() - best.mean()).square().mean());
  return {best(count / 2), 1.25 * deviation / std::sqrt(static_cast<double>(count))};
}

/// Rows turned left to right or upside down: as natural as the true ones, but other rows.
Matrix mirrored(const Matrix& rows, int64_t height, int64_t width, bool turn_x, bool turn_y) {
  const int64_t channels = rows.cols() / (height * width);
  Matrix out(rows.rows(), rows.cols());
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      const int64_t from = (turn_y ? height - 1 - y : y) * width + (turn_x ? width - 1 - x : x);
      out.middleCols((y * width + x) * channels, channels) = rows.middleCols(from * channels, channels);
    }
  return out;
}

/// Two kinds of decoys, the better of which counts: random orthogonal combinations of X~ against the true rows, and the
/// guess itself against mirrored rows. The second knows that a separation, right or wrong, likes smooth rows.
Chance row_chance(const RowGuess& guess, const Matrix& plain, const Operand& x, Random& random) {
  const Chance rotated = measure_chance(
      3, [&] { return nearest_row_score(random_orthogonal(guess.white.rows(), random) * guess.white, plain).median; });
  std::vector<std::pair<bool, bool>> turns;
  if (x.width > 1) turns.emplace_back(true, false);
  if (x.height > 1) turns.emplace_back(false, true);
  if (x.width > 1 && x.height > 1) turns.emplace_back(true, true);
  size_t next = 0;
  const Chance turned = measure_chance(static_cast<int>(turns.size()), [&] {
    const auto [turn_x, turn_y] = turns[next++];
    return nearest_row_score(guess.unmixed, mirrored(plain, x.height, x.width, turn_x, turn_y)).median;
  });
  return {std::max(rotated.mean, turned.mean), std::max(rotated.stddev, turned.stddev)};
}

Finding rows_finding(const LayerCase& layer, Random& random) {
  const StepView& view = layer.view.front();
  const StepTruth& truth = layer.truth.front();
  const int64_t positions = view.x.positions();
  if (positions == 1) return not_applicable(kNumber, kRows, "a tile has one position");
  if (truth.x.empty()) return not_applicable(kNumber, kRows, "no plain rows to score against");
  // Enough (position, channel) pairs for the statistics, in less than a second; fewer where many rows are scored.
  const int64_t rows = std::min(view.x.rows, kMostRows);
  const double columns = view.x.rows > 4096        ? 300
                         : view.x.rows > kMostRows ? 600
                                                   : std::min(2e8 / static_cast<double>(rows * rows), 16384.0);
  const int64_t channels = std::clamp(static_cast<int64_t>(columns) / positions, int64_t{1}, view.x.channels);
  const Matrix blinded = RowSample{rows, channels}.of_view(view.x);
  RowGuess guess = separate_rows(blinded, view.x.height, view.x.width);
  if (guess.white.rows() == 0) return not_applicable(kNumber, kRows, "blinded activations do not vary over the tile");

  const bool is_open = shows_unmixed_rows(view.x);
  if (is_open) guess.unmixed = blinded;

  const Matrix plain = RowSample{truth.x.rows, channels}.of_truth(truth.x, truth.inner);
  const RowScore score = nearest_row_score(guess.unmixed, plain);
  Chance chance = row_chance(guess, plain, view.x, random);
  chance.stddev = std::max(chance.stddev, score.error);
  Finding finding = scored(kNumber, kRows, "median |cosine| with the nearest plain row, channels still blinded",
                           score.median, chance);
  finding.note = fmt::format("{} of {} rows, {}", rows, view.x.rows,
                             is_open ? "taken as they lie: zeros show that rows are not mixed" : "separated");
  return finding;
}

// --- The attack -----------------------------------------------------------------------------------------------------

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const StepView& view = layer.view.front();
  const Matrix& inner = layer.truth.front().inner;
  const auto nothing = [&](const char* why) {
    std::vector<Finding> findings;
    for (const char* target : {kOneStep, kOneKey, kLinked, kRows, kGradients})
      findings.push_back(not_applicable(kNumber, target, why));
    return findings;
  };
  if (view.x.empty() || inner.size() == 0) return nothing("no activations were sent");
  const Guess one = guess_directions({{&view.x, {}}}, kSamples, layer.patience, random);
  if (one.directions.rows() == 0) return nothing("blinded activations do not vary");
  std::vector<Finding> findings{directions_finding(kOneStep, one.directions, inner, random)};

  WeightRecovery weights;
  const std::vector<PooledStep> steps = steps_under_first_key(layer);
  const Guess pooled = steps.size() == 1 ? one : guess_directions(steps, kPooledSamples, layer.patience, random);
  findings.push_back(pooled_finding(kOneKey, layer, steps, pooled, random));
  weights.fill(findings.back(), layer, pooled.directions, random);
  findings.push_back(linked_finding(layer, weights, random));
  findings.push_back(rows_finding(layer, random));
  findings.push_back(gradient_finding(layer, random));
  return findings;
}

}  // namespace
}  // namespace blind_source_separation

const Attack kBlindSourceSeparation{blind_source_separation::kNumber,
                                    "blind source separation",
                                    "Do statistics of the blinded activations, over one or many steps, undo the keys?",
                                    "nothing; for linked steps, that the weight changes little from step to step",
                                    "Hyvarinen, 1999 (FastICA); Belouchrani et al., 1997 (SOBI)",
                                    blind_source_separation::run};

}  // namespace tempo::audit
