/// Attack 2: direction match.
///
/// The attacker holds W~ and a public weight near W. Every output channel is one vector, all taps and inputs of it; a
/// blinded vector is matched with the public vector of the most similar direction, one to one. That undoes keys that
/// permute and scale whole vectors and nothing else. A second try sorts the magnitudes within each vector first, so an
/// unknown order of inputs does not hinder it; scales of inputs do.
/// Source: ArrowMatch, in P. Wang et al., "Game of Arrows: On the (In-)Security of Weight Obfuscation for On-Device
/// TEE-Shielded LLM Partition Algorithms", USENIX Security 2025.
/// Success: share of output channels matched right. Chance: of a random permutation.
#include <algorithm>
#include <cmath>

#include "audit/algebra/balancing.h"
#include "audit/algebra/matching.h"
#include "audit/attacks/attacks.h"

namespace tempo::audit {
namespace direction_match {
namespace {

constexpr int kNumber = 2;
constexpr const char* kDirect = "order of output channels, by direction";
constexpr const char* kSorted = "order of output channels, by sorted values";

std::vector<int> guess_by_direction(const Operand& blinded, const Operand& reference) {
  return match_directions(blinded.by_row(), reference.by_row()).truth_of;
}

Matrix sorted_magnitudes(const Operand& weight) {
  Matrix rows = weight.by_row().cwiseAbs();
  for (Eigen::Index i = 0; i < rows.rows(); ++i) std::sort(rows.row(i).data(), rows.row(i).data() + rows.cols());
  return rows;
}

std::vector<int> guess_by_sorted_values(const Operand& blinded, const Operand& reference) {
  return match_directions(sorted_magnitudes(blinded), sorted_magnitudes(reference)).truth_of;
}

Finding order_finding(const char* target, const std::vector<int>& guess, const Matrix& right) {
  return scored(kNumber, target, "share of channels matched", share_of_channels_right(guess, destinations(right)),
                permutation_chance(right.rows()));
}

std::vector<Finding> run(const LayerCase& layer, Random&) {
  const int step = last_weight_step(layer);
  const Operand& reference = layer.knowledge.weight;
  if (step < 0 || reference.empty() || !reference.same_shape(layer.view[static_cast<size_t>(step)].w)) {
    const char* why = step < 0 ? "no weight was recorded" : "no weight near W is known";
    return {not_applicable(kNumber, kDirect, why), not_applicable(kNumber, kSorted, why)};
  }
  const Operand& blinded = layer.view[static_cast<size_t>(step)].w;
  const Matrix& right = layer.truth[static_cast<size_t>(step)].right;
  return {order_finding(kDirect, guess_by_direction(blinded, reference), right),
          order_finding(kSorted, guess_by_sorted_values(blinded, reference), right)};
}

}  // namespace
}  // namespace direction_match

const Attack kDirectionMatch{direction_match::kNumber,
                             "direction match",
                             "Do blinded weights still point the way the public ones do?",
                             "a public weight near W",
                             "ArrowMatch: Wang et al., Game of Arrows, USENIX Security 2025",
                             direction_match::run};

}  // namespace tempo::audit
