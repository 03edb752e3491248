// A first layer that is known.
// What the attacker has: products of X~ of the first offloaded layer, pooled over all steps that it can link
// (evidence.h); the first layer, which stays in the TEE, because it is public or was guessed; other images of the same
// kind.
// Algorithm: second moments of what the first layer makes of the other images are nearly those of X, and those of X~
// are the same under M. Eigenvectors and alternating Procrustes steps find M as in attack 13 (algebra/gram_key.h), on
// differences and products of many pairs of positions, whitened more or less strongly; the M that explains the pooled
// products best wins.
// Source: Schoenemann 1966; Umeyama 1988; own analysis.
// Success: median |cos| of rows of M, matched one to one. The weights of the first layer and its norm are handed over:
// an upper bound.
// Chance: the same guess against fresh keys (`key_finding`).
// Known to work: without decoys.
#include <fmt/format.h>

#include <algorithm>

#include "audit/algebra/gram_key.h"
#include "audit/attacks/attacks.h"
#include "audit/attacks/evidence.h"

namespace tempo::audit {
namespace known_first_layer {
namespace {

constexpr int kNumber = 25;
constexpr const char* kTarget = "M, if the first layer were known";

std::vector<Finding> run(const LayerCase& layer, Random& random) {
  const auto nothing = [](const char* why) { return std::vector{not_applicable(kNumber, kTarget, why)}; };
  if (layer.view.empty() || layer.truth.empty()) return nothing("nothing recorded");
  const Knowledge& knowledge = layer.knowledge;
  if (knowledge.first_layer_products.size() == 0)
    return nothing("the layer does not read what the first layer puts out");
  const Evidence evidence = pool_evidence(layer);
  if (evidence.products.rows() != knowledge.first_layer_products.rows()) return nothing("no products of this shape");
  if (evidence.channels < 2 || evidence.positions() < 2) return nothing("a single channel or position");

  const Matrix known = knowledge.first_layer_products / static_cast<double>(knowledge.first_layer_rows);
  Finding about;
  about.attack = kNumber;
  about.target = kTarget;
  about.given_truth = true;
  about.note = fmt::format("{} steps under {} keys", evidence.steps, evidence.keys);
  return {key_finding(std::move(about), key_between(known, evidence, random), layer.truth.front().inner, random)};
}

}  // namespace
}  // namespace known_first_layer

const Attack kKnownFirstLayer{known_first_layer::kNumber,
                              "known first layer",
                              "Does a public or guessed first layer give the first channel key away?",
                              "the first layer; other images of the same kind",
                              "Umeyama 1988; Schoenemann 1966; own analysis",
                              known_first_layer::run};

}  // namespace tempo::audit
