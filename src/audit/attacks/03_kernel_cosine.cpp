/// Attack 3: kernel cosine.
///
/// The attacker holds W~ of a convolution with kernels of several taps, and a weight near W; for the last finding,
/// nothing. Keys act on channels, never on taps: under scaled permutations the kernel of a pair of channels is a true
/// kernel times a number, and its direction in the space of taps is in plain sight. An output channel is matched with
/// the reference's channel that has the most similar set of kernel directions (mean over its kernels of the largest
/// |cos|), then input channels kernel by kernel, then both again; scales follow from the energies of the reference and
/// signs from agreement with it.
/// Source: the attack on ShadowNet and its likes in Z. Zhang et al., "GroupCover: A Secure, Efficient and Scalable
/// Inference Framework for On-device Model Protection based on TEEs", ICML 2024: cosine per channel, then rescale.
/// Success: share of channels matched; |cos| between the recovered weight and W; share of true kernels whose direction
/// some blinded kernel has to |cos| > 0.999.
/// Chance: of a random permutation; the same procedure on W~ under fresh random orthogonal keys, with an order of
/// inputs drawn at random for a start; as many random Gaussian kernels.
/// Wide layers: the first match looks at a part of the input channels, later ones at no more than 64, evenly spaced;
/// 128 true kernels are looked for.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "audit/algebra/balancing.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace kernel_cosine {
namespace {

constexpr int kNumber = 3;
constexpr const char* kOutputOrder = "order of output channels";
constexpr const char* kInputOrder = "order of input channels";
constexpr const char* kValues = "values of W";
constexpr const char* kPlainSight = "kernel directions in plain sight";
constexpr double kSameDirection = 0.999;

std::vector<int> evenly_spaced(int64_t size, int64_t count) {
  count = std::clamp<int64_t>(count, 1, size);
  std::vector<int> chosen;
  for (int64_t i = 0; i < count; ++i) chosen.push_back(static_cast<int>(i * size / count));
  return chosen;
}

/// Unit kernels in the space of taps, grouped by one side's channels: [group][other, taps]. Zero kernels stay zero.
struct Directions {
  std::vector<Matrix> by_output, by_input;
};
Directions directions_of(const Operand& weight) {
  Directions d{std::vector<Matrix>(static_cast<size_t>(weight.rows), Matrix(weight.channels, weight.positions())),
               std::vector<Matrix>(static_cast<size_t>(weight.channels), Matrix(weight.rows, weight.positions()))};
  for (int64_t o = 0; o < weight.rows; ++o)
    for (int64_t c = 0; c < weight.channels; ++c) {
      Vector kernel(weight.positions());
      for (int64_t k = 0; k < weight.positions(); ++k) kernel[k] = weight.at(o, k, c);
      const double norm = kernel.norm();
      if (norm > 0) kernel /= norm;
      d.by_output[static_cast<size_t>(o)].row(c) = kernel.transpose();
      d.by_input[static_cast<size_t>(c)].row(o) = kernel.transpose();
    }
  return d;
}

/// Output channels by their sets of directions; needs no order of inputs.
std::vector<int> outputs_by_sets(const Directions& blinded, const Directions& reference) {
  constexpr int64_t kMultiplications = 200'000'000;
  const auto outputs = static_cast<int64_t>(blinded.by_output.size()), inputs = blinded.by_output.front().rows(),
             taps = blinded.by_output.front().cols();
  const std::vector<int> some = evenly_spaced(inputs, kMultiplications / (outputs * outputs * inputs * taps));
  Matrix similarity = Matrix::Zero(outputs, outputs);
  for (int64_t o = 0; o < outputs; ++o) {
    const Matrix theirs = reference.by_output[static_cast<size_t>(o)].transpose();
    for (const int c : some)
      similarity.col(o) += (blinded.by_input[static_cast<size_t>(c)] * theirs).cwiseAbs().rowwise().maxCoeff();
  }
  return assign(similarity / static_cast<double>(some.size()));
}

/// Channels of one side, where channel j of the other side is the reference's order[j]. `blinded` and `reference` are
/// grouped by the other side.
std::vector<int> channels_in_place(const std::vector<Matrix>& blinded, const std::vector<Matrix>& reference,
                                   const std::vector<int>& order) {
  constexpr int64_t kGroups = 64;
  Matrix similarity = Matrix::Zero(blinded.front().rows(), blinded.front().rows());
  for (const int j : evenly_spaced(static_cast<int64_t>(blinded.size()), kGroups)) {
    const auto group = static_cast<size_t>(j);
    similarity += (blinded[group] * reference[static_cast<size_t>(order[group])].transpose()).cwiseAbs();
  }
  return assign(similarity);
}

/// From a first order of the outputs to both orders.
ChannelMatch refine(const Directions& blinded, const Directions& reference, std::vector<int> outputs) {
  constexpr int kRounds = 3;
  ChannelMatch match{.rows = std::move(outputs), .columns = {}};
  for (int i = 0; i < kRounds; ++i) {
    match.columns = channels_in_place(blinded.by_output, reference.by_output, match.rows);
    std::vector<int> rows = channels_in_place(blinded.by_input, reference.by_input, match.columns);
    const bool settled = rows == match.rows;
    match.rows = std::move(rows);
    if (settled) break;
  }
  return match;
}

ChannelMatch guess_order(const Operand& blinded, const Operand& reference) {
  const Directions ours = directions_of(blinded), theirs = directions_of(reference);
  return refine(ours, theirs, outputs_by_sets(ours, theirs));
}

/// |cos| with W of what the same procedure makes of a W~ without channels.
double decoy_score(const Operand& blinded, const Operand& reference, const Operand& plain, Random& random) {
  const Operand decoy = randomly_rotated(blinded, random);
  std::vector<int> start(static_cast<size_t>(decoy.rows));
  std::iota(start.begin(), start.end(), 0);
  std::shuffle(start.begin(), start.end(), random);
  const ChannelMatch match = refine(directions_of(decoy), directions_of(reference), std::move(start));
  return absolute_cosine(fit_to_reference(decoy, reference, match), plain);
}

/// Share of the rows of `wanted` (unit vectors) that some row of `seen` is parallel to.
double share_in_sight(const Matrix& wanted, const std::vector<Matrix>& seen) {
  Vector best = Vector::Zero(wanted.rows());
  for (const Matrix& group : seen) best = best.cwiseMax((wanted * group.transpose()).cwiseAbs().rowwise().maxCoeff());
  return static_cast<double>((best.array() > kSameDirection).count()) / static_cast<double>(wanted.rows());
}

Matrix some_true_kernels(const Operand& plain) {
  constexpr int64_t kKernels = 128;
  const Directions truth = directions_of(plain);
  std::vector<Eigen::RowVectorXd> kernels;
  for (const Matrix& group : truth.by_output)
    for (Eigen::Index c = 0; c < group.rows(); ++c)
      if (group.row(c).squaredNorm() > 0) kernels.emplace_back(group.row(c));
  if (kernels.empty()) return {};
  const std::vector<int> chosen = evenly_spaced(static_cast<int64_t>(kernels.size()), kKernels);
  Matrix out(static_cast<Eigen::Index>(chosen.size()), plain.positions());
  for (size_t i = 0; i < chosen.size(); ++i)
    out.row(static_cast<Eigen::Index>(i)) = kernels[static_cast<size_t>(chosen[i])];
  return out;
}

Finding plain_sight_finding(const Operand& blinded, const Operand& plain, Random& random) {
  const Matrix wanted = plain.empty() ? Matrix() : some_true_kernels(plain);
  if (wanted.size() == 0) return not_applicable(kNumber, kPlainSight, "no kernel was recorded that is not zero");
  const Chance chance = measure_chance(5, [&] {
    Operand decoy(blinded.rows, blinded.height, blinded.width, blinded.channels);
    std::normal_distribution<float> normal;
    for (float& v : decoy.values) v = normal(random);
    return share_in_sight(wanted, directions_of(decoy).by_output);
  });
  return scored(kNumber, kPlainSight, "share of kernels whose direction is seen",
                share_in_sight(wanted, directions_of(blinded).by_output), chance);
}

void match_findings(const LayerCase& layer, int step, const Operand& plain, Random& random,
                    std::vector<Finding>& findings) {
  const Operand& blinded = layer.view[static_cast<size_t>(step)].w;
  const Operand& reference = layer.knowledge.weight;
  if (reference.empty() || !reference.same_shape(blinded)) {
    for (const char* target : {kOutputOrder, kInputOrder, kValues})
      findings.push_back(not_applicable(kNumber, target, "no weight near W is known"));
    return;
  }
  const StepTruth& truth = layer.truth[static_cast<size_t>(step)];
  const ChannelMatch guess = guess_order(blinded, reference);
  constexpr const char* kShare = "share of channels matched";
  findings.push_back(scored(kNumber, kOutputOrder, kShare,
                            share_of_channels_right(guess.rows, destinations(truth.right)),
                            permutation_chance(blinded.rows)));
  findings.push_back(scored(kNumber, kInputOrder, kShare,
                            share_of_channels_right(guess.columns, destinations(truth.inner)),
                            permutation_chance(blinded.channels)));
  if (plain.empty()) {
    findings.push_back(not_applicable(kNumber, kValues, "W was not recorded"));
    return;
  }
  const int trials = blinded.values.size() > 100'000 ? 4 : 10;
  const Chance chance = measure_chance(trials, [&] { return decoy_score(blinded, reference, plain, random); });
  Operand recovered = fit_to_reference(blinded, reference, guess);
  findings.push_back(scored(kNumber, kValues, "absolute cosine with W", absolute_cosine(recovered, plain), chance));
  findings.back().note = fmt::format("the reference alone has {:.3f}", absolute_cosine(reference, plain));
  findings.back().recovered_weight = std::move(recovered);
}

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const int step = last_weight_step(layer);
  std::vector<Finding> findings;
  if (step < 0 || layer.view[static_cast<size_t>(step)].w.positions() < 2) {
    const char* why = step < 0 ? "no weight was recorded" : "kernels of one tap have no direction";
    for (const char* target : {kOutputOrder, kInputOrder, kValues, kPlainSight})
      findings.push_back(not_applicable(kNumber, target, why));
    return findings;
  }
  const Operand plain = plain_weight(layer, step);
  match_findings(layer, step, plain, random, findings);
  findings.push_back(plain_sight_finding(layer.view[static_cast<size_t>(step)].w, plain, random));
  return findings;
}

}  // namespace
}  // namespace kernel_cosine

const Attack kKernelCosine{kernel_cosine::kNumber,
                           "kernel cosine",
                           "Do the small filters of a convolution keep their shape when they are blinded?",
                           "a weight near W; nothing, to see the kernels' directions",
                           "the attack in GroupCover: Zhang et al., ICML 2024",
                           kernel_cosine::run};

}  // namespace tempo::audit
