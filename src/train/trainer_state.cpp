// What a run can go on from: checkpoints, and going back to the last one when workers are lost.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "tempo/error.h"
#include "train/config.h"
#include "train/trainer.h"

namespace tempo::train {
namespace {

/// Going back so often without a step further than before: it would go on for ever.
constexpr int kMostReturns = 20;

/// With memory of its own.
Checkpoint copy_of(const Checkpoint& from) {
  Checkpoint copy;
  copy.model = from.model;
  copy.step = from.step;
  copy.config = from.config;
  copy.class_names = from.class_names;
  for (const auto& [name, tensor] : from.tensors) copy.tensors[name] = tensor.clone();
  copy.numbers = from.numbers;
  copy.root = from.root.duplicate();
  copy.master = from.master.duplicate();
  return copy;
}

}  // namespace

void Trainer::remember(const Checkpoint& checkpoint) { last_good_ = copy_of(checkpoint); }

bool Trainer::go_back(const std::exception_ptr& error, int64_t step, const std::atomic<bool>* stop) {
  if (!deployment_.is_offloaded()) std::rethrow_exception(error);
  returns_in_a_row_ = step > furthest_failure_ ? 0 : returns_in_a_row_ + 1;
  furthest_failure_ = std::max(furthest_failure_, step);
  offload::WorkerPool& workers = deployment_.session->workers();
  const bool is_alone = workers.active() == 0;
  if (is_alone && progress_)
    progress_->note(
        fmt::format("step {}: no worker is left; waiting for one up to {} s", step + 1, config_.worker_wait));
  const bool is_stuck = returns_in_a_row_ > kMostReturns;
  const bool has_workers = !is_stuck && workers.wait_for_workers(std::chrono::seconds(config_.worker_wait), stop);
  if (stop != nullptr && stop->load()) {
    store(last_good_);
    return false;
  }
  if (!has_workers) stop_without_workers(error, is_stuck);
  telemetry_.went_back(last_good_.step);
  go_on_from(last_good_);
  ++summary_.returns;
  return true;
}

void Trainer::stop_without_workers(const std::exception_ptr& error, bool is_stuck) {
  store(last_good_);
  try {
    std::rethrow_exception(error);
  } catch (const WorkerLostError& lost) {
    const std::string why = is_stuck ? fmt::format("and so {} times in a row", returns_in_a_row_)
                                     : fmt::format("no worker came within {} s", config_.worker_wait);
    throw RunError(fmt::format("{}; {}; the checkpoint of step {} stands: go on with tempo train --resume {}",
                               lost.what(), why, last_good_.step, config_.out));
  }
}

void Trainer::go_on_from(const Checkpoint& checkpoint) {
  // Steps are done once more: under keys of their own, because operands may differ from those that workers hold.
  master_ = SecretKey::random();
  deployment_.session->restart(master_.duplicate());
  for (offload::Parameter* const weight : deployment_.parameters()) weight->forget();
  restore_model(*deployment_.model, checkpoint, "the last checkpoint");
  restore_optimiser(checkpoint);
  restore_resident(checkpoint, false);
  place_ = place_of(checkpoint);
  batches_.reset();
  log_->went_back(checkpoint.step);
  summary_.losses.resize(static_cast<size_t>(checkpoint.step - first_step_));
}

Checkpoint Trainer::capture(int64_t step, bool stopping) {
  Checkpoint checkpoint;
  checkpoint.model = deployment_.options;
  checkpoint.step = step;
  checkpoint.config = to_toml(config_);
  for (const auto& name : data_.train.class_names)
    checkpoint.class_names += (checkpoint.class_names.empty() ? "" : "\n") + name;
  checkpoint.root = root_.duplicate();
  checkpoint.master = master_.duplicate();
  checkpoint.numbers[kCleanStop] = stopping ? 1 : 0;
  checkpoint.numbers[kEpoch] = place_.epoch;
  checkpoint.numbers[kPosition] = place_.position;
  checkpoint.numbers["optimiser.steps"] = optimiser_->steps();
  for (const auto& [name, tensor] : optimiser_->state()) checkpoint.tensors["optimiser." + name] = tensor;
  for (const auto& item : deployment_.model->named_parameters()) {
    auto* layer = deployment_.layer_of(item.key());
    torch::Tensor weight = item.value(), velocity = torch::empty_like(weight);
    if (layer == nullptr || !nn::fetch_resident(*layer, weight, velocity)) continue;
    checkpoint.tensors["optimiser.velocity." + item.key()] = velocity;
    const auto state = layer->parameter()->save();
    const std::string prefix = "resident." + layer->layer();
    const auto to_tensor = [](const contract::Buffer& buffer) {
      return torch::from_blob(buffer.data(), buffer.spec().shape, torch::kFloat32).clone();
    };
    checkpoint.tensors[prefix + ".weight"] = to_tensor(state->weight);
    checkpoint.tensors[prefix + ".velocity"] = to_tensor(state->velocity);
    checkpoint.numbers[prefix + ".epoch"] = static_cast<int64_t>(state->epoch);
  }
  for (const auto& [name, tensor] : state_of(*deployment_.model)) checkpoint.tensors["model." + name] = tensor;
  return checkpoint;
}

Trainer::Place Trainer::place_of(const Checkpoint& checkpoint) const {
  const auto epoch = checkpoint.numbers.find(kEpoch), position = checkpoint.numbers.find(kPosition);
  Place place;
  if (epoch != checkpoint.numbers.end() && position != checkpoint.numbers.end()) {
    place = {.epoch = epoch->second, .position = position->second};
  } else {
    RunConfig made_under;
    apply_settings(made_under, parse_settings(checkpoint.config, "resume"), "resume: ");
    const int64_t per_epoch = Batches(data_.train, made_under.batch_size).count();
    place.epoch = checkpoint.step / per_epoch;
    if (const int64_t batches = checkpoint.step % per_epoch; batches > 0)
      place.position = batches * made_under.batch_size;
  }
  // Other data may have fewer images than were seen.
  return place.position < data_.train.size() ? place : Place{.epoch = place.epoch + 1, .position = 0};
}

int64_t Trainer::steps_left() const {
  if (place_.epoch >= config_.epochs) return 0;
  const auto steps = [&](int64_t images) { return (images - 1) / config_.batch_size + 1; };
  const int64_t images = data_.train.size();
  return steps(images - place_.position) + (config_.epochs - place_.epoch - 1) * steps(images);
}

void Trainer::store(const Checkpoint& checkpoint) {
  if (keeper_ == nullptr) {
    save_checkpoint(checkpoint, checkpoint_path(config_.out), sealing_key_);
    has_checkpoint_ = true;
    return;
  }
  const RunKeeper::Place place = keeper_->next(checkpoint.step);
  save_checkpoint(checkpoint, place.file, *place.key);
  keeper_->saved(checkpoint.step, checkpoint.step >= total_steps_);
  has_checkpoint_ = true;
}

std::unique_ptr<RunLog> Trainer::new_log(int64_t first_step) {
  if (keeper_ != nullptr) return std::make_unique<RunLog>(*keeper_);
  return std::make_unique<RunLog>(config_.out, first_step, page_.get());
}

void Trainer::save(int64_t step, bool stopping) {
  log_->flush();  // metrics.jsonl must never lag behind what a resume goes on from
  const Checkpoint checkpoint = capture(step, stopping);
  for (const auto& [name, tensor] : checkpoint.tensors)
    if (tensor.is_floating_point() && !tensor.isfinite().all().item<bool>())
      throw RunError(fmt::format("step {}: {} is not finite; nothing was saved; {}: try a lower --lr or --clip-norm",
                                 step, name, what_stands()));
  store(checkpoint);
  telemetry_.saved(step);
  log_->saved();
  if (deployment_.is_offloaded()) remember(checkpoint);
}

void Trainer::log_start() {
  telemetry_.step_began(first_step_ + 1);
  telemetry_.events_to([this](int64_t step, const RunEvent& event) { log_->happened(step, event); });
  std::string names;
  size_t active = 0;
  if (deployment_.is_offloaded())
    for (const offload::Member& member : deployment_.session->workers().members())
      if (member.is_active()) {
        names += (names.empty() ? "" : ", ") + member.uri;
        ++active;
      }
  telemetry_.began(active, names);
}

offload::Verifier::Counts Trainer::new_checks() {
  if (!deployment_.is_offloaded()) return {};
  const offload::Verifier::Counts now = deployment_.session->verifier().counts(), before = checks_told_;
  checks_told_ = now;
  return {.checks = now.checks - before.checks, .failures = now.failures - before.failures};
}

void Trainer::restore(const Checkpoint& checkpoint, bool same_keys) {
  const torch::NoGradGuard no_grad;
  has_checkpoint_ = true;
  first_step_ = checkpoint.step;
  place_ = place_of(checkpoint);
  total_steps_ = config_.steps > 0 ? config_.steps : first_step_ + steps_left();
  if (config_.steps > 0 && first_step_ >= total_steps_)
    throw InputError(fmt::format("resume: the run has done {} steps, expected fewer than the {} asked for", first_step_,
                                 total_steps_));
  if (first_step_ >= total_steps_)
    throw InputError(fmt::format("resume: the run has done {} epochs in {} steps, expected fewer than the {} asked for",
                                 place_.epoch, first_step_, config_.epochs));
  restore_optimiser(checkpoint);
  restore_resident(checkpoint, same_keys);
}

void Trainer::restore_optimiser(const Checkpoint& checkpoint) {
  const torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : optimiser_->state()) {
    const auto found = checkpoint.tensors.find("optimiser." + name);
    if (found == checkpoint.tensors.end() || found->second.sizes() != tensor.sizes())
      throw InputError(
          fmt::format("resume: the checkpoint has no optimiser state \"{}\", expected that of --optimizer {}", name,
                      to_string(config_.optimizer)));
    torch::Tensor target = tensor;
    target.copy_(found->second);
  }
  if (const auto steps = checkpoint.numbers.find("optimiser.steps"); steps != checkpoint.numbers.end())
    optimiser_->set_steps(steps->second);
}

