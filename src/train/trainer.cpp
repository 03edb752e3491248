#include "train/trainer.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <torch/nn/functional/loss.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/cpu_time.h"
#include "base/median.h"
#include "base/memory_use.h"
#include "nn/probe.h"
#include "tempo/error.h"
#include "train/config.h"
#include "train/run_view.h"

namespace tempo::train {
namespace {

namespace F = torch::nn::functional;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

offload::Counters operator-(const offload::Counters& a, const offload::Counters& b) {
  return {.encryptions = a.encryptions - b.encryptions,
          .rekey_encryptions = a.rekey_encryptions - b.rekey_encryptions,
          .bytes_to_workers = a.bytes_to_workers - b.bytes_to_workers,
          .bytes_from_workers = a.bytes_from_workers - b.bytes_from_workers,
          .reissued = a.reissued - b.reissued,
          .flops = a.flops - b.flops,
          .key_seconds = a.key_seconds - b.key_seconds,
          .blind_seconds = a.blind_seconds - b.blind_seconds,
          .unblind_seconds = a.unblind_seconds - b.unblind_seconds,
          .verify_seconds = a.verify_seconds - b.verify_seconds,
          .wait_seconds = a.wait_seconds - b.wait_seconds};
}

offload::Counters operator+(const offload::Counters& a, const offload::Counters& b) {
  return a - (offload::Counters{} - b);
}

void begin_pass(Deployment& deployment, const obfuscation::Pass& pass) {
  if (deployment.is_offloaded()) deployment.session->begin_pass(pass);
}

offload::Counters counters_of(Deployment& deployment) {
  return deployment.is_offloaded() ? deployment.session->totals() : offload::Counters{};
}

// Batch number under which a failed step is looked at again; no evaluation has so many batches.
constexpr uint64_t kDiagnosis = uint64_t{1} << 40;

}  // namespace

BatchTensors make_batch(const Batches& batches, int64_t index, const Dataset& dataset, ThreadPool& threads) {
  const int64_t rows = batches.rows(index);
  torch::Tensor images = torch::empty({rows, dataset.height, dataset.width, dataset.channels});
  torch::Tensor labels = torch::empty({rows}, torch::kInt64);
  batches.fill(index, images.data_ptr<float>(), labels.data_ptr<int64_t>(), &threads);
  return {images.permute({0, 3, 1, 2}), labels};
}

Evaluation evaluate_model(Deployment& deployment, const Dataset& dataset, int64_t batch_size, uint64_t number) {
  const torch::NoGradGuard no_grad;
  deployment.model->eval();
  Evaluation result;
  const Batches batches(dataset, batch_size);
  for (int64_t i = 0; i < batches.count(); ++i) {
    begin_pass(deployment, {obfuscation::Period::kEvaluation, number, static_cast<uint64_t>(i)});
    const BatchTensors batch = make_batch(batches, i, dataset, deployment.threads());
    const torch::Tensor logits = deployment.model->forward(batch.images);
    result.loss +=
        F::cross_entropy(logits, batch.labels, F::CrossEntropyFuncOptions().reduction(torch::kSum)).item<double>();
    result.accuracy += static_cast<double>(logits.argmax(1).eq(batch.labels).sum().item<int64_t>());
    result.images += batch.labels.numel();
  }
  deployment.model->train();
  result.loss /= static_cast<double>(result.images);
  result.accuracy /= static_cast<double>(result.images);
  return result;
}

Trainer::Trainer(const RunConfig& config, Deployment& deployment, const DataSplits& data, SecretKey root,
                 SecretKey master, SecretKey sealing_key, RunKeeper* keeper)
    : config_(config),
      deployment_(deployment),
      data_(data),
      root_(std::move(root)),
      master_(std::move(master)),
      sealing_key_(std::move(sealing_key)),
      keeper_(keeper),
      telemetry_(config.metrics, config.log) {
  for (const auto& item : deployment.model->named_parameters())
    if (!deployment.is_updated_there(item.key())) tee_parameters_.push_back({item.key(), item.value()});
  optimiser_ = make_optimiser(config, tee_parameters_);
  total_steps_ = config.steps > 0 ? config.steps : steps_left();
  if (!config.page.empty()) page_ = std::make_unique<page::LivePage>(config.page);
}

Trainer::~Trainer() {
  if (deployment_.is_offloaded()) deployment_.session->workers().observe(nullptr);
}

RunSummary Trainer::run(const RunHooks& hooks) {
  if (page_) {
    page::RunView view = view_of(config_);
    view.total_steps = total_steps_;
    page_->describe(std::move(view));
  }
  log_ = new_log(first_step_);
  deployment_.model->train();
  if (!hooks.quiet) {
    progress_.emplace(total_steps_, isatty(STDERR_FILENO) != 0, stderr);
    telemetry_.notes_to([this](const std::string& note) { progress_->note(note); });
    if (!config_.metrics.empty()) telemetry_.say("metrics at " + telemetry_.address());
    if (page_) telemetry_.say("page at " + page_->address());
  }
  log_start();
  if (deployment_.is_offloaded()) {
    deployment_.session->workers().observe(&telemetry_);
    remember(capture(first_step_, false));
  }

  int64_t step = first_step_;
  for (bool stopped = false; step < total_steps_ && !stopped;) {
    std::exception_ptr failure;
    try {
      stopped = advance(step, hooks);
      ++step;
    } catch (const WorkerLostError&) {
      failure = std::current_exception();
    } catch (const IntegrityError&) {
      failure = std::current_exception();
    } catch (const ProtocolError&) {
      failure = std::current_exception();
    }
    if (!failure) continue;
    stopped = !go_back(failure, step, hooks.stop);
    step = last_good_.step;
  }
  summary_.completed = step == total_steps_;
  summary_.steps = step;
  fill_summary();
  log_->flush();
  if (keeper_ == nullptr) write_summary(summary_, config_.out);
  return summary_;
}

bool Trainer::advance(int64_t step, const RunHooks& hooks) {
  const int64_t epoch = place_.epoch;
  if (!batches_ || place_.position == 0) {
    batches_.emplace(data_.train, root_, static_cast<uint64_t>(epoch), config_.batch_size, config_.augment,
                     place_.position);
    first_batch_ = step;
  }
  telemetry_.step_began(step + 1);
  const auto start = Clock::now();
  const double cpu_before = process_cpu_seconds().tee;
  const offload::Counters before = counters_of(deployment_);
  if (deployment_.is_offloaded())
    if (const std::string problem = deployment_.admit_workers(); !problem.empty() && progress_)
      progress_->note(problem);
  const BatchTensors batch = make_batch(*batches_, step - first_batch_, data_.train, deployment_.threads());
  const StepResult result = train_step(batch, step);
  const double cpu = process_cpu_seconds().tee - cpu_before, seconds = seconds_since(start);
  const offload::Counters used = counters_of(deployment_) - before;
  tally_.offload = tally_.offload + used;
  log_step(step, result, {.wall = seconds, .cpu = cpu, .offload = used}, batch.labels.numel());

  place_.position += batch.labels.numel();
  const bool is_pass_over = place_.position == data_.train.size();
  if (is_pass_over) place_ = {.epoch = epoch + 1, .position = 0};
  const bool is_last = step + 1 == total_steps_;
  const bool stops = hooks.stop != nullptr && hooks.stop->load() && !is_last;
  const bool ends_epoch = is_pass_over || is_last;
  if (ends_epoch) evaluate_and_log(step + 1, epoch);
  const bool is_due = config_.checkpoint_interval > 0 && (step + 1) % config_.checkpoint_interval == 0;
  if (ends_epoch || is_due || stops) save(step + 1, stops || is_last);
  return stops;
}

void Trainer::log_step(int64_t step, const StepResult& result, const StepCost& cost, int64_t images) {
  const auto& [seconds, cpu, offload] = cost;
  tally_.tee_seconds += cpu;
  tally_.wall_seconds += seconds;
  tally_.samples += images;
  ++tally_.steps;
  telemetry_.step_done(seconds, images);
  if (deployment_.is_offloaded())
    telemetry_.totals(counters_of(deployment_), deployment_.session->verifier().counts(),
                      deployment_.session->workers().active());
  step_seconds_.push_back(seconds);
  summary_.losses.push_back(result.loss);
  const offload::Verifier::Counts checks = new_checks();
  log_->step({.step = step + 1,
              .epoch = place_.epoch,
              .loss = result.loss,
              .learning_rate = learning_rate(config_, step, total_steps_),
              .gradient_norm = result.gradient_norm,
              .seconds = seconds,
              .tee_cpu_seconds = cpu,
              .samples_per_second = static_cast<double>(images) / seconds,
              .offload = offload,
              .integrity_checks = checks.checks,
              .integrity_failures = checks.failures,
              .workers = deployment_.is_offloaded() ? deployment_.session->workers().active() : 0,
              .resident_bytes = resident_bytes()});
  if (progress_)
    progress_->step({.step = step + 1,
                     .loss = result.loss,
                     .samples_per_second = static_cast<double>(tally_.samples) / tally_.wall_seconds,
                     .accuracy = summary_.test_accuracy,
                     .workers = deployment_.is_offloaded() ? deployment_.session->workers().active() : 0});
}

Trainer::StepResult Trainer::train_step(const BatchTensors& batch, int64_t step) {
  begin_pass(deployment_, {obfuscation::Period::kStep, static_cast<uint64_t>(step), 0});
  for (auto& p : tee_parameters_) p.tensor.mutable_grad().reset();
  StepResult result;
  {
    const torch::Tensor logits = deployment_.model->forward(batch.images);
    const torch::Tensor loss =
        F::cross_entropy(logits, batch.labels, F::CrossEntropyFuncOptions().label_smoothing(config_.label_smoothing));
    result.loss = loss.item<double>();
    if (!std::isfinite(result.loss)) stop_not_finite(batch, step);
    loss.backward();
  }
  result.gradient_norm = global_gradient_norm();
  const double scale =
      config_.clip_norm > 0 && result.gradient_norm > config_.clip_norm ? config_.clip_norm / result.gradient_norm : 1;
  const double rate = learning_rate(config_, step, total_steps_);
  for (offload::Parameter* const weight : deployment_.parameters())
    weight->step({.step = static_cast<uint64_t>(step) + 1,
                  .learning_rate = rate,
                  .momentum = config_.momentum,
                  .weight_decay = config_.weight_decay,
                  .gradient_scale = scale});
  optimiser_->step(rate, scale);
  return result;
}

double Trainer::global_gradient_norm() {
  const auto check = [this](double squared, const std::string& name) {
    if (!std::isfinite(squared))
      throw RunError(
          fmt::format("gradient of {} is not finite; the update was not made; {}: try a lower --lr or --clip-norm",
                      name, what_stands()));
    return squared;
  };
  double sum = 0;
  for (const auto& p : tee_parameters_)
    if (p.tensor.grad().defined()) {
      const double norm = p.tensor.grad().norm().item<double>();
      sum += check(norm * norm, p.name);
    }
  for (offload::Parameter* const weight : deployment_.parameters())
    if (const auto squared = weight->gradient_squared_norm()) sum += check(*squared, weight->layer() + ".weight");
  return std::sqrt(sum);
}

std::string Trainer::what_stands() const {
  return has_checkpoint_ ? "the last checkpoint stands"
                         : "there is no checkpoint yet, so start anew with another --out";
}

void Trainer::stop_not_finite(const BatchTensors& batch, int64_t step) {
  std::string first;
  {
    const torch::NoGradGuard no_grad;
    const auto names = nn::module_names(*deployment_.model);
    begin_pass(deployment_, {obfuscation::Period::kEvaluation, static_cast<uint64_t>(step), kDiagnosis});
    const nn::ScopedProbe probe([&](const nn::LayerCall& call) {
      if (first.empty() && !call.output.isfinite().all().item<bool>()) first = names.at(&call.module);
    });
    deployment_.model->forward(batch.images);
  }
  throw RunError(
      fmt::format("step {}: the loss is not finite; the first layer with a value that is not finite is {}; {}: "
                  "try a lower --lr or --clip-norm",
                  step + 1, first.empty() ? "the loss itself" : first, what_stands()));
}

void Trainer::evaluate_and_log(int64_t step, int64_t epoch) {
  const Evaluation result = evaluate_model(deployment_, data_.test, config_.batch_size, static_cast<uint64_t>(step));
  summary_.test_accuracy = result.accuracy;
  const offload::Verifier::Counts checks = new_checks();
  log_->evaluation({.step = step,
                    .epoch = epoch,
                    .accuracy = result.accuracy,
                    .loss = result.loss,
                    .integrity_checks = checks.checks,
                    .integrity_failures = checks.failures});
  telemetry_.say(fmt::format("epoch {}: test accuracy {:.2f}%", epoch + 1, 100 * result.accuracy));
}

void Trainer::fill_summary() {
  RunSummary& s = summary_;
  const offload::Counters& training = tally_.offload;
  const int64_t samples = tally_.samples, steps_run = tally_.steps;
  s.samples_per_second = tally_.wall_seconds > 0 ? static_cast<double>(samples) / tally_.wall_seconds : 0;
  s.tee_cpu_seconds_per_sample = samples > 0 ? tally_.tee_seconds / static_cast<double>(samples) : 0;
  s.reissued = static_cast<int64_t>(training.reissued);
  s.model = config_.model;
  s.workers = config_.workers;
  s.protection = deployment_.is_offloaded() ? config_.blinding.protection : "none";
  s.reuse = to_string(config_.blinding.reuse);
  s.weights = to_string(deployment_.is_offloaded() ? config_.blinding.weights : WeightPlacement::kReturned);
  s.optimizer = to_string(config_.optimizer);
  s.parameters = deployment_.plan.parameters;
  s.epochs = place_.epoch + (place_.position > 0 ? 1 : 0);
  s.batch_size = config_.batch_size;
  s.step_seconds_median = median(step_seconds_);
  s.offloaded_layers = deployment_.plan.offloaded_layers();
  s.offloaded_flop_fraction = deployment_.plan.offloaded_flop_fraction();
  s.final_train_loss = s.losses.empty() ? 0 : s.losses.back();
  const auto per = [](double total, int64_t count) { return count > 0 ? total / static_cast<double>(count) : 0; };
  s.bytes_to_workers_per_sample = per(static_cast<double>(training.bytes_to_workers), samples);
  s.bytes_from_workers_per_sample = per(static_cast<double>(training.bytes_from_workers), samples);
  if (deployment_.is_offloaded()) {
    const offload::Verifier::Counts& counts = deployment_.session->verifier().counts();
    s.integrity_checks = static_cast<int64_t>(counts.checks);
    s.integrity_failures = static_cast<int64_t>(counts.failures);
  }
  s.encryptions_per_step = per(static_cast<double>(training.encryptions), steps_run);
  s.rekey_encryptions_per_step = per(static_cast<double>(training.rekey_encryptions), steps_run);
  s.key_seconds = training.key_seconds;
  s.blind_seconds = training.blind_seconds;
  s.unblind_seconds = training.unblind_seconds;
  s.verify_seconds = training.verify_seconds;
  s.wait_seconds = training.wait_seconds;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  s.peak_resident_bytes = static_cast<double>(usage.ru_maxrss) * 1024;
}

}  // namespace tempo::train
