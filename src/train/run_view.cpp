#include "train/run_view.h"

#include <fmt/format.h>

#include <set>

#include "obfuscation/protection.h"
#include "train/config.h"

namespace tempo::train {
namespace {

using Kind = page::RunView::Kind;
using Statements = std::vector<page::RunView::Statement>;

const std::set<std::string, std::less<>> kNotShown = {"key", "data-key", "tls"};

void add_local(Statements& out) {
  out.push_back({Kind::kHidden, "Nothing is sent to a worker: the master does all the work."});
}

void add_unprotected(const BlindingOptions& blinding, Statements& out) {
  out.push_back(
      {Kind::kWarning, fmt::format("protection={} protects nobody: a worker that tries recovers weights and images.",
                                   blinding.protection)});
}

void add_orthogonal(const BlindingOptions& blinding, Statements& out) {
  out.push_back({Kind::kShown, "How the keys of successive steps differ: new keys do not separate steps."});
  out.push_back(
      {Kind::kWarning,
       "A worker that records some twenty to a hundred steps finds the key of a layer's output channels where a batch "
       "norm follows, and the key of its input channels in some narrow layers. A training is not protected against "
       "such a worker. One that knows the plain activations of a step finds part of the keys (protection=rotated)."});
  if (blinding.decoys == 0)
    out.push_back({Kind::kWarning,
                   "Without decoys, statistics of mixed rows are those of real rows alone: separation needs far fewer "
                   "steps (decoys=0)."});
}

void add_oblique(const BlindingOptions& blinding, Statements& out) {
  out.push_back({Kind::kWarning,
                 "The scheme of these matrices is young. No attack on it is known, and nothing is proven "
                 "(protection=oblique)."});
  if (blinding.reuse == Reuse::kFull || blinding.reuse == Reuse::kFresh)
    out.push_back({Kind::kWarning,
                   fmt::format("Keys are the same in both directions of a step, so those of successive steps can be "
                               "linked: a worker that records many steps may find them (reuse={}).",
                               to_string(blinding.reuse))});
  if (blinding.conv_tile != 1)
    out.push_back({Kind::kWarning,
                   "All taps of a kernel have one key, so those of successive steps can be linked: a worker that "
                   "records many steps may find them (conv-tile)."});
}

void add_protected(const RunConfig& config, const obfuscation::Protection& protection, Statements& out) {
  const BlindingOptions& blinding = config.blinding;
  out.push_back({Kind::kHidden,
                 "Single values, zeros, signs and directions of activations, weights and gradients of the layers that "
                 "workers compute: they are blinded with secret matrices."});
  if (protection.is_orthogonal())
    add_orthogonal(blinding, out);
  else
    add_oblique(blinding, out);
  if (blinding.weights == WeightPlacement::kResident)
    out.push_back(
        {Kind::kShown, fmt::format("Learning rate, momentum, weight decay, the scale of clipping, and the true norm of "
                                   "every weight gradient. A weight's path over {} steps under one rotation "
                                   "(weights=resident).",
                                   blinding.rekey_interval)});
  if (blinding.row_rounds > 0)
    out.push_back(
        {Kind::kShown, fmt::format("With fewer rounds of row mixing than auto chooses, rows are mixed in part only "
                                   "(row-rounds={}).",
                                   blinding.row_rounds)});
  if (blinding.conv_tile == 0)
    out.push_back({Kind::kShown, "Rows are whole images: few rows to mix, and their layout stays (conv-tile=full)."});
  if (blinding.reuse == Reuse::kFull)
    out.push_back({Kind::kShown, "The inner product of each operand with its own gradient (reuse=full)."});
}

void add_start(const RunConfig& config, Statements& out) {
  if (!config.init.empty())
    out.push_back({Kind::kWarning,
                   "The run starts from given weights. If they are public, a worker that knows them can solve for the "
                   "keys (init)."});
  else if (config.seed)
    out.push_back(
        {Kind::kWarning,
         "Initial weights and the order of data follow from the seed by a public rule: whoever knows or guesses "
         "it can solve for the keys (seed)."});
}

void add_integrity(const RunConfig& config, Statements& out) {
  if (config.integrity == "off")
    out.push_back({Kind::kWarning,
                   "Results of workers are not verified: a worker can train a model of its choice, or one with a back "
                   "door (integrity=off)."});
  else if (config.integrity != "always")
    out.push_back(
        {Kind::kWarning, fmt::format("Only a share of the results is verified (integrity={}).", config.integrity)});
  if (config.blinding.weights == WeightPlacement::kResident && config.clip_norm > 0)
    out.push_back(
        {Kind::kWarning, "The norms that decide over clipping come from the worker, which may lie (clip-norm)."});
}

void add_transport(const RunConfig& config, Statements& out) {
  if (config.workers.find("insecure://") != std::string::npos)
    out.push_back(
        {Kind::kWarning, "The network between master and workers reads along what workers see (insecure://)."});
  if (config.workers.find("inprocess:") != std::string::npos)
    out.push_back(
        {Kind::kWarning,
         "The worker runs in the master's own process: it is given blinded operands only, but nothing isolates "
         "it (inprocess:)."});
  if (config.gradient_sum == GradientSum::kWorkers)
    out.push_back({Kind::kWarning,
                   "Workers send each other blinded gradients without encryption: the network between them reads them "
                   "along and can alter them (gradient-sum=workers)."});
}

}  // namespace

Statements what_workers_learn(const RunConfig& config) {
  Statements out;
  if (config.workers == "local") {
    add_local(out);
  } else {
    out.push_back({Kind::kHidden,
                   "Images, labels, losses, biases, parameters of normalisation, and the operands of the first and the "
                   "last layer: workers are not sent them."});
    const auto protection = obfuscation::make_protection(config.blinding);
    if (protection->protects())
      add_protected(config, *protection, out);
    else
      add_unprotected(config.blinding, out);
    out.push_back({Kind::kShown, std::string(protection->leak())});
    out.push_back({Kind::kShown,
                   "The architecture of the layers that workers compute, the batch size, the order of operations, the "
                   "number of steps, and timing."});
    add_start(config, out);
    add_integrity(config, out);
    add_transport(config, out);
  }
  out.push_back(
      {Kind::kWarning,
       "The program does not check that the master runs in a trusted environment. Outside of one, whoever runs "
       "its machine sees everything. Side channels of such environments are out of scope."});
  return out;
}

page::RunView view_of(const RunConfig& config) {
  page::RunView view;
  view.name = config.out.empty() ? config.model : config.out;
  for (const Field& field : fields()) {
    const std::string value = field.get(config);
    if (value.empty() || kNotShown.contains(field.name)) continue;
    view.settings.emplace_back(field.name, field.name == "seed" ? "set; not shown" : value);
  }
  view.statements = what_workers_learn(config);
  return view;
}

}  // namespace tempo::train