void Trainer::restore_resident(const Checkpoint& checkpoint, bool same_keys) {
  for (const auto& item : deployment_.model->named_parameters()) {
    if (!deployment_.is_updated_there(item.key())) continue;
    auto* layer = deployment_.layer_of(item.key());
    const std::string prefix = "resident." + layer->layer();
    const auto weight = checkpoint.tensors.find(prefix + ".weight");
    const auto velocity = checkpoint.tensors.find(prefix + ".velocity");
    const auto epoch = checkpoint.numbers.find(prefix + ".epoch");
    if (same_keys && weight != checkpoint.tensors.end() && velocity != checkpoint.tensors.end() &&
        epoch != checkpoint.numbers.end()) {
      // The very bits that were on the worker: going on is exact.
      const auto to_buffer = [](torch::Tensor tensor) {
        return contract::Buffer({.type = contract::ElementType::kFloat32, .shape = tensor.sizes().vec()},
                                {static_cast<std::byte*>(tensor.data_ptr()), [tensor](std::byte*) {}});
      };
      layer->parameter()->restore({.epoch = static_cast<uint64_t>(epoch->second),
                                   .weight = to_buffer(weight->second),
                                   .velocity = to_buffer(velocity->second)});
      continue;
    }
    const auto plain = checkpoint.tensors.find("optimiser.velocity." + item.key());
    const bool was_never_sent = plain == checkpoint.tensors.end() && checkpoint.step == 0;
    if (was_never_sent) continue;  // it starts when it is first used
    if (plain == checkpoint.tensors.end() || plain->second.sizes() != item.value().sizes())
      throw InputError(
          fmt::format("resume: the checkpoint has no velocity of {}, expected --optimizer sgd", item.key()));
    nn::start_resident(*layer, item.value(), plain->second, static_cast<uint64_t>(checkpoint.step));
  }
}

}  // namespace tempo::train
