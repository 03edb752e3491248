#include "audit/report/html.h"

#include <fmt/format.h>

#include <algorithm>

#include "audit/report/html_parts.h"
#include "audit/report/text.h"
#include "audit/report/verdict.h"
#include "page/document.h"
#include "page/parts.h"

namespace tempo::audit {
namespace {

std::string section(std::string_view title, const std::string& content) {
  return fmt::format("<section><h2>{}</h2>\n{}</section>\n", title, content);
}

std::string paragraph(std::string_view text) { return fmt::format("<p>{}</p>\n", text); }

std::string list(const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  std::string out = "<ul>\n";
  for (const std::string& line : lines) out += fmt::format("<li>{}</li>\n", escape_html(line));
  return out + "</ul>\n";
}

std::string verdict_box(const AuditResults& results, std::span<const Attack> attacks) {
  const Verdict said = verdict(results, attacks);
  const std::string_view look = said.kind == Verdict::Kind::kAtChance      ? "verdict good"
                                : said.kind == Verdict::Kind::kNotAtChance ? "verdict bad"
                                                                           : "verdict";
  return fmt::format("<div class=\"{}\"><p class=\"headline\">{}</p>\n{}{}</div>\n", look, escape_html(said.headline),
                     list(said.reasons), list(said.remarks));
}

std::string measured(const AuditResults& results) {
  const VictimResult& victim = results.victim;
  std::string layers;
  for (const std::string& layer : victim.layers) layers += (layers.empty() ? "" : ", ") + layer;
  std::string out = paragraph(
      "A model was trained with Tempo while everything that the worker holds was recorded. Then every attack below was "
      "tried on the recording, and its score was set beside the score of guessing.");
  out += "<dl>\n";
  const auto entry = [&out](std::string_view name, const std::string& value) {
    out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, value);
  };
  entry("Victim", escape_html(fmt::format("{} on {}, test accuracy {}", victim.model, victim.data,
                                          format_percent(victim.test_accuracy))));
  entry("Trained", fmt::format("{} of batch {} over {}; {}", count_of(victim.steps_trained, "step"),
                               format_count(victim.batch_size), count_of(victim.train_images, "image"),
                               count_of(victim.test_images, "test image")));
  entry("Recorded", fmt::format("{} of {}: {}", count_of(victim.steps_recorded, "step"),
                                count_of(static_cast<int64_t>(victim.layers.size()), "layer"), escape_html(layers)));
  entry("Date", escape_html(results.date));
  entry("Program", "tempo " + escape_html(results.version));
  entry("Machine", escape_html(results.machine));
  entry("Command", fmt::format("<code class=\"command\">{}</code>", escape_html(results.command)));
  return out + "</dl>\n";
}

std::string heat_maps(const AuditResults& results, std::span<const Attack> attacks) {
  std::string is_default;
  for (const SettingResult& setting : results.settings)
    if (setting.is_default) is_default = setting.name;
  return section("Attacks where the initial weights are secret",
                 html::heat_map(table_of_start(results, attacks, "secret"), is_default)) +
         section("Attacks where the initial weights are public",
                 paragraph("As in fine-tuning from a published model: the attacker knows where training started.") +
                     html::heat_map(table_of_start(results, attacks, "public"), is_default)) +
         section("Layers that Tempo never offloads",
                 paragraph("The first and the last layer stay in the trusted environment. Here they were blinded all "
                           "the same, to show why: these scores are no leak of Tempo.") +
                     html::heat_map(table_of_counterfactuals(results, attacks), is_default));
}

std::string attack_descriptions(std::span<const Attack> attacks) {
  std::string out;
  for (const Attack& attack : attacks) {
    out += fmt::format(
        "<details class=\"attack\"><summary>{} {}</summary><p>{}</p><p><b>Needs besides the worker's view:</b> {}</p>"
        "<p><b>Source:</b> {}</p></details>\n",
        attack.number, escape_html(attack.name), escape_html(attack.question), escape_html(attack.needs),
        escape_html(attack.source));
  }
  return out.empty() ? paragraph("No descriptions at hand.") : out;
}

std::string pooling(const AuditResults& results) {
  return paragraph(
             "Some attacks gather what they see over many steps for which a key lives. The curves show measured "
             "scores; a curve that stays on the dashed line has learnt nothing yet.") +
         html::pooling_charts(results) + "<h3>Steps under one key until an attack is expected to win</h3>\n" +
         paragraph(
             "Fewest over all attacks that pool steps, and both starts; beyond the recording it is an extrapolation.") +
         html::steps_table(results);
}

std::string surrogates(const AuditResults& results) {
  return paragraph(
             "What recovered weights are good for: a model built from them, fine-tuned with a few labelled "
             "examples. Black box is the same without anything recovered, white box with every weight.") +
         html::surrogate_charts(results) + html::surrogates_table(results) +
         paragraph(
             "Fidelity: share of test images on which both models say the same. Attack transfer: share of images "
             "altered to fool the surrogate that fool the victim, too. Membership AUC: 0.5 is guessing who was in "
             "the training data.");
}

}  // namespace

std::string to_html(const AuditResults& results, std::span<const Attack> attacks) {
  std::string body = verdict_box(results, attacks);
  body += section("What was measured", measured(results));
  body += section("Settings and what they cost", html::settings_table(results) + html::cost_charts(results));
  body += section("How to read the tables of attacks", std::string(html::kHowToRead));
  body += heat_maps(results, attacks);
  body += section("The attacks", attack_descriptions(attacks));
  body += section("Pooling many steps", pooling(results));
  body += section("Surrogate models", surrogates(results));
  body += section("Information: for reporting only, not a pass mark",
                  paragraph("Key bits count keys, not the work of an attack. Mutual information is an estimate between "
                            "one blinded and one plain entry at the same place: near zero does not mean safe.") +
                      html::information_table(results));
  body +=
      section("Tampering",
              paragraph("A worker that adds an error of a given size, relative to the norm of each result, at every "
                        "step.") +
                  html::tampering_chart(results) + html::tampering_table(results));
  body += section("What this does not cover", std::string(html::kLimits));
  body +=
      section("Every measurement", fmt::format("<details class=\"all\"><summary>{}</summary>\n{}</details>\n",
                                               count_of(static_cast<int64_t>(results.findings.size()), "measurement"),
                                               html::every_finding(results, attacks)));
  return page::document({.title = "What an untrusted worker could learn: an audit of Tempo",
                         .body = body,
                         .data = {},
                         .scripts = {},
                         .styles = {page::page_css(), html::audit_css()},
                         .has_style_attributes = true})
      .html;
}

}  // namespace tempo::audit
