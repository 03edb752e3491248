#include "train/run_log.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/path.h"
#include "base/text.h"
#include "tempo/error.h"

namespace tempo::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostEvents = 10'000, kMostReissuedOfAStep = 4;
constexpr size_t kMaxTextBytes = 256;

/// Keeps the lines of steps up to `last_step`, and what happened later as of that step; a line that is not ours, or
/// torn by a crash, ends what is kept. @param page gets what is kept, too.
void cut_metrics(const std::filesystem::path& file, int64_t last_step, page::LivePage* page) {
  std::error_code error;
  const auto type = std::filesystem::status(file, error).type();
  if (type == std::filesystem::file_type::fifo)
    throw InputError(fmt::format("{}: is a pipe, expected a file or a link to one", file.string()));
  if (type != std::filesystem::file_type::regular) return;  // nothing there, or a device, which keeps no lines
  std::ifstream in(file);
  if (!in) return;
  std::string kept, text;
  while (std::getline(in, text)) {
    Json line = Json::parse(text, nullptr, false);
    const bool is_ours =
        !find_non_text(text) && line.is_object() && line.contains("step") && line["step"].is_number_integer();
    if (!is_ours) break;
    if (line["step"].get<int64_t>() > last_step) {
      if (!line.contains("event")) continue;
      line["step"] = last_step;
      text = line.dump();
    }
    kept += text + "\n";
    if (page != nullptr) page->add_line(text);
  }
  in.close();
  AtomicFile out(file);
  out.write(kept);
  out.commit();
}

/// Whole microseconds: lines stay short.
double rounded(double seconds) { return std::round(1e6 * seconds) / 1e6; }

std::string to_json(int64_t step, const RunEvent& event) {
  Json json{{"step", step}, {"event", event.event}, {"during", event.during}};
  const auto text = [&](const char* name, const std::string& value) {
    if (!value.empty()) json[name] = value.substr(0, kMaxTextBytes);
  };
  text("worker", event.worker);
  text("operation", event.operation);
  text("reason", event.reason);
  if (event.to_step) json["to_step"] = *event.to_step;
  if (event.workers) json["workers"] = *event.workers;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);  // a worker's own words may be no UTF-8
}

}  // namespace

RunLog::RunLog(std::filesystem::path run, int64_t first_step, page::LivePage* page)
    : page_(page), run_(std::move(run)), path_(run_ / "metrics.jsonl") {
  open(first_step);
}

void RunLog::open(int64_t first_step) {
  scalars_.emplace(run_ / "tensorboard", first_step + 1);
  cut_metrics(path_, first_step, page_);
  file_.reset(std::fopen(path_.c_str(), "a"));
  if (!file_) fail_at(path_, "opened for appending", errno);
}

void RunLog::line(int64_t step, const std::string& text) {
  if (page_ != nullptr) page_->add_line(text);
  if (keeper_ != nullptr) return keeper_->line(step, text);
  if (std::fputs((text + "\n").c_str(), file_.get()) < 0) throw RunError(path_.string() + ": cannot be written");
}

void RunLog::scalar(const char* name, double value, int64_t step) {
  if (scalars_) scalars_->scalar(name, value, step);
}

void RunLog::step(const StepMetrics& m) {
  const Json json{{"step", m.step},
                  {"epoch", m.epoch},
                  {"loss", m.loss},
                  {"learning_rate", m.learning_rate},
                  {"gradient_norm", m.gradient_norm},
                  {"seconds", m.seconds},
                  {"tee_cpu_seconds", m.tee_cpu_seconds},
                  {"samples_per_second", m.samples_per_second},
                  {"key_seconds", rounded(m.offload.key_seconds)},
                  {"blind_seconds", rounded(m.offload.blind_seconds)},
                  {"unblind_seconds", rounded(m.offload.unblind_seconds)},
                  {"verify_seconds", rounded(m.offload.verify_seconds)},
                  {"wait_seconds", rounded(m.offload.wait_seconds)},
                  {"bytes_to_workers", m.offload.bytes_to_workers},
                  {"bytes_from_workers", m.offload.bytes_from_workers},
                  {"reissued", m.offload.reissued},
                  {"integrity_checks", m.integrity_checks},
                  {"integrity_failures", m.integrity_failures},
                  {"workers", m.workers},
                  {"resident_bytes", m.resident_bytes}};
  line(m.step, json.dump());
  scalar("train/loss", m.loss, m.step);
  scalar("train/learning_rate", m.learning_rate, m.step);
  scalar("train/gradient_norm", m.gradient_norm, m.step);
  scalar("speed/samples_per_second", m.samples_per_second, m.step);
}

