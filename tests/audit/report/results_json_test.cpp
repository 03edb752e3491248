#include "audit/report/results_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "audit/report/sample_results.h"
#include "tempo/error.h"

namespace tempo::audit {
namespace results_json_test {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::sample_results;

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return at == std::string::npos ? text : text.replace(at, what.size(), by);
}

/// The message of the refusal; fails the test if there is none or if it is longer than a line.
std::string refusal(const std::string& text) {
  try {
    results_from_json(text, "audit.json");
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("audit.json"), HasSubstr("expected"), Not(HasSubstr("\n"))));
    return error.what();
  }
  ADD_FAILURE() << "was accepted";
  return "";
}

TEST(ResultsJson, RoundTripIsExact) {
  AuditResults results = sample_results();
  results.findings[3].score = 0.1 + 0.2;  // no short decimal
  results.findings[4].steps_to_win = std::numeric_limits<double>::denorm_min();
  results.victim.train_images = std::numeric_limits<int64_t>::max();
  results.machine = "\"quotes\", \\, tab\t, newline\n and \xc3\xa9";
  const std::string text = to_json(results);
  const AuditResults back = results_from_json(text, "audit.json");
  EXPECT_EQ(to_json(back), text);
  ASSERT_EQ(back.findings.size(), results.findings.size());
  EXPECT_EQ(back.findings[3].score, results.findings[3].score);
  EXPECT_EQ(back.findings[4].steps_to_win, results.findings[4].steps_to_win);
  EXPECT_FALSE(back.findings[0].steps_to_win.has_value());
  EXPECT_EQ(back.victim.train_images, results.victim.train_images);
  EXPECT_EQ(back.victim.layers, results.victim.layers);
  EXPECT_EQ(back.machine, results.machine);
  EXPECT_TRUE(back.settings[5].is_default);
  EXPECT_EQ(back.pooling.back().steps, results.pooling.back().steps);
  EXPECT_EQ(back.surrogates[1].accuracy, results.surrogates[1].accuracy);
  EXPECT_EQ(back.information[0].inner_key_bits, results.information[0].inner_key_bits);
  EXPECT_EQ(back.information[0].rows_mixed, results.information[0].rows_mixed);
  EXPECT_EQ(back.information[0].channels_mixed, results.information[0].channels_mixed);
  EXPECT_EQ(back.tampering[1].relative_error, results.tampering[1].relative_error);
  EXPECT_FALSE(back.tampering[1].is_refused);
  EXPECT_TRUE(back.tampering[2].is_refused);
}

TEST(ResultsJson, EmptyResultsRoundTrip) {
  const std::string text = to_json(AuditResults{});
  EXPECT_EQ(to_json(results_from_json(text, "audit.json")), text);
}

TEST(ResultsJson, NumbersThatAreNotFiniteBecomeAbsent) {
  AuditResults results = sample_results();
  results.findings[0].score = std::numeric_limits<double>::quiet_NaN();
  results.findings[0].steps_to_win = std::numeric_limits<double>::infinity();
  results.pooling[0].score[0] = -std::numeric_limits<double>::infinity();
  const AuditResults back = results_from_json(to_json(results), "audit.json");
  EXPECT_EQ(back.findings[0].score, 0);
  EXPECT_FALSE(back.findings[0].steps_to_win.has_value());
  EXPECT_EQ(back.pooling[0].score[0], 0);
}

TEST(ResultsJson, BytesThatAreNotUtf8AreReplaced) {
  AuditResults results;
  results.machine = "bad \xff byte";
  EXPECT_EQ(results_from_json(to_json(results), "audit.json").machine, "bad \xef\xbf\xbd byte");
}

TEST(ResultsJson, UnknownFieldsAreIgnored) {
  const std::string text = to_json(AuditResults{});
  EXPECT_EQ(to_json(results_from_json(replaced(text, "\"date\"", "\"later\": [1], \"date\""), "audit.json")), text);
}

TEST(ResultsJson, TextThatIsNotJsonIsRefused) {
  EXPECT_THAT(refusal(""), HasSubstr("is not JSON at byte"));
  EXPECT_THAT(refusal("not\njson"), HasSubstr("is not JSON at byte 2 of 8"));
  const std::string text = to_json(sample_results());
  EXPECT_THAT(refusal(text.substr(0, text.size() / 2)), HasSubstr("is not JSON"));
  EXPECT_THAT(refusal(R"({"format": 1e999})"), HasSubstr("beyond double precision"));
  EXPECT_THAT(refusal(std::string(100000, '[')), HasSubstr("is not JSON"));
}

TEST(ResultsJson, JsonOfAnotherFormatIsRefused) {
  EXPECT_THAT(refusal("[]"), HasSubstr("is array, expected an object"));
  EXPECT_THAT(refusal("{}"), HasSubstr("has no \"format\""));
  EXPECT_THAT(refusal(R"({"format": "some\nthing"})"),
              HasSubstr("format is \"some?thing\", expected \"tempo-audit-results/1\""));
}

TEST(ResultsJson, WrongFieldsAreRefusedWithTheirPlace) {
  const std::string text = to_json(sample_results());
  EXPECT_THAT(refusal(replaced(text, "\"is_default\": false", "\"is_default\": 0")),
              HasSubstr("audit.json: settings[0].is_default: is number, expected true or false"));
  EXPECT_THAT(refusal(replaced(text, "\"train_images\": 50000", "\"train_images\": 5e4")),
              HasSubstr("victim.train_images: is number, expected a whole number"));
  EXPECT_THAT(refusal(replaced(text, "\"train_images\": 50000", "\"train_images\": 18446744073709551615")),
              HasSubstr("expected below 2^63"));
  EXPECT_THAT(refusal(replaced(text, "\"attack\": 1", "\"attack\": 99999999999")), HasSubstr("findings[0].attack"));
  EXPECT_THAT(refusal(replaced(text, "\"score\": 1.0", "\"score\": \"1\"")), HasSubstr("is string, expected a number"));
  EXPECT_THAT(refusal(replaced(text, "\"version\"", "\"verison\"")), HasSubstr("audit.json: has no \"version\""));
  EXPECT_THAT(refusal(replaced(text, "\"layer1.conv1\"", "7")), HasSubstr("victim.layers[0]: is number"));
  EXPECT_THAT(refusal(replaced(text, "\"layers\": [", "\"layers\": {}, \"l\": [")), HasSubstr("expected an array"));
}

TEST(ResultsJson, ResultsThatContradictThemselvesAreRefused) {
  AuditResults results = sample_results();
  results.settings[1].name = results.settings[0].name;
  EXPECT_THAT(refusal(to_json(results)), HasSubstr("\"none\" comes twice"));
  results = sample_results();
  results.settings[0].is_default = true;
  EXPECT_THAT(refusal(to_json(results)), HasSubstr("2 settings are marked as the default"));
  results = sample_results();
  results.findings[7].start = "guessed";
  EXPECT_THAT(refusal(to_json(results)), HasSubstr("findings[7].start: is \"guessed\", expected secret or public"));
  results = sample_results();
  results.pooling[2].score.pop_back();
  EXPECT_THAT(refusal(to_json(results)), HasSubstr("pooling[2]: has 5 steps and 4 scores"));
}

}  // namespace results_json_test
}  // namespace tempo::audit
