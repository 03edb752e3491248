#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "audit/report/html_parts.h"
#include "audit/report/svg_chart.h"
#include "audit/report/text.h"

namespace tempo::audit::html {
namespace {

std::string figure(const std::string& caption, const std::string& svg) {
  return fmt::format("<figure><figcaption>{}</figcaption><div class=\"scroll\">{}</div></figure>\n",
                     escape_html(caption), svg);
}

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

/// One line for every chance level that can be told apart at two decimals.
std::vector<ReferenceLine> chance_lines(const AuditResults& results, const std::string& layer) {
  std::vector<std::string> labels;
  std::vector<ReferenceLine> lines;
  for (const PoolingCurve& curve : results.pooling) {
    const std::string label = "chance " + format_score(curve.chance);
    if (curve.layer != layer || std::find(labels.begin(), labels.end(), label) != labels.end()) continue;
    labels.push_back(label);
    lines.push_back({label, curve.chance});
  }
  return lines;
}

std::string surrogate_chart(const AuditResults& results, const std::string& budget,
                            const std::vector<std::string>& starts) {
  BarChart chart;
  chart.title = "Accuracy of surrogate models with " + budget;
  chart.x_label = "accuracy on test images";
  chart.x_max = 1;
  chart.percent = true;
  chart.series.push_back({"accuracy", {}});
  for (const std::string& start : starts) {
    double accuracy = std::numeric_limits<double>::quiet_NaN();
    for (const SurrogateResult& surrogate : results.surrogates)
      if (surrogate.start_from == start && surrogate.budget == budget) accuracy = surrogate.accuracy;
    chart.groups.push_back(start);
    chart.series[0].values.push_back(accuracy);
    if (start == "black box" || start == "white box") chart.references.push_back({start, accuracy});
  }
  return figure(chart.title, bar_chart(chart));
}

/// Black box first, white box last, the rest between in their order.
std::vector<std::string> surrogate_starts(const AuditResults& results) {
  std::vector<std::string> starts;
  const auto add_if = [&](auto wanted) {
    for (const SurrogateResult& surrogate : results.surrogates)
      if (wanted(surrogate.start_from)) add_once(starts, surrogate.start_from);
  };
  add_if([](const std::string& start) { return start == "black box"; });
  add_if([](const std::string& start) { return start != "black box" && start != "white box"; });
  add_if([](const std::string& start) { return start == "white box"; });
  return starts;
}

}  // namespace

std::string pooling_charts(const AuditResults& results) {
  if (results.pooling.empty()) return "<p>No curve was measured.</p>\n";
  std::vector<std::string> layers;
  for (const PoolingCurve& curve : results.pooling) add_once(layers, curve.layer);
  std::string out = "<div class=\"charts\">\n";
  for (const std::string& layer : layers) {
    LineChart chart;
    chart.title = "Score over pooled steps, layer " + layer;
    chart.x_label = "training steps pooled under one key";
    chart.y_label = "score";
    chart.log_x = true;
    chart.references = chance_lines(results, layer);
    for (const PoolingCurve& curve : results.pooling)
      if (curve.layer == layer) chart.series.push_back({curve.setting, curve.steps, curve.score});
    out += figure(chart.title, line_chart(chart));
  }
  return out + "</div>\n";
}

std::string surrogate_charts(const AuditResults& results) {
  if (results.surrogates.empty()) return "";
  std::vector<std::string> budgets;
  for (const SurrogateResult& surrogate : results.surrogates) add_once(budgets, surrogate.budget);
  const std::vector<std::string> starts = surrogate_starts(results);
  std::string out = "<div class=\"charts\">\n";
  for (const std::string& budget : budgets) out += surrogate_chart(results, budget, starts);
  return out + "</div>\n";
}

std::string cost_charts(const AuditResults& results) {
  if (results.settings.empty()) return "";
  BarChart time, bytes;
  time.title = "Time inside the TEE, ms a sample";
  time.x_label = "ms a sample";
  time.series = {{"CPU time in all", {}}, {"wall time of deriving keys and blinding", {}}};
  bytes.title = "Traffic to and from the worker, kB a sample";
  bytes.x_label = "kB a sample";
  bytes.series = {{"bytes", {}}};
  for (const SettingResult& setting : results.settings) {
    time.groups.push_back(setting.name);
    bytes.groups.push_back(setting.name);
    time.series[0].values.push_back(1e3 * setting.tee_cpu_seconds_per_sample);
    time.series[1].values.push_back(1e3 * setting.blind_seconds_per_sample);
    bytes.series[0].values.push_back(setting.bytes_per_sample / 1e3);
  }
  return "<div class=\"charts\">\n" + figure(time.title, bar_chart(time)) + figure(bytes.title, bar_chart(bytes)) +
         "</div>\n";
}

std::string tampering_chart(const AuditResults& results) {
  if (results.tampering.empty()) return "<p>Not run.</p>\n";
  LineChart chart;
  chart.title = "Test accuracy of a model trained with errors";
  chart.x_label = "error added at every step, relative to the norm of each result";
  chart.y_label = "test accuracy";
  chart.log_x = true;
  Series series{"test accuracy", {}, {}};
  for (const TamperingResult& tampering : results.tampering) {
    if (tampering.relative_error <= 0) {  // has no place on a log axis
      chart.references.push_back({"without error " + format_percent(tampering.test_accuracy), tampering.test_accuracy});
      continue;
    }
    series.x.push_back(tampering.relative_error);
    series.y.push_back(tampering.test_accuracy);
  }
  chart.series.push_back(std::move(series));
  return figure(chart.title, line_chart(chart));
}

}  // namespace tempo::audit::html
