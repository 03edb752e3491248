/// A made-up audit of the size of a real one, for tests of the report. None of these numbers was measured.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "audit/attack.h"
#include "audit/results.h"

namespace tempo::audit::testing {

inline constexpr const char* kDefaultName = "rotated resident tile 4";

inline std::span<const Attack> sample_attacks() {
  static const std::array<Attack, 15> kAttacks = [] {
    constexpr std::array<const char*, 15> kNames = {
        "equilibrate and match", "direction match",      "kernel cosine",
        "scalar ratio",          "Procrustes",           "scale cancellation",
        "zero pattern",          "integer scales",       "label clusters",
        "structure anchors",     "key linking",          "blind source separation",
        "Gram alignment",        "candidate dictionary", "layer linking"};
    std::array<Attack, 15> attacks{};
    for (size_t i = 0; i < attacks.size(); ++i)
      attacks[i] = {static_cast<int>(i + 1),
                    kNames[i],
                    "Can the worker find out which channel is which?",
                    "a model of the same architecture",
                    "Made & Up, 2024",
                    nullptr};
    return attacks;
  }();
  return kAttacks;
}

inline std::vector<SettingResult> sample_settings() {
  return {{"none", "--protection none --allow-unprotected", false, 0.011, 0, 610e3},
          {"paper", "--protection permuted --coefficients positive-integer --weights returned", false, 0.016, 0.0021,
           840e3},
          {"permuted signed", "--protection permuted --coefficients signed-real", false, 0.016, 0.0022, 840e3},
          {"permuted fresh", "--protection permuted --reuse fresh", false, 0.018, 0.0031, 990e3},
          {"rotated returned", "--protection rotated --weights returned", false, 0.019, 0.0036, 840e3},
          {kDefaultName, "--protection rotated --weights resident --conv-tile 4", true, 0.017, 0.003, 700e3},
          {"rotated resident tile full", "--protection rotated --weights resident --conv-tile full", false, 0.015,
           0.0024, 520e3},
          {"rotated rekey 1000", "--protection rotated --rekey-interval 1000", false, 0.0165, 0.003, 700e3}};
}

/// A finding with a score that depends on the setting: high without blinding, at chance under rotation.
inline FindingResult sample_finding(size_t setting, const std::string& name, const std::string& start,
                                    const std::string& layer, int attack) {
  FindingResult finding;
  finding.setting = name;
  finding.start = start;
  finding.layer = layer;
  finding.attack = attack;
  finding.target = attack % 2 == 1 ? "order of output channels" : "directions of input channels";
  finding.measure = "share of channels matched";
  finding.seconds = 0.25 * attack;
  if (attack == 8 && setting != 1) {
    finding.applicable = false;
    finding.measure.clear();
    finding.note = "coefficients are not integers";
    return finding;
  }
  finding.chance = 0.02 * (attack % 5) + 0.015625;
  finding.noise = 0.01;
  const double wins = setting == 0                       ? 1.0
                      : setting <= 3                     ? 0.08 * (attack % 8)
                      : start == "public" && attack == 5 ? 0.9
                                                         : 0;
  finding.score = finding.chance + wins * (1 - finding.chance) + 0.001 * (layer.back() - '0');
  finding.score = std::min(1.0, finding.score);
  finding.beats_chance = finding.score > finding.chance + 3 * finding.noise;
  if (attack == 12) finding.steps_to_win = 1000.0 * std::pow(4.0, static_cast<double>(setting)) + 0.1;
  return finding;
}

/// The default setting is at chance under a secret start.
inline AuditResults sample_results() {
  AuditResults results;
  results.version = "0.9.0";
  results.command = "tempo-audit run --victim small --out audit.json";
  results.date = "2025-03-14T09:26:53Z";
  results.machine = "AMD EPYC 9354, 16 cores";
  results.victim = {
      "resnet20", "CIFAR-10", 50000, 10000, 3910, 64, 0.8127, {"layer1.conv1", "layer2.conv2", "layer3.conv3"}, 30};
  results.settings = sample_settings();
  for (size_t s = 0; s < results.settings.size(); ++s) {
    const std::string& name = results.settings[s].name;
    for (const char* start : {"secret", "public"})
      for (const std::string& layer : results.victim.layers)
        for (int attack = 1; attack <= 15; ++attack)
          results.findings.push_back(sample_finding(s, name, start, layer, attack));
    FindingResult label = sample_finding(0, name, "secret", "classifier0", 9);
    label.target = "labels of the batch";
    label.counterfactual = true;
    results.findings.push_back(label);
    for (const std::string& layer : results.victim.layers) {
      PoolingCurve curve{name, layer, {}, {}, 0.31};
      for (int steps = 1; steps <= 120; steps *= 3) {
        curve.steps.push_back(steps);
        curve.score.push_back(s < 4 ? std::min(1.0, 0.5 + 0.1 * std::log2(steps))
                                    : 0.3 + 0.004 * std::log2(steps) * static_cast<double>(s));
      }
      results.pooling.push_back(curve);
      results.information.push_back({name, layer, 41234.5, 300 + 0.1, 296, s == 0 ? 3.2 : 0.0123, 4096, 1365.5, 21});
    }
  }
  for (const char* budget : {"50 queries", "500 queries", "5% of the training data"}) {
    const double black = budget[0] == '5' && budget[1] == '%' ? 0.58 : budget[2] == '0' ? 0.47 : 0.31;
    results.surrogates.push_back({"black box", budget, black, black + 0.02, 0.3, 0.52});
    for (size_t s = 0; s < results.settings.size(); ++s)
      results.surrogates.push_back({results.settings[s].name, budget,
                                    s == 0  ? 0.79
                                    : s < 4 ? black + 0.1
                                            : black + 0.01,
                                    0.6, 0.4, 0.53});
    results.surrogates.push_back({"white box", budget, 0.8127, 1, 0.98, 0.61});
  }
  results.tampering = {{0, 0.41, 0.8127},
                       {1e-6, 0.41, 0.8119},
                       {1e-4, 0.42, 0.8101, true},
                       {1e-2, 0.7, 0.74, true},
                       {1, 2.3, 0.1, true}};
  return results;
}

/// The finding of one attack under the default setting and a secret start, to be changed by a test.
inline FindingResult& default_finding(AuditResults& results, int attack) {
  return *std::find_if(results.findings.begin(), results.findings.end(), [attack](const FindingResult& finding) {
    return finding.setting == kDefaultName && finding.start == "secret" && finding.attack == attack;
  });
}

/// Makes it beat chance.
inline void make_leak(FindingResult& finding, double score) {
  finding.score = score;
  finding.beats_chance = true;
}

}  // namespace tempo::audit::testing