void RunLog::evaluation(const EvaluationMetrics& m) {
  const Json json{{"step", m.step},
                  {"epoch", m.epoch},
                  {"test_accuracy", m.accuracy},
                  {"test_loss", m.loss},
                  {"integrity_checks", m.integrity_checks},
                  {"integrity_failures", m.integrity_failures}};
  line(m.step, json.dump());
  scalar("test/accuracy", m.accuracy, m.step);
  scalar("test/loss", m.loss, m.step);
  flush();
}

void RunLog::happened(int64_t step, const RunEvent& event) {
  if (event.event == "part_reissued") {
    if (event.during != reissued_during_) reissued_ = 0;
    reissued_during_ = event.during;
    if (++reissued_ > kMostReissuedOfAStep) return;
  }
  if (++events_ > kMostEvents + 1) return;
  const RunEvent last{.event = "events_not_written", .during = event.during};
  const RunEvent& written = events_ > kMostEvents ? last : event;
  if (keeper_ != nullptr) unsaved_events_.emplace_back(step, written);
  line(step, to_json(step, written));
}

void RunLog::went_back(int64_t step) {
  if (keeper_ != nullptr) {
    keeper_->went_back(step);
    for (const auto& [then, event] : unsaved_events_)
      if (then > step) keeper_->line(step, to_json(step, event));
    std::erase_if(unsaved_events_, [&](const auto& one) { return one.first > step; });
    return;
  }
  file_.reset();
  scalars_.reset();
  if (page_ != nullptr) page_->went_back(step);
  page::LivePage* const page = page_;
  page_ = nullptr;  // it has the lines that are kept
  open(step);
  page_ = page;
}

void RunLog::flush() {
  if (keeper_ != nullptr) return;
  if (std::fflush(file_.get()) != 0) throw RunError(path_.string() + ": cannot be written");
  scalars_->flush();
}

std::string to_json(const RunSummary& s) {
  const Json json{{"model", s.model},
                  {"protection", s.protection},
                  {"reuse", s.reuse},
                  {"weights", s.weights},
                  {"workers", s.workers},
                  {"optimizer", s.optimizer},
                  {"parameters", s.parameters},
                  {"steps", s.steps},
                  {"epochs", s.epochs},
                  {"batch_size", s.batch_size},
                  {"completed", s.completed},
                  {"samples_per_second", s.samples_per_second},
                  {"step_seconds_median", s.step_seconds_median},
                  {"tee_cpu_seconds_per_sample", s.tee_cpu_seconds_per_sample},
                  {"bytes_to_workers_per_sample", s.bytes_to_workers_per_sample},
                  {"bytes_from_workers_per_sample", s.bytes_from_workers_per_sample},
                  {"offloaded_layers", s.offloaded_layers},
                  {"encryptions_per_step", s.encryptions_per_step},
                  {"rekey_encryptions_per_step", s.rekey_encryptions_per_step},
                  {"offloaded_flop_fraction", s.offloaded_flop_fraction},
                  {"integrity", {{"checks", s.integrity_checks}, {"failures", s.integrity_failures}}},
                  {"reissued", s.reissued},
                  {"returns", s.returns},
                  {"peak_resident_bytes", s.peak_resident_bytes},
                  {"wall_seconds",
                   {{"keys", s.key_seconds},
                    {"blind", s.blind_seconds},
                    {"unblind", s.unblind_seconds},
                    {"verify", s.verify_seconds},
                    {"wait_for_workers", s.wait_seconds}}},
                  {"final_train_loss", s.final_train_loss},
                  {"test_accuracy", s.test_accuracy ? Json(*s.test_accuracy) : Json()}};
  return json.dump(2) + "\n";
}

void write_summary(const RunSummary& summary, const std::filesystem::path& run) {
  AtomicFile out(run / "summary.json");
  out.write(to_json(summary));
  out.commit();
}

std::string to_text(const RunSummary& s) {
  const std::string accuracy = s.test_accuracy ? fmt::format("{:.2f}%", 100 * *s.test_accuracy) : "not measured";
  std::string text = fmt::format("{} on {}: {} steps, train loss {:.4f}, test accuracy {}\n", s.model,
                                 s.workers == "local" ? "local (wholly in the TEE)" : s.workers, s.steps,
                                 s.final_train_loss, accuracy);
  text += fmt::format("{:.0f} samples/s, {:.4f} s a step, {:.5f} TEE CPU seconds a sample\n", s.samples_per_second,
                      s.step_seconds_median, s.tee_cpu_seconds_per_sample);
  if (s.offloaded_layers > 0)
    text += fmt::format(
        "{} layers offloaded under {} (weights {}, reuse {}): {:.1f}% of the FLOPs, {:.0f} encryptions a step, "
        "{:.1f} kB to and {:.1f} kB from workers a sample\n",
        s.offloaded_layers, s.protection, s.weights, s.reuse, 100 * s.offloaded_flop_fraction, s.encryptions_per_step,
        s.bytes_to_workers_per_sample * 1e-3, s.bytes_from_workers_per_sample * 1e-3);
  return text;
}

}  // namespace tempo::train
