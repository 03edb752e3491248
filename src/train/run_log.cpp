#include "train/run_log.h"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/path.h"
#include "base/text.h"
#include "tempo/error.h"

namespace tempo::train {
namespace {

using Json = nlohmann::ordered_json;

/// Keeps the lines of steps up to `last_step`; a line that is not ours, or torn by a crash, ends what is kept.
void cut_metrics(const std::filesystem::path& file, int64_t last_step) {
  std::error_code error;
  const auto type = std::filesystem::status(file, error).type();
  if (type == std::filesystem::file_type::fifo)
    throw InputError(fmt::format("{}: is a pipe, expected a file or a link to one", file.string()));
  if (type != std::filesystem::file_type::regular) return;  // nothing there, or a device, which keeps no lines
  std::ifstream in(file);
  if (!in) return;
  std::string kept, text;
  while (std::getline(in, text)) {
    const Json line = Json::parse(text, nullptr, false);
    const bool is_ours =
        !find_non_text(text) && line.is_object() && line.contains("step") && line["step"].is_number_integer();
    if (!is_ours || line["step"].get<int64_t>() > last_step) break;
    kept += text + "\n";
  }
  in.close();
  AtomicFile out(file);
  out.write(kept);
  out.commit();
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& run, int64_t first_step)
    : path_(run / "metrics.jsonl"), events_(std::in_place, run / "tensorboard", first_step + 1) {
  cut_metrics(path_, first_step);
  file_.reset(std::fopen(path_.c_str(), "a"));
  if (!file_) fail_at(path_, "opened for appending", errno);
}

void RunLog::line(int64_t step, const std::string& text) {
  if (keeper_ != nullptr) return keeper_->line(step, text);
  if (std::fputs((text + "\n").c_str(), file_.get()) < 0) throw RunError(path_.string() + ": cannot be written");
}

void RunLog::event(const char* name, double value, int64_t step) {
  if (events_) events_->scalar(name, value, step);
}

void RunLog::step(const StepMetrics& m) {
  const Json json{{"step", m.step},
                  {"epoch", m.epoch},
                  {"loss", m.loss},
                  {"learning_rate", m.learning_rate},
                  {"gradient_norm", m.gradient_norm},
                  {"seconds", m.seconds},
                  {"tee_cpu_seconds", m.tee_cpu_seconds},
                  {"samples_per_second", m.samples_per_second}};
  line(m.step, json.dump());
  event("train/loss", m.loss, m.step);
  event("train/learning_rate", m.learning_rate, m.step);
  event("train/gradient_norm", m.gradient_norm, m.step);
  event("speed/samples_per_second", m.samples_per_second, m.step);
}

void RunLog::evaluation(int64_t step, int64_t epoch, double accuracy, double loss) {
  const Json json{{"step", step}, {"epoch", epoch}, {"test_accuracy", accuracy}, {"test_loss", loss}};
  line(step, json.dump());
  event("test/accuracy", accuracy, step);
  event("test/loss", loss, step);
  flush();
}

void RunLog::flush() {
  if (keeper_ != nullptr) return;
  if (std::fflush(file_.get()) != 0) throw RunError(path_.string() + ": cannot be written");
  events_->flush();
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
