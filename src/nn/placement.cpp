#include "nn/placement.h"

#include <fmt/format.h>

#include <cmath>
#include <unordered_map>

#include "nn/layers.h"
#include "nn/probe.h"
#include "offload/decoys.h"
#include "tempo/error.h"

namespace tempo::nn {
namespace {

constexpr double kForwardAndBackward = 3;  // y, dx and dw cost the same
constexpr int64_t kProbeImages = 2;
// Bytes that element-wise work around one product moves, per output element: batch statistics, normalisation,
// activation, sum, and their gradients, in float32.
constexpr double kElementwiseBytesPerOutput = 4.0 * 14;

/// The number of elements of each operand of a step, on the wire.
struct OperandSizes {
  double x = 0, w = 0, y = 0;
  double plain_x = 0, plain_y = 0;  // without halos and decoys
  double rows = 0, weight_rows = 0;
  double decoys = 0;      // rows of noise, as a share of the real rows
  double key_sets = 1;    // number of key sets; a batched product has one for every item
  bool is_weight = true;  // w is a weight, not an activation
  bool is_convolution = false;
};

/// How operands are blinded.
struct Blinding {
  const BlindingOptions& options;
  const obfuscation::Protection& protection;
};

/// CPU seconds of verification. If keys only permute and tiles have no halo, it happens while operands are blinded and
/// un-blinded.
double seconds_to_verify(const OperandSizes& sizes, const Blinding& blinding, bool resident,
                         const MachineModel& machine) {
  if (!machine.verifies) return 0;
  const bool on_the_way =
      blinding.protection.fits_taps() && sizes.decoys == 0 && sizes.x <= sizes.plain_x && sizes.is_weight;
  if (on_the_way) return 2 * (sizes.x + sizes.y) * machine.tee.verify_on_the_way_seconds;
  // Verification reads all four operands once, dy once more for the gradient of a weight, and x once more if a resident
  // weight is followed.
  return ((resident ? 3 : 2) * sizes.plain_x + 3 * sizes.plain_y) * machine.tee.verify_seconds;
}

void add_costs(LayerPlan& layer, OperandSizes sizes, const Blinding& blinding, const MachineModel& machine) {
  for (double* with_rows : {&sizes.x, &sizes.y, &sizes.rows}) *with_rows *= 1 + sizes.decoys;
  const bool resident = sizes.is_weight && blinding.options.weights == WeightPlacement::kResident;
  const Reuse reuse = blinding.options.reuse;
  const bool shares_activations = reuse == Reuse::kFull || reuse == Reuse::kSplit;
  const double x_sent = reuse == Reuse::kNone ? 2 : 1;
  const double w_sent = resident ? 0 : reuse == Reuse::kNone || reuse == Reuse::kSplit ? 2 : 1;
  const double dy_sent = shares_activations ? 1 : 2;
  const double w_received = resident ? 0 : 1;
  const double wire_bytes = blinding.options.wire == WirePrecision::kBFloat16 ? 2 : 4;
  const double w_bytes = sizes.is_weight ? 4 : wire_bytes;

  layer.bytes_to_worker = wire_bytes * (x_sent * sizes.x + dy_sent * sizes.y) + w_bytes * w_sent * sizes.w;
  layer.bytes_from_worker = wire_bytes * (sizes.x + sizes.y) + w_bytes * w_received * sizes.w;

  const double activations = (x_sent + 1) * sizes.x + (dy_sent + 1) * sizes.y;
  const double weights = (w_sent + w_received) * sizes.w;
  const int rounds = std::max(1, blinding.protection.row_rounds(static_cast<uint64_t>(sizes.rows)));
  const double left_keys = sizes.key_sets * (shares_activations ? 1 : 2);
  layer.seconds_in_tee =
      layer.flops / (sizes.is_convolution ? machine.tee.conv_flops_per_second : machine.tee.flops_per_second);
  const auto seconds_per_element = [&](double rows) {
    return blinding.protection.seconds_per_element(machine.tee.blinding, static_cast<uint64_t>(rows));
  };
  layer.seconds_to_blind = activations * seconds_per_element(sizes.rows) +
                           weights * seconds_per_element(sizes.weight_rows) +
                           seconds_to_verify(sizes, blinding, resident, machine) +
                           left_keys * sizes.rows * rounds * machine.tee.key_seconds_per_entry +
                           (left_keys + (resident ? 0 : 2 * sizes.key_sets)) * machine.tee.key_seconds;
  if (resident) layer.seconds_saved = sizes.w * machine.optimiser_bytes_per_parameter / machine.tee.bytes_per_second;
}

double share_of_decoys(const obfuscation::Protection& protection, int64_t images, const obfuscation::ConvTiling& cut) {
  return images == 0 ? 0
                     : static_cast<double>(offload::plan_decoys(protection.decoy_energy(), images, cut).images()) /
                           static_cast<double>(images);
}

std::string kind_of(const ConvOptions& o) { return fmt::format("conv {}x{}/{}", o.kernel, o.kernel, o.stride); }

/// Turns one observed call of two images into a plan entry at the real batch size.
LayerPlan describe(const std::string& name, const LayerCall& call, int64_t batch_size, const Blinding& blinding,
                   const MachineModel& machine) {
  const double scale = static_cast<double>(batch_size) / static_cast<double>(kProbeImages);
  LayerPlan layer;
  layer.name = name;
  OperandSizes sizes;
  sizes.x = scale * static_cast<double>(call.input.numel());
  sizes.y = scale * static_cast<double>(call.output.numel());
  sizes.w = static_cast<double>(call.operand.numel());
  sizes.plain_x = sizes.x;
  sizes.plain_y = sizes.y;
  if (const auto* conv = dynamic_cast<const Conv2dImpl*>(&call.module)) {
    const ConvOptions& o = conv->options();
    const obfuscation::ConvAxis y{call.input.size(2), o.kernel, o.stride, o.padding, o.dilation};
    const obfuscation::ConvAxis x{call.input.size(3), o.kernel, o.stride, o.padding, o.dilation};
    const auto cut = obfuscation::tile_convolution(batch_size, y, x, {o.in, o.out}, blinding.options.conv_tile);
    layer.kind = kind_of(o);
    sizes.is_convolution = true;
    layer.shape = fmt::format("{}x{}x{} -> {}x{}x{}", o.in, y.size, x.size, o.out, y.outputs(), x.outputs());
    layer.flops = kForwardAndBackward * 2 * sizes.y * sizes.w / static_cast<double>(o.out);
    sizes.x = static_cast<double>(cut.input.elements());
    sizes.y = static_cast<double>(cut.output.elements());
    sizes.rows = static_cast<double>(cut.input.rows());
    sizes.weight_rows = static_cast<double>(o.out);
    sizes.decoys = share_of_decoys(blinding.protection, batch_size, cut);
  } else if (!call.part.empty()) {
    layer.kind = "matmul";
    layer.shape = fmt::format("{}x {}x{} . {}x{}", call.input.size(0) / kProbeImages, call.input.size(1),
                              call.input.size(2), call.operand.size(1), call.operand.size(2));
    layer.flops = kForwardAndBackward * 2 * sizes.y * static_cast<double>(call.input.size(2));
    sizes.w *= scale;
    sizes.is_weight = false;
    sizes.rows = static_cast<double>(call.input.size(1));
    sizes.key_sets = scale * static_cast<double>(call.input.size(0));
    sizes.weight_rows = static_cast<double>(call.operand.size(1));
  } else {
    layer.kind = "linear";
    const int64_t in = call.operand.size(1), out = call.operand.size(0);
    layer.shape = fmt::format("{}x{} -> {}", call.input.numel() / kProbeImages / in, in, out);
    layer.flops = kForwardAndBackward * 2 * sizes.y * static_cast<double>(in);
    sizes.rows = sizes.x / static_cast<double>(in);
    sizes.weight_rows = static_cast<double>(out);
    const auto rows = static_cast<int64_t>(sizes.rows);
    sizes.decoys =
        share_of_decoys(blinding.protection, rows, obfuscation::tile_convolution(rows, {}, {}, {in, out}, 1));
  }
  add_costs(layer, sizes, blinding, machine);
  return layer;
}

void place(LayerPlan& layer, OffloadPolicy policy) {
  if (policy == OffloadPolicy::kNone) {
    layer.reason = "no workers";
  } else if (policy == OffloadPolicy::kAll) {
    layer.placement = Placement::kWorker;
    layer.reason = "offload=all";
  } else if (layer.seconds_to_blind < layer.seconds_in_tee) {
    layer.placement = Placement::kWorker;
    layer.reason =
        fmt::format("blinding costs {:.0f}% of computing", 100 * layer.seconds_to_blind / layer.seconds_in_tee);
  } else {
    layer.reason = fmt::format("blinding costs {:.1f}x computing", layer.seconds_to_blind / layer.seconds_in_tee);
  }
}

template <typename Member>
double sum_offloaded(const std::vector<LayerPlan>& layers, Member member) {
  double sum = 0;
  for (const LayerPlan& layer : layers)
    if (layer.placement == Placement::kWorker) sum += layer.*member;
  return sum;
}

}  // namespace

double Plan::total_flops() const {
  double sum = 0;
  for (const LayerPlan& layer : layers) sum += layer.flops;
  return sum;
}
double Plan::offloaded_flop_fraction() const {
  const double total = total_flops();
  return total > 0 ? sum_offloaded(layers, &LayerPlan::flops) / total : 0;
}
int64_t Plan::offloaded_layers() const {
  return std::count_if(layers.begin(), layers.end(),
                       [](const LayerPlan& layer) { return layer.placement == Placement::kWorker; });
}
double Plan::bytes_to_worker() const { return sum_offloaded(layers, &LayerPlan::bytes_to_worker); }
double Plan::bytes_from_worker() const { return sum_offloaded(layers, &LayerPlan::bytes_from_worker); }
double Plan::local_seconds() const {
  double sum = elementwise_seconds + optimiser_seconds;
  for (const LayerPlan& layer : layers) sum += layer.seconds_in_tee;
  return sum;
}
double Plan::tee_seconds() const {
  return local_seconds() - sum_offloaded(layers, &LayerPlan::seconds_in_tee) +
         sum_offloaded(layers, &LayerPlan::seconds_to_blind) - sum_offloaded(layers, &LayerPlan::seconds_saved);
}
double Plan::step_seconds(const MachineModel& machine) const {
  return tee_seconds() / machine.tee_threads +
         (bytes_to_worker() + bytes_from_worker()) / machine.link_bytes_per_second +
         sum_offloaded(layers, &LayerPlan::flops) / machine.worker_flops_per_second;
}

Plan make_plan(Model& model, const ModelOptions& options, const PlanInputs& inputs) {
  const auto& [batch_size, blinding, policy, machine] = inputs;
  const auto protection = obfuscation::make_protection(blinding);
  Plan plan;
  std::vector<bool> may_leave;
  const auto names = module_names(model);
  const bool was_training = model.is_training();
  model.eval();
  {
    const torch::NoGradGuard no_grad;
    const ScopedProbe probe([&](const LayerCall& call) {
      const double outputs = static_cast<double>(call.output.numel() * batch_size) / kProbeImages;
      if (!call.operand.defined()) return;
      std::string name = names.at(&call.module);
      if (!call.part.empty()) name += fmt::format(".{}", call.part);
      plan.layers.push_back(describe(name, call, batch_size, {blinding, *protection}, machine));
      plan.elementwise_seconds += outputs * kElementwiseBytesPerOutput / machine.tee.bytes_per_second;
      const auto* conv = dynamic_cast<const Conv2dImpl*>(&call.module);
      may_leave.push_back(conv == nullptr || conv->options().groups == 1);
    });
    const auto type = model.parameters().front().scalar_type();
    model.forward(torch::zeros({kProbeImages, options.image_channels, options.image_side, options.image_side}, type));
  }
  model.train(was_training);
  for (const auto& parameter : model.parameters()) plan.parameters += parameter.numel();
  plan.optimiser_seconds =
      static_cast<double>(plan.parameters) * machine.optimiser_bytes_per_parameter / machine.tee.bytes_per_second;

  for (size_t i = 0; i < plan.layers.size(); ++i) {
    LayerPlan& layer = plan.layers[i];
    if (i == 0)
      layer.reason = "first layer: reads raw inputs";
    else if (i + 1 == plan.layers.size())
      layer.reason = "last layer: its gradient shows labels";
    else if (!may_leave[i])
      layer.reason = "grouped convolution";
    else
      place(layer, policy);
  }
  return plan;
}

std::vector<std::shared_ptr<BilinearProduct>> apply_plan(Model& model, const Plan& plan, offload::Session& session) {
  std::vector<std::shared_ptr<BilinearProduct>> blinded;
  const auto modules = model.named_modules("", false);
  // Products of attention layers, by full name.
  std::unordered_map<std::string, std::shared_ptr<BilinearProduct>> products;
  for (const LayerPlan& layer : plan.layers) {
    if (layer.placement != Placement::kWorker) continue;
    if (layer.kind == "matmul") {
      blinded.push_back(std::make_shared<BilinearProduct>(session, layer.name));
      products[layer.name] = blinded.back();
      continue;
    }
    const auto* module = modules.find(layer.name);
    auto* target = module == nullptr ? nullptr : dynamic_cast<ProductLayer*>(module->get());
    if (target == nullptr) throw InputError(fmt::format("plan: the model has no product layer \"{}\"", layer.name));
    offload::ProductGeometry geometry{.in = target->weight.size(1), .out = target->weight.size(0)};
    if (const auto* conv = dynamic_cast<const Conv2dImpl*>(target)) {
      const ConvOptions& o = conv->options();
      geometry = {o.in, o.out, o.kernel, o.kernel, o.stride, o.padding, o.dilation};
    }
    blinded.push_back(std::make_shared<BilinearProduct>(session, layer.name, geometry));
    target->attach(blinded.back());
  }
  for (const auto& item : modules)
    if (auto* attention = dynamic_cast<AttentionImpl*>(item.value().get()))
      attention->attach_products(products[item.key() + ".scores"], products[item.key() + ".values"]);
  return blinded;
}

std::string to_table(const Plan& plan, const MachineModel& machine) {
  const TeeRates& tee = machine.tee;
  std::string out = fmt::format("{:<28} {:<12} {:<28} {:>9} {:>9} {:>9}  {:<6}  {}\n", "layer", "kind", "shape",
                                "GFLOP", "MB to", "MB from", "where", "why");
  for (const LayerPlan& layer : plan.layers)
    out += fmt::format("{:<28} {:<12} {:<28} {:>9.3f} {:>9.2f} {:>9.2f}  {:<6}  {}\n", layer.name, layer.kind,
                       layer.shape, layer.flops * 1e-9, layer.bytes_to_worker * 1e-6, layer.bytes_from_worker * 1e-6,
                       layer.placement == Placement::kWorker ? "worker" : "TEE", layer.reason);
  out += fmt::format(
      "\n{} parameters; {} of {} products offloaded, {:.1f}% of {:.1f} GFLOP a step\n"
      "to workers {:.1f} MB a step, from workers {:.1f} MB\n"
      "predicted TEE CPU time a step: {:.3f} s, wholly in the TEE {:.3f} s ({:.1f}x)\n"
      "predicted wall time a step: {:.3f} s with {} TEE threads, {:.0f} GFLOP/s of workers, {:.1f} GB/s of link\n"
      "rates of one core of the TEE: products {:.0f} and convolutions {:.0f} GFLOP/s, passes {:.1f} GB/s; ns an "
      "element: "
      "permute {:.2f}, rotate {:.2f}, each further row round {:.2f}, verify {:.2f}, key entry {:.2f}\n",
      plan.parameters, plan.offloaded_layers(), plan.layers.size(), 100 * plan.offloaded_flop_fraction(),
      plan.total_flops() * 1e-9, plan.bytes_to_worker() * 1e-6, plan.bytes_from_worker() * 1e-6, plan.tee_seconds(),
      plan.local_seconds(), plan.local_seconds() / plan.tee_seconds(), plan.step_seconds(machine), machine.tee_threads,
      machine.worker_flops_per_second * 1e-9, machine.link_bytes_per_second * 1e-9, tee.flops_per_second * 1e-9,
      tee.conv_flops_per_second * 1e-9, tee.bytes_per_second * 1e-9, tee.blinding.permute_seconds * 1e9,
      tee.blinding.rotate_seconds * 1e9, tee.blinding.row_round_seconds * 1e9, tee.verify_seconds * 1e9,
      tee.key_seconds_per_entry * 1e9);
  return out;
}

}  // namespace tempo::nn
